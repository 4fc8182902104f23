/**
 * A rendezvous that confirms every subscription, and then sends without a pause: `pings`, or `messages` under the first topic
 * that the client subscribed to. Says so when that has gone on for two seconds.
 *
 *     deno run --allow-net hostile_rendezvous.ts pings
 *
 * @module
 */

import { delay } from "@std/async/delay";
import { concat } from "../../../lib/base/bytes.ts";
import { BufferedReader, writeAll } from "../../../lib/base/reader.ts";
import type { TcpConnection } from "../../../lib/net/network.ts";
import { systemNetwork } from "../../../lib/net/system.ts";
import { readHead } from "../../../lib/signal/websocket/connection.ts";
import { decodeWebSocketFrame, encodeWebSocketFrame } from "../../../lib/signal/websocket/frame.ts";
import {
  encodeUpgradeResponse,
  judgeUpgradeRequest,
} from "../../../lib/signal/websocket/handshake.ts";

const SUBSCRIBE = 1;
const PUBLISH = 3;

const [kind] = Deno.args;
const listener = await systemNetwork.listenTcp({ ip: "127.0.0.1", port: 0 });
print({ url: `ws://127.0.0.1:${listener.local.port}` });
while (true) attack(await listener.accept()).catch(() => {}); // the client has gone

async function attack(connection: TcpConnection): Promise<void> {
  const reader = new BufferedReader(connection, { initialLength: 65_536 });
  const request = judgeUpgradeRequest(await readHead(connection, reader));
  if (request.kind !== "upgrade") throw new Error("Cannot attack: not a WebSocket");
  await writeAll(connection, encodeUpgradeResponse(request.key));
  let topic: Uint8Array | undefined;
  const confirming = (async () => {
    while (true) {
      const decoded = decodeWebSocketFrame(reader.unread, 65_536);
      if (decoded.kind !== "frame") {
        if (!await reader.fill()) return;
        continue;
      }
      reader.take(decoded.byteLength);
      const { opcode, payload } = decoded.frame;
      if (opcode !== "binary" || payload[0] !== SUBSCRIBE) continue;
      await writeAll(connection, encodeWebSocketFrame("binary", payload));
      if (topic !== undefined) continue;
      topic = payload.slice(1);
      flood(connection, topic).catch(() => {}); // the client has gone
      setTimeout(() => print({ isFlooding: true }), 2000);
    }
  })();
  await confirming;
}

async function flood(connection: TcpConnection, topic: Uint8Array): Promise<void> {
  const message = concat(Uint8Array.of(PUBLISH), topic, new Uint8Array(64));
  const frame = kind === "pings"
    ? encodeWebSocketFrame("ping", new Uint8Array())
    : encodeWebSocketFrame("binary", message);
  const frames = concat(...Array.from({ length: 200 }, () => frame));
  while (true) {
    await writeAll(connection, frames);
    await delay(0); // its timer has its turn
  }
}

function print(value: object): void {
  Deno.stdout.writeSync(new TextEncoder().encode(`${JSON.stringify(value)}\n`));
}
