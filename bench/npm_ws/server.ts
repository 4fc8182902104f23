// deno-lint-ignore-file no-console
/**
 * Topics as our rendezvous has them, without its limits, on npm's `ws`: for `../rendezvous_bench.ts`. It prints its URL,
 * and for each line on stdin its memory.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { type RawData, type WebSocket, WebSocketServer } from "ws";

const subscribers = new Map<string, Set<WebSocket>>();
const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: false });

server.on("connection", (socket: WebSocket) => {
  const topics = new Set<string>();
  socket.on("message", (data: RawData) => {
    const message = data as Buffer;
    const topic = message.toString("latin1", 1, 17);
    if (message[0] === 1) {
      topics.add(topic);
      const members = subscribers.get(topic) ?? new Set();
      subscribers.set(topic, members.add(socket));
      socket.send(message);
    } else {
      for (const each of subscribers.get(topic) ?? []) if (each !== socket) each.send(message);
    }
  });
  socket.on("close", () => {
    for (const topic of topics) {
      const members = subscribers.get(topic);
      members?.delete(socket);
      if (members?.size === 0) subscribers.delete(topic);
    }
  });
});

server.on("listening", () => {
  console.log(`ws://127.0.0.1:${(server.address() as { port: number }).port}`);
});

for await (const _line of Deno.stdin.readable) {
  for (let i = 0; i < 3; i++) {
    (globalThis as { gc?: () => void }).gc?.();
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  console.log(Deno.memoryUsage().rss);
}
