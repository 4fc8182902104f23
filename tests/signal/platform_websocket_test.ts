// This library's WebSocket and the platform's, on either side.

import { assertEquals, assertRejects } from "@std/assert";
import { RefusedError } from "../../lib/base/errors.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import { type RendezvousServer, serveRendezvous } from "../../lib/signal/rendezvous/server.ts";
import { openWebSocketChannel } from "../../lib/signal/rendezvous/channel.ts";
import { dialWebSocket } from "../../lib/signal/websocket/connection.ts";

const LOOPBACK = { ip: "127.0.0.1", port: 0 };

function serve(): Promise<RendezvousServer> {
  return serveRendezvous({ network: systemNetwork, local: LOOPBACK });
}

Deno.test("the platform's client and a channel talk through our server", async () => {
  await using server = await serve();
  await using channel = await openWebSocketChannel(server.url, "kitchen");
  const client = new WebSocket(`${server.url}/kitchen`);
  client.binaryType = "arraybuffer";
  const received: unknown[] = [];
  const echoed = new Promise<void>((resolve) => {
    client.onmessage = ({ data }) => {
      received.push(data);
      if (typeof data === "string") return;
      client.send(data);
      resolve();
    };
  });
  await channel.peerPresent();
  for (const length of [0, 125, 4096]) {
    await channel.send(new Uint8Array(length).fill(7));
    assertEquals(await channel.receive(), new Uint8Array(length).fill(7));
  }
  await echoed;
  assertEquals(received[0], '{"peer":"present"}');
  const closed = new Promise<CloseEvent>((resolve) => client.onclose = resolve);
  client.close(1000);
  assertEquals((await closed).code, 1000);
  await channel.peerAbsent();
});

Deno.test("the platform's client learns why our server closes", async () => {
  await using server = await serve();
  const client = new WebSocket(`${server.url}/kitchen`);
  const closed = new Promise<CloseEvent>((resolve) => client.onclose = resolve);
  await new Promise((resolve) => client.onopen = resolve);
  client.send(new Uint8Array(4097));
  const { code, reason } = await closed;
  assertEquals([code, reason], [1009, "message too long"]);
});

Deno.test("a plain HTTP request gets an answer from our server", async () => {
  await using server = await serve();
  const response = await fetch(server.url.replace("ws:", "http:"));
  assertEquals([response.status, await response.text()], [426, "This is a WebSocket\n"]);
});

Deno.test("our client talks to the platform's server", async () => {
  const controller = new AbortController();
  const server = Deno.serve({
    hostname: "127.0.0.1",
    port: 0,
    signal: controller.signal,
    onListen() {},
    handler(request) {
      if (!request.url.endsWith("/echo")) return new Response("no", { status: 404 });
      const { socket, response } = Deno.upgradeWebSocket(request);
      socket.binaryType = "arraybuffer";
      socket.onmessage = ({ data }) => socket.send(data);
      return response;
    },
  });
  const url = new URL(`ws://127.0.0.1:${server.addr.port}/echo`);
  const limits = { maxMessageBytes: 100_000, maxQueuedBytes: 200_000 };
  const socket = await dialWebSocket(url, { network: systemNetwork, limits });
  for (const length of [0, 125, 126, 65_535, 65_536]) {
    const data = new Uint8Array(length).fill(7);
    socket.send("binary", data);
    assertEquals(await socket.receive(), { kind: "binary", data });
  }
  socket.send("text", new TextEncoder().encode("grüezi"));
  assertEquals(await socket.receive(), { kind: "text", text: "grüezi" });
  socket.send("ping", new Uint8Array([1, 2]));
  assertEquals(await socket.receive(), { kind: "pong", data: new Uint8Array([1, 2]) });
  socket.close(1000, "bye");
  const answer = await socket.receive();
  assertEquals([answer.kind, answer.kind === "close" && answer.code], ["close", 1000]);
  await socket.finish();
  const error = await assertRejects(
    () => dialWebSocket(new URL("/no", url), { network: systemNetwork, limits }),
    RefusedError,
  );
  assertEquals(error.code, 404);
  controller.abort();
  await server.finished;
});
