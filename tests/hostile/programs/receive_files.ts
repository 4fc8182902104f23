/**
 * Receives files from a port of this machine into a folder, and prints its progress.
 *
 *     deno run -A receive_files.ts PORT FOLDER ID
 *
 * @module
 */

import { systemNetwork } from "../../../lib/net/system.ts";
import { receiveFiles } from "../../../lib/transfer/mod.ts";
import { peakMemoryBytes, print } from "./report.ts";

/** Often enough to be killed at any moment. */
const REPORT_MS = 1;

const [port, folder, id] = Deno.args as [string, string, string];
let reportedAtMs = -Infinity;
const result = await receiveFiles(
  ({ signal }) => systemNetwork.connectTcp({ ip: "127.0.0.1", port: Number(port) }, { signal }),
  folder,
  {
    id,
    onOffer: ({ isResumed, files }) => {
      print({ event: "offer", isResumed, files });
      return true;
    },
    onProgress: ({ bytes, resumedBytes }) => {
      const nowMs = performance.now();
      if (nowMs - reportedAtMs < REPORT_MS) return;
      reportedAtMs = nowMs;
      print({ event: "progress", bytes, resumedBytes });
    },
    onBreak: ({ message }) => print({ event: "broken", message }),
  },
);
print({ event: "finished", ...result, peakBytes: peakMemoryBytes() });
