/**
 * Opens connections and holds them until a line arrives on stdin:
 *
 *     deno run --allow-net hold_sockets.ts 400 SEED 127.0.0.1:3478 [127.0.0.1:3480 ...]
 *
 * They come from addresses of 127.1.0.0/16, so that no limit per source stops them, and go to the targets in turn. A
 * third send nothing, a third half a request, a third garbage.
 *
 * @module
 */

import { parseTransportAddress } from "../../../lib/net/address.ts";
import type { TcpConnection } from "../../../lib/net/network.ts";
import { systemNetwork } from "../../../lib/net/system.ts";
import { seededRandom } from "../random.ts";

const [count, seed, ...names] = Deno.args;
const targets = names.map((name) => parseTransportAddress(name));
const random = seededRandom(Number(seed));
const connections: TcpConnection[] = [];
for (let i = 0; i < Number(count); i++) {
  const local = { ip: `127.1.${1 + Math.floor(random() * 250)}.${1 + i % 250}`, port: 0 };
  try {
    const connection = await systemNetwork.connectTcp(targets[i % targets.length]!, { local });
    connections.push(connection);
    if (i % 3 === 1) await connection.write(new TextEncoder().encode("GET /topics/1 HTTP/1.1\r\n"));
    if (i % 3 === 2) await connection.write(crypto.getRandomValues(new Uint8Array(32)));
  } catch {
    // refused or reset: the others go on
  }
}
print({ held: connections.length });
await Deno.stdin.read(new Uint8Array(1));
for (const connection of connections) connection.close();
print({ closed: connections.length });

function print(value: object): void {
  Deno.stdout.writeSync(new TextEncoder().encode(`${JSON.stringify(value)}\n`));
}
