/**
 * Sends files to whoever connects to a port of this machine.
 *
 *     deno run -A send_files.ts PORT PATH...
 *
 * @module
 */

import { systemNetwork } from "../../../lib/net/system.ts";
import { sendFiles } from "../../../lib/transfer/mod.ts";
import { peakMemoryBytes, print } from "./report.ts";

const [port, ...paths] = Deno.args as [string, ...string[]];
using listener = await systemNetwork.listenTcp({ ip: "127.0.0.1", port: Number(port) });
print({ event: "listening" });
const { skipped, refused, ...result } = await sendFiles(
  ({ signal }) => listener.accept({ signal }),
  paths,
);
print({ event: "finished", ...result, skipped, refused, peakBytes: peakMemoryBytes() });
