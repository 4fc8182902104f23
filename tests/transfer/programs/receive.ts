/**
 * Receives files from a port of this machine into a folder. Kills itself after a number of bytes.
 *
 *     deno run -A receive.ts PORT FOLDER BYTES
 *
 * @module
 */

import { systemNetwork } from "../../../lib/net/system.ts";
import { receiveFiles } from "../../../lib/transfer/receiver.ts";

const [port, folder, killAfter] = Deno.args as [string, string, string];
const result = await receiveFiles(
  ({ signal }) => systemNetwork.connectTcp({ ip: "127.0.0.1", port: Number(port) }, { signal }),
  folder,
  {
    onOffer: () => true,
    onProgress: ({ bytes }) => {
      if (bytes >= Number(killAfter)) Deno.kill(Deno.pid, "SIGKILL");
    },
  },
);
await Deno.stdout.write(new TextEncoder().encode(JSON.stringify(result)));
