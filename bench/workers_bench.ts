// deno-lint-ignore-file no-console
/**
 * What `serve --workers 2` costs beside `serve` alone: relayed bytes, upgrades, and messages that pass from one client of
 * topics to another, each for a second of the server's processor time, all its threads together. The clients are another
 * process, which is not counted, and come from many addresses of loopback.
 *
 *     deno run -A bench/workers_bench.ts [--rounds 5] [--workers 1,2]
 *
 * Prints a line of JSON for each number of workers, medians of all rounds, which take turns, and the ratios of the last
 * and the first one. Linux.
 *
 * @module
 */

import { parseArgs } from "@std/cli/parse-args";
import { writeAll } from "../lib/base/reader.ts";
import type { TcpConnection } from "../lib/net/network.ts";
import { systemNetwork as network } from "../lib/net/system.ts";
import { RELAY_PATH, RELAY_TOKEN_BYTES, TOPICS_PATH } from "../lib/signal/rendezvous/message.ts";
import { encodeWebSocketFrame } from "../lib/signal/websocket/frame.ts";
import { encodeUpgradeRequest } from "../lib/signal/websocket/handshake.ts";
import { cpuSeconds } from "./cpu_seconds.ts";
import { median } from "./median.ts";

const given = parseArgs(Deno.args, {
  string: ["rounds", "workers"],
  default: { rounds: "5", workers: "1,2" },
});

/** For a second of the server's processor time. */
interface Rates {
  readonly relayedMB: number;
  readonly upgrades: number;
  readonly messages: number;
}

interface Server {
  readonly pid: number;
  readonly port: number;
  end(): Promise<void>;
}

async function start(workers: string): Promise<Server> {
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "-A", new URL("../cli.ts", import.meta.url).pathname, "serve", "--json"],
      ...["--port", "0", "--alternate-port", "0", "--rendezvous-port", "0", "--workers", workers],
      ...["--max-relays", "1000", "--max-relays-per-source", "1000"],
      ...["--relay-rate", "1000000000000", "--relay-rate-total", "1000000000000"],
      ...["--max-connections", "10000", "--max-connections-per-source", "10000"],
    ],
    stdout: "piped",
  }).spawn();
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  const { rendezvous } = JSON.parse((await reader.read()).value!);
  return {
    pid: child.pid,
    port: Number(new URL(rendezvous).port),
    end: async () => {
      child.kill("SIGKILL");
      await child.status;
      await reader.cancel();
    },
  };
}

async function measure(server: Server): Promise<Rates> {
  return {
    relayedMB: await relayedMB(server),
    upgrades: await upgrades(server),
    messages: await messages(server),
  };
}

async function relayedMB({ pid, port }: Server): Promise<number> {
  const pairs = await Promise.all(Array.from({ length: PAIRS }, async () => {
    const token = crypto.getRandomValues(new Uint8Array(RELAY_TOKEN_BYTES));
    const frame = encodeWebSocketFrame("binary", token, MASK);
    const open = async () => {
      const connection = await upgraded(port, RELAY_PATH);
      await writeAll(connection, frame);
      return connection;
    };
    return [await open(), await open()] as const;
  }));
  for (const [sender, receiver] of pairs) {
    await Promise.all([readSome(sender), readSome(receiver)]); // the other one is there
  }
  const before = cpuSeconds(pid);
  const untilMs = performance.now() + ROUND_MS;
  const counts = await Promise.all(pairs.map(async ([sender, receiver]) => {
    const sending = (async () => {
      while (performance.now() < untilMs) await writeAll(sender, RELAYED);
      await sender.closeWrite();
    })();
    const buffer = new Uint8Array(65_536);
    let count = 0;
    while (performance.now() < untilMs) count += await receiver.read(buffer) ?? 0;
    receiver.close();
    await sending.catch(() => {}); // the other end may have gone first
    sender.close();
    return count;
  }));
  const total = counts.reduce((sum, each) => sum + each, 0);
  return total / 1e6 / (cpuSeconds(pid) - before);
}

async function upgrades({ pid, port }: Server): Promise<number> {
  const before = cpuSeconds(pid);
  const untilMs = performance.now() + ROUND_MS;
  const counts = await Promise.all(Array.from({ length: JOINS_AT_ONCE }, async () => {
    let count = 0;
    for (; performance.now() < untilMs; count++) (await upgraded(port, TOPICS_PATH)).reset();
    return count;
  }));
  return counts.reduce((sum, each) => sum + each, 0) / (cpuSeconds(pid) - before);
}

/** A publisher and a subscriber land in the same thread or not, as it happens. */
async function messages({ pid, port }: Server): Promise<number> {
  const pairs = await Promise.all(Array.from({ length: PAIRS }, async () => {
    const topic = crypto.getRandomValues(new Uint8Array(16));
    const subscriber = await upgraded(port, TOPICS_PATH);
    await writeAll(subscriber, encodeWebSocketFrame("binary", Uint8Array.of(1, ...topic), MASK));
    await readSome(subscriber);
    return { topic, subscriber, publisher: await upgraded(port, TOPICS_PATH) };
  }));
  const before = cpuSeconds(pid);
  const counts = await Promise.all(pairs.map(async ({ topic, subscriber, publisher }) => {
    const message = Uint8Array.of(3, ...topic, ...new Uint8Array(MESSAGE_BYTES));
    const frame = encodeWebSocketFrame("binary", message, MASK);
    const expected = encodeWebSocketFrame("binary", message).length;
    for (let i = 0; i < MESSAGES; i++) {
      await writeAll(publisher, frame);
      for (let received = 0; received < expected;) {
        received += (await readSome(subscriber)).length;
      }
    }
    publisher.reset();
    subscriber.reset();
    return MESSAGES;
  }));
  return counts.reduce((sum, each) => sum + each, 0) / (cpuSeconds(pid) - before);
}

async function upgraded(port: number, path: string): Promise<TcpConnection> {
  const connection = await network.connectTcp({ ip: "127.0.0.1", port }, { local: nextSource() });
  await writeAll(connection, encodeUpgradeRequest("127.0.0.1", path, KEY));
  let response = "";
  while (!response.endsWith("\r\n\r\n")) {
    response += new TextDecoder().decode(await readSome(connection));
  }
  if (!response.startsWith("HTTP/1.1 101 ")) throw new Error(response.split("\r\n")[0]);
  return connection;
}

async function readSome(connection: TcpConnection): Promise<Uint8Array> {
  const buffer = new Uint8Array(1024);
  const length = await connection.read(buffer);
  if (length === null) throw new Error("the server has gone");
  return buffer.subarray(0, length);
}

/** Each source has an allowance. */
function nextSource(): { ip: string; port: number } {
  const number = sources++ % SOURCES;
  return { ip: `127.1.${number >> 8}.${number & 255}`, port: 0 };
}

let sources = 0;

async function main(): Promise<void> {
  const kinds = `${given.workers}`.split(",");
  const servers = [];
  for (const workers of kinds) servers.push(await start(workers));
  const results = kinds.map((): Rates[] => []);
  for (const server of servers) await measure(server); // compiles it
  for (let round = 0; round < Number(given.rounds); round++) {
    for (const [i, server] of servers.entries()) results[i]!.push(await measure(server));
  }
  const medians = results.map((rates) => ({
    relayedMB: median(rates.map((each) => each.relayedMB)),
    upgrades: median(rates.map((each) => each.upgrades)),
    messages: median(rates.map((each) => each.messages)),
  }));
  for (const [i, rates] of medians.entries()) {
    const { relayedMB, upgrades, messages } = rates;
    const rounded = [relayedMB, upgrades, messages].map(Math.round);
    const [relayed, upgraded, passed] = rounded;
    console.log(JSON.stringify({
      workers: Number(kinds[i]),
      relayedMBPerCpuSecond: relayed,
      upgradesPerCpuSecond: upgraded,
      messagesPerCpuSecond: passed,
    }));
  }
  const [first, last] = [medians[0]!, medians.at(-1)!];
  const ratio = (name: keyof Rates) => Number((last[name] / first[name]).toFixed(2));
  console.log(JSON.stringify({
    ratios: {
      relayed: ratio("relayedMB"),
      upgrades: ratio("upgrades"),
      messages: ratio("messages"),
    },
  }));
  for (const server of servers) await server.end();
  Deno.exit(); // connections that are still closing
}

const MASK = Uint8Array.of(1, 2, 3, 4);
const KEY = "dGhlIHNhbXBsZSBub25jZQ==";
const RELAYED = encodeWebSocketFrame("binary", new Uint8Array(65_000), MASK);
const SOURCES = 4096;
const PAIRS = 40;
const JOINS_AT_ONCE = 100;
const MESSAGES = 1000;
const MESSAGE_BYTES = 200;
const ROUND_MS = 2000;

await main();
