// deno-lint-ignore-file no-console
/**
 * A rendezvous with ten thousand clients, and the same on npm's `ws`: memory for each client that waits for messages on a
 * topic of its own, how long the next ones take to join, and how many messages pass through. The server is a process of
 * its own, and all clients are one other; they speak bare frames, the same ones to both servers.
 *
 *     deno run -A bench/rendezvous_bench.ts [--clients 10000] [--servers ours,ws] [--rounds 5]
 *
 * Prints a line of JSON for each server: KiB for each client, once its garbage is collected; milliseconds from the SYN of a
 * client to the answer to its subscription, while the others are connected; and messages a second, also for each second of
 * the server's processor time, medians of all rounds. Linux.
 *
 * @module
 */

import { parseArgs } from "@std/cli/parse-args";
import { writeAll } from "../lib/base/reader.ts";
import { systemNetwork } from "../lib/net/system.ts";
import { serveRendezvous } from "../lib/signal/rendezvous/server.ts";
import { encodeWebSocketFrame } from "../lib/signal/websocket/frame.ts";
import { encodeUpgradeRequest } from "../lib/signal/websocket/handshake.ts";
import { cpuSeconds } from "./cpu_seconds.ts";
import { median } from "./median.ts";

const given = parseArgs(Deno.args, {
  string: ["clients", "servers", "rounds"],
  default: { clients: "10000", servers: "ours,ws", rounds: "5" },
});

/** Serves until stdin ends; each line on it asks for the memory. */
async function serve(): Promise<void> {
  const many = 1e9;
  await using server = await serveRendezvous({
    network: systemNetwork,
    local: { ip: "127.0.0.1", port: 0 },
    limits: {
      maxConnections: 20_000,
      reservedShare: 0,
      maxConnectionsPerSource: 20_000,
      sourceBurst: many,
      sourcePerSecond: many,
      topicBurst: many,
      topicMessagesPerSecond: many,
    },
  });
  console.log(server.url);
  for await (const _line of Deno.stdin.readable) {
    for (let i = 0; i < 3; i++) {
      (globalThis as { gc?: () => void }).gc?.();
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
    console.log(Deno.memoryUsage().rss);
  }
}

/** A server under load. */
interface Server {
  readonly pid: number;
  readonly port: number;
  memory(): Promise<number>;
  end(): Promise<void>;
}

async function start(kind: string): Promise<Server> {
  const flags = ["--v8-flags=--expose-gc", ...kind === "ws" ? ["--config", WS_CONFIG] : []];
  const program = kind === "ws" ? WS_SERVER : import.meta.filename!;
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", ...flags, program, "serve"],
    stdin: "piped",
    stdout: "piped",
  }).spawn();
  const lines = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  const stdin = child.stdin.getWriter();
  const url = new URL((await lines.read()).value!.trim());
  return {
    pid: child.pid,
    port: Number(url.port),
    memory: async () => {
      await stdin.write(new TextEncoder().encode("\n"));
      return Number((await lines.read()).value);
    },
    end: async () => {
      child.kill("SIGKILL");
      await child.status;
      await lines.cancel();
      await stdin.abort().catch(() => {}); // the process has gone
    },
  };
}

/** A client that has subscribed to a topic. */
interface Client {
  readonly connection: Deno.Conn;
  readonly topic: Uint8Array<ArrayBuffer>;
}

async function join(port: number): Promise<Client> {
  const connection = await Deno.connect({ hostname: "127.0.0.1", port });
  const topic = crypto.getRandomValues(new Uint8Array(16));
  const key = "dGhlIHNhbXBsZSBub25jZQ==";
  await writeAll(connection, encodeUpgradeRequest(`127.0.0.1:${port}`, "/topics/1", key));
  let response = "";
  while (!response.endsWith("\r\n\r\n")) {
    response += new TextDecoder().decode(await readSome(connection));
  }
  if (!response.startsWith("HTTP/1.1 101 ")) throw new Error(response.split("\r\n")[0]);
  await writeAll(connection, encodeWebSocketFrame("binary", Uint8Array.of(1, ...topic), MASK));
  const answer = await readSome(connection);
  if (answer.length !== 19 || answer[2] !== 1) throw new Error("the subscription was refused");
  return { connection, topic };
}

async function readSome(connection: Deno.Conn): Promise<Uint8Array> {
  const buffer = new Uint8Array(1024);
  const length = await connection.read(buffer);
  if (length === null) throw new Error("the server has gone");
  return buffer.subarray(0, length);
}

async function fill(port: number, count: number): Promise<Client[]> {
  const clients: Client[] = [];
  while (clients.length < count) {
    const more = Math.min(JOINS_AT_ONCE, count - clients.length);
    clients.push(...await Promise.all(Array.from({ length: more }, () => join(port))));
  }
  return clients;
}

/** One after another, so that what is measured is not the queue of those that join. */
async function joinTimes(port: number, count: number): Promise<number[]> {
  const times: number[] = [];
  for (let i = 0; i < count; i++) {
    const startedMs = performance.now();
    const { connection } = await join(port);
    times.push(performance.now() - startedMs);
    connection.close();
  }
  return times.sort((a, b) => a - b);
}

/** Pairs of clients: one publishes some messages, and goes on once the other has received them. */
async function messageRates(
  { pid }: Server,
  clients: readonly Client[],
): Promise<{ perSecond: number; perCpuSecond: number }> {
  const startedCpu = cpuSeconds(pid);
  const startedMs = performance.now();
  const untilMs = startedMs + ROUND_MS;
  const counts = await Promise.all(Array.from({ length: PAIRS }, async (_, i) => {
    const publisher = clients[2 * i]!.connection;
    const { connection: subscriber, topic } = clients[2 * i + 1]!;
    const message = Uint8Array.of(3, ...topic, ...new Uint8Array(MESSAGE_BYTES));
    const frame = encodeWebSocketFrame("binary", message, MASK);
    const batch = new Uint8Array(BATCH * frame.length);
    for (let j = 0; j < BATCH; j++) batch.set(frame, j * frame.length);
    const expected = BATCH * encodeWebSocketFrame("binary", message).length;
    const buffer = new Uint8Array(expected);
    let count = 0;
    while (performance.now() < untilMs) {
      await writeAll(publisher, batch);
      for (let received = 0; received < expected;) received += await subscriber.read(buffer) ?? NaN;
      count += BATCH;
    }
    return count;
  }));
  const total = counts.reduce((sum, each) => sum + each, 0);
  const seconds = (performance.now() - startedMs) / 1000;
  return { perSecond: total / seconds, perCpuSecond: total / (cpuSeconds(pid) - startedCpu) };
}

async function measure(kind: string, clientCount: number, rounds: number): Promise<object> {
  const server = await start(kind);
  const before = await server.memory();
  const clients = await fill(server.port, clientCount);
  const kibEach = (await server.memory() - before) / clientCount / 1024;
  const joins = await joinTimes(server.port, JOINS);
  const rates = [];
  for (let i = 0; i < rounds; i++) rates.push(await messageRates(server, clients));
  await server.end(); // before its clients, whose ports would be taken for a minute
  for (const { connection } of clients) connection.close();
  const joinMs = (share: number) => Number(joins[Math.floor(joins.length * share)]!.toFixed(2));
  return {
    server: kind,
    clients: clientCount,
    kibEach: Number(kibEach.toFixed(1)),
    joinMs: { median: joinMs(0.5), p99: joinMs(0.99) },
    messagesPerSecond: Math.round(median(rates.map((each) => each.perSecond))),
    messagesPerCpuSecond: Math.round(median(rates.map((each) => each.perCpuSecond))),
  };
}

async function main(): Promise<void> {
  for (const kind of `${given.servers}`.split(",")) {
    console.log(JSON.stringify(await measure(kind, Number(given.clients), Number(given.rounds))));
  }
  Deno.exit(); // connections that are still closing
}

const MASK = Uint8Array.of(1, 2, 3, 4);
const [WS_SERVER, WS_CONFIG] = ["npm_ws/server.ts", "npm_ws/deno.json"]
  .map((path) => new URL(path, import.meta.url).pathname) as [string, string];
const JOINS_AT_ONCE = 20;
const JOINS = 2000;
const PAIRS = 100;
const BATCH = 16;
const MESSAGE_BYTES = 200;
const ROUND_MS = 2000;

if (given._[0] === "serve") await serve();
else await main();
