/**
 * Uses a rendezvous as peers do that wait for others, until a line arrives on stdin:
 *
 *     deno run --allow-net ordinary_clients.ts 127.0.0.1:3480 CLIENTS
 *
 * Each client subscribes to three topics, as a peer that listens does, and gets a message now and then. Four clients share
 * an address of 127.4.0.0/16.
 *
 * @module
 */

import { delay } from "@std/async/delay";
import { toBase64url } from "../../../lib/base/bytes.ts";
import type { Network } from "../../../lib/net/network.ts";
import { systemNetwork } from "../../../lib/net/system.ts";
import { encodeTopicMessage } from "../../../lib/signal/rendezvous/message.ts";
import {
  dialWebSocket,
  type WebSocketConnection,
} from "../../../lib/signal/websocket/connection.ts";

const [target, count] = Deno.args;
const url = new URL(`ws://${target}/topics/1`);
const clients = await Promise.all(Array.from({ length: Number(count) }, (_, i) => open(i)));
print({ connected: clients.length });
await Deno.stdin.read(new Uint8Array(1));
for (const { socket } of clients) socket.closeAndLeave(1000);
await delay(500); // they say goodbye
print({ left: clients.length });
Deno.exit(0);

async function open(i: number) {
  await delay(5 * i); // not all at the same moment
  const local = { ip: `127.4.${Math.floor(i / 1000)}.${1 + Math.floor(i % 1000 / 4)}`, port: 0 };
  const network: Network = {
    ...systemNetwork,
    connectTcp: (to, options) => systemNetwork.connectTcp(to, { ...options, local }),
  };
  const limits = { maxMessageBytes: 8192, maxQueuedBytes: 65_536 };
  const socket = await dialWebSocket(url, { network, limits });
  const topics = Array.from({ length: 3 }, () => newTopic());
  for (const topic of topics) {
    socket.send("binary", encodeTopicMessage({ kind: "subscribe", topic }));
  }
  receive(socket).catch(() => {}); // it is closed
  setInterval(() => {
    const message = crypto.getRandomValues(new Uint8Array(300));
    socket.send("binary", encodeTopicMessage({ kind: "publish", topic: topics[0]!, message }));
  }, 2000);
  return { socket };
}

async function receive(socket: WebSocketConnection): Promise<void> {
  for (;;) {
    const message = await socket.receive();
    if (message.kind === "ping") socket.send("pong", message.data);
    if (message.kind === "close") return;
  }
}

function newTopic(): string {
  return toBase64url(crypto.getRandomValues(new Uint8Array(16)));
}

function print(value: object): void {
  Deno.stdout.writeSync(new TextEncoder().encode(`${JSON.stringify(value)}\n`));
}
