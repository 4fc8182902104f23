// deno-lint-ignore-file no-console
/**
 * Whether a pair of a busy relay stalls, and where its bytes stand while it does. A hundred pairs send as fast as they can
 * through the relay of one server; for each that receives nothing for a second, it prints what the kernel has queued on the way
 * (`ss`). Linux.
 *
 *     deno run -A bench/relay_stall.ts [pairs] [seconds]
 *     SERVER_EVENT_INTERVAL=1 deno run -A bench/relay_stall.ts
 *
 * The clients run with `DENO_TOKIO_EVENT_INTERVAL=1`, so that only the server can be the reason (`event_loop_stall.ts`). Prints
 * one line of JSON at the end.
 *
 * @module
 */

import { delay } from "@std/async/delay";
import { writeAll } from "../lib/base/reader.ts";
import type { TcpConnection } from "../lib/net/network.ts";
import { systemNetwork as network } from "../lib/net/system.ts";
import { RELAY_PATH, RELAY_TOKEN_BYTES } from "../lib/signal/rendezvous/message.ts";
import { serveRendezvous } from "../lib/signal/rendezvous/server.ts";
import { newHandshakeReader, readHead } from "../lib/signal/websocket/connection.ts";
import { encodeWebSocketFrame } from "../lib/signal/websocket/frame.ts";
import { encodeUpgradeRequest } from "../lib/signal/websocket/handshake.ts";

interface Pair {
  readonly sender: TcpConnection;
  readonly receiver: TcpConnection;
  received: number;
  receivedMs: number;
  longestMs: number;
  isReported: boolean;
}

async function serve(): Promise<void> {
  const limits = {
    maxRelays: 1000,
    maxRelaysPerSource: 1000,
    maxConnectionsPerSource: 2000,
    relayBytesPerSecond: Infinity,
    allRelaysBytesPerSecond: Infinity,
    sourceBurst: 1e9,
    sourcePerSecond: 1e9,
  };
  await using server = await serveRendezvous({
    network,
    local: { ip: "127.0.0.1", port: 0 },
    limits,
  });
  console.log(server.local.port);
  await server.finished;
}

async function main(count: number, seconds: number): Promise<void> {
  const server = start("serve", Deno.env.get("SERVER_EVENT_INTERVAL") ?? "61", "piped");
  const { value } = await server.stdout.getReader().read();
  const port = new TextDecoder().decode(value).trim();
  const clients = start("clients", "1", "inherit", [port, `${count}`, `${seconds}`]);
  await clients.status;
  server.kill("SIGKILL");
  await server.status;
}

function start(
  part: string,
  interval: string,
  stdout: "piped" | "inherit",
  args: string[] = [],
): Deno.ChildProcess {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", import.meta.filename!, part, ...args],
    env: { DENO_TOKIO_EVENT_INTERVAL: interval },
    stdout,
  }).spawn();
}

async function runClients(port: number, count: number, seconds: number): Promise<void> {
  const pairs: Pair[] = [];
  for (let i = 0; i < count; i++) pairs.push(await openPair(port));
  const untilMs = performance.now() + seconds * 1000;
  for (const pair of pairs) {
    pair.receivedMs = performance.now();
    send(pair, untilMs);
    receive(pair);
  }
  for (let nowMs; (nowMs = performance.now()) < untilMs;) {
    for (const pair of pairs) if (nowMs - pair.receivedMs > STALL_MS) await report(pair);
    await delay(250);
  }
  const counts = pairs.map(({ received }) => received);
  const mean = counts.reduce((sum, each) => sum + each, 0) / count;
  console.log(JSON.stringify({
    pairs: count,
    stalled: pairs.filter(({ isReported }) => isReported).length,
    longestPauseMs: Math.round(Math.max(...pairs.map(({ longestMs }) => longestMs))),
    slowest: Number((Math.min(...counts) / mean).toFixed(2)),
    fastest: Number((Math.max(...counts) / mean).toFixed(2)),
    totalMBs: Math.round(mean * count / seconds / 1e6),
  }));
  Deno.exit();
}

async function openPair(port: number): Promise<Pair> {
  const token = crypto.getRandomValues(new Uint8Array(RELAY_TOKEN_BYTES));
  const [sender, receiver] = [await join(port, token), await join(port, token)];
  return { sender, receiver, received: 0, receivedMs: 0, longestMs: 0, isReported: false };
}

async function join(port: number, token: Uint8Array): Promise<TcpConnection> {
  const connection = await network.connectTcp({ ip: "127.0.0.1", port });
  const key = "dGhlIHNhbXBsZSBub25jZQ==";
  await writeAll(connection, encodeUpgradeRequest("127.0.0.1", RELAY_PATH, key));
  await readHead(connection, newHandshakeReader(connection));
  await writeAll(connection, encodeWebSocketFrame("binary", token, MASK));
  return connection;
}

/** Lets the receivers of this process have their turn: what the system takes at once takes no time. */
async function send({ sender }: Pair, untilMs: number): Promise<void> {
  for (let i = 1; performance.now() < untilMs; i++) {
    await writeAll(sender, FRAME);
    if (i % 16 === 0) await delay(0);
  }
}

async function receive(pair: Pair): Promise<void> {
  const buffer = new Uint8Array(65_536);
  for (;;) {
    pair.received += await pair.receiver.read(buffer) ?? 0;
    const nowMs = performance.now();
    pair.longestMs = Math.max(pair.longestMs, nowMs - pair.receivedMs);
    pair.receivedMs = nowMs;
  }
}

async function report(pair: Pair): Promise<void> {
  if (pair.isReported) return;
  pair.isReported = true;
  const [a, b] = [pair.sender.local.port, pair.receiver.local.port];
  const queues = {
    sender: await queuesOf("sport", a),
    serverReceives: await queuesOf("dport", a),
    serverSends: await queuesOf("dport", b),
    receiver: await queuesOf("sport", b),
  };
  console.log(JSON.stringify({ stalled: `${a} to ${b}`, received: pair.received, ...queues }));
}

/** What the kernel holds for one socket. */
async function queuesOf(end: "sport" | "dport", port: number): Promise<string> {
  const { stdout } = await new Deno.Command("ss", { args: ["-tHn", end, "=", `:${port}`] })
    .output();
  const [, receiveBytes, sendBytes] = new TextDecoder().decode(stdout).trim().split(/\s+/);
  return `${receiveBytes} bytes to be read, ${sendBytes} to be sent`;
}

const MASK = Uint8Array.of(1, 2, 3, 4);
const FRAME = encodeWebSocketFrame("binary", new Uint8Array(16_384), MASK);
const STALL_MS = 1000;

const [first = "100", second = "8", ...rest] = Deno.args;
if (first === "serve") await serve();
else if (first === "clients") await runClients(Number(second), Number(rest[0]), Number(rest[1]));
else await main(Number(first), Number(second));
