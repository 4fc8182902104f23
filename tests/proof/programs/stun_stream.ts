/**
 * Sends Binding requests over TCP without a pause, until a line arrives on stdin:
 *
 *     deno run --allow-net stun_stream.ts 127.0.0.1:3478 CONNECTIONS
 *
 * All connections come from one address, 127.3.0.1, and the answers are read.
 *
 * @module
 */

import { delay } from "@std/async/delay";
import { parseTransportAddress } from "../../../lib/net/address.ts";
import { systemNetwork } from "../../../lib/net/system.ts";
import { BINDING, encodeMessage } from "../../../lib/stun/message.ts";

const [target, count] = Deno.args;
const to = parseTransportAddress(target!);
const request = encodeMessage({
  class: "request",
  method: BINDING,
  transactionId: new Uint8Array(12),
  attributes: [],
});
const requests = new Uint8Array(50 * request.length);
for (let i = 0; i < 50; i++) requests.set(request, i * request.length);

let isOver = false;
const streams = Array.from({ length: Number(count) }, stream);
await delay(500);
print({ started: streams.length });
await Deno.stdin.read(new Uint8Array(1));
isOver = true;
print({ answered: (await Promise.all(streams)).reduce((sum, each) => sum + each, 0) });
Deno.exit(0); // the system closes what is left

/** How many bytes it has received. */
async function stream(): Promise<number> {
  let received = 0;
  while (!isOver) {
    try {
      using connection = await systemNetwork.connectTcp(to, {
        local: { ip: "127.3.0.1", port: 0 },
      });
      (async () => {
        const buffer = new Uint8Array(65_536);
        for (let length; (length = await connection.read(buffer)) !== null;) received += length;
      })().catch(() => {}); // it is closed
      while (!isOver) {
        await Promise.race([connection.write(requests), delay(100)]);
        await delay(0);
      }
    } catch {
      await delay(10); // it was closed: another one goes on
    }
  }
  return received;
}

function print(value: object): void {
  Deno.stdout.writeSync(new TextEncoder().encode(`${JSON.stringify(value)}\n`));
}
