// deno-lint-ignore-file no-console -- what it prints is its result
/**
 * One peer accepts a thousand connections on loopback: whether all of them live, how long that takes, what each costs in
 * memory, and how busy both sides are while all of them are idle, and while each carries a byte both ways every second. The
 * first hundred are told apart: they bring code, caches and memory that the others share.
 *
 *     deno run -A bench/many_peers.ts [COUNT]
 *
 * It prints a line at 300, 500 and 1,000 connections, and at COUNT, which is 1,000 unless another number is given. It fails
 * if a connection does not live. The peer that accepts is a process of its own, and so are those that dial.
 *
 * @module
 */

import { delay } from "@std/async/delay";
import { Peer } from "../lib/peer/peer.ts";
import type { PeerConnection } from "../lib/peer/connection.ts";
import { systemNetwork } from "../lib/net/system.ts";
import { DEFAULT_RENDEZVOUS_LIMITS, serveRendezvous } from "../lib/signal/rendezvous/server.ts";
import { TextLineStream } from "../lab/kernel/lines.ts";
import { cpuSeconds } from "./cpu_seconds.ts";

/** Of one process, in bytes. */
interface Memory {
  /** All of it, after a collection of garbage. V8 keeps pages for what comes next. */
  readonly rss: number;
  /** The same once V8 has given back the pages that it does not need, as it does when memory is short. */
  readonly needed: number;
  /** What its heap and its buffers use. */
  readonly inUse: number;
}

const FIRST = 100;

const MILESTONES: readonly number[] = [FIRST, 300, 500, 1000];

/** How many dial at once. */
const AT_ONCE = 10;

/** One key may have 128 connections of another peer. */
const CONNECTIONS_PER_PEER = 50;

const MAX_ATTEMPTS = 20;

/** What a search leaves behind is kept for some seconds. */
const SETTLE_MS = 8000;

/** How long the processors are watched. */
const WATCH_MS = 10_000;

async function run(count: number): Promise<void> {
  await using rendezvous = await serveRendezvous({
    network: systemNetwork,
    local: { ip: "127.0.0.1", port: 0 },
    // Hundreds connect at once here, all from one address.
    limits: {
      topicMessagesPerSecond: 10_000,
      sourcePerSecond: 10 * DEFAULT_RENDEZVOUS_LIMITS.sourcePerSecond,
    },
  });
  await using accepting = new Child("accept", rendezvous.url, `${count}`);
  const ticket = await accepting.nextLine();
  const peers = Math.max(AT_ONCE, Math.ceil(count / CONNECTIONS_PER_PEER));
  await using dialing = new Child("dial", rendezvous.url, ticket, `${peers}`);
  await dialing.ask("memory"); // once its peers are open
  const both = async () => {
    await delay(SETTLE_MS);
    return { accepts: await accepting.ask<Memory>("memory"), dials: await dialing.ask("memory") };
  };
  let connected = 0;
  let hundred: Awaited<ReturnType<typeof both>> | undefined;
  for (const next of [...MILESTONES.filter((each) => each < count), count]) {
    const startedAtMs = performance.now();
    const more = next - connected;
    const { retries } = await dialing.ask<{ retries: number }>(`connect ${more}`);
    connected = next;
    const seconds = (performance.now() - startedAtMs) / 1000;
    const memory = await both();
    const { live } = await accepting.ask<{ live: number }>("live");
    const { echoed } = await dialing.ask<{ echoed: number }>("echo");
    const beyond = hundred;
    const kib = (side: "accepts" | "dials", key: keyof Memory) =>
      beyond && Math.round((memory[side][key] - beyond[side][key]) / 1024 / (connected - FIRST));
    console.log(JSON.stringify({
      connections: connected,
      live,
      echoed,
      perSecond: Math.round(more / seconds),
      retries,
      mib: Math.round(memory.accepts.rss / 2 ** 20),
      kibBeyondFirst: kib("accepts", "rss"),
      kibNeeded: kib("accepts", "needed"),
      kibInUse: kib("accepts", "inUse"),
      kibBeyondFirstOfDialer: kib("dials", "rss"),
      kibNeededOfDialer: kib("dials", "needed"),
      kibInUseOfDialer: kib("dials", "inUse"),
    }));
    if (live !== connected || echoed !== connected) throw new Error("Not all connections live");
    if (connected === FIRST) hundred = memory;
  }
  for (const what of ["idle", "a byte each way a second"]) {
    const isBusy = what !== "idle";
    if (isBusy) await dialing.ask("start talking");
    const before = [accepting.cpuSeconds, dialing.cpuSeconds] as const;
    await accepting.ask("timers");
    await dialing.ask("timers");
    await delay(WATCH_MS);
    const watched = WATCH_MS / 1000;
    const perSecond = ({ timers }: { timers: number }) => Math.round(timers / watched);
    const percent = (since: number, now: number) => Math.round(100 * (now - since) / watched);
    console.log(JSON.stringify({
      connections: connected,
      what,
      cpuPercent: percent(before[0], accepting.cpuSeconds),
      timersPerSecond: perSecond(await accepting.ask<{ timers: number }>("timers")),
      cpuPercentOfDialer: percent(before[1], dialing.cpuSeconds),
      timersPerSecondOfDialer: perSecond(await dialing.ask<{ timers: number }>("timers")),
    }));
  }
}

/** A process that answers each line with one. */
class Child implements AsyncDisposable {
  readonly #process: Deno.ChildProcess;
  readonly #lines: ReadableStreamDefaultReader<string>;
  readonly #input: WritableStreamDefaultWriter<Uint8Array<ArrayBuffer>>;

  constructor(...args: string[]) {
    this.#process = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--v8-flags=--expose-gc", import.meta.url, ...args],
      stdin: "piped",
      stdout: "piped",
    }).spawn();
    this.#lines = this.#process.stdout.pipeThrough(new TextDecoderStream())
      .pipeThrough(new TextLineStream()).getReader();
    this.#input = this.#process.stdin.getWriter();
  }

  get cpuSeconds(): number {
    return cpuSeconds(this.#process.pid);
  }

  async nextLine(): Promise<string> {
    const { value } = await this.#lines.read();
    if (value === undefined) throw new Error("The other process has ended");
    return value;
  }

  async ask<T = Memory>(question: string): Promise<T> {
    await this.#input.write(new TextEncoder().encode(`${question}\n`));
    return JSON.parse(await this.nextLine());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#input.close();
    await this.#process.status;
  }
}

/** Counts the timers that fire. */
function countTimers(): () => number {
  let fired = 0;
  const set = globalThis.setTimeout;
  Object.assign(globalThis, {
    setTimeout: (callback: (...args: unknown[]) => void, ms: number, ...args: unknown[]) =>
      set(() => {
        fired++;
        callback(...args);
      }, ms),
  });
  return () => {
    const count = fired;
    fired = 0;
    return count;
  };
}

/** Answers each line of stdin. */
async function answerLines(answer: (question: string[]) => unknown): Promise<void> {
  const lines = Deno.stdin.readable.pipeThrough(new TextDecoderStream())
    .pipeThrough(new TextLineStream());
  for await (const line of lines) console.log(JSON.stringify(await answer(line.split(" "))));
}

async function memory(): Promise<Memory> {
  const { gc } = globalThis as { gc?: (options: Record<string, string>) => void };
  const collect = async (flavor: "regular" | "last-resort") => {
    gc?.({ type: "major", execution: "sync", flavor });
    await delay(100); // what one collection frees may free more in the next turn
  };
  for (let i = 0; i < 3; i++) await collect("regular");
  const { rss, heapUsed, external } = Deno.memoryUsage();
  for (let i = 0; i < 2; i++) await collect("last-resort");
  return { rss, needed: Deno.memoryUsage().rss, inUse: heapUsed + external };
}

async function acceptAll(url: string, count: number): Promise<void> {
  const timers = countTimers();
  // A quarter of the places is for keys that have connected before.
  const maxConnections = Math.ceil(count * 4 / 3);
  const peer = await Peer.open({ signaling: [url], servers: [], maxConnections });
  console.log(peer.ticket);
  let live = 0;
  (async () => {
    for await (const incoming of peer) {
      incoming.accept().then(async (connection) => {
        live++;
        const ended = () => live--;
        connection.finished.then(ended, ended);
        const buffer = new Uint8Array(1);
        while (await connection.read(buffer) !== null) await connection.write(buffer.slice());
      }).catch(() => {}); // the other side tries again, or says that a connection is dead
    }
  })();
  await answerLines(([question]) => {
    if (question === "live") return { live };
    return question === "timers" ? { timers: timers() } : memory();
  });
  Deno.exit(); // the connections end with the program
}

async function dialAll(url: string, ticket: string, count: number): Promise<void> {
  const timers = countTimers();
  const options = { servers: [], signaling: [url], listen: false };
  const peers = await Promise.all(Array.from({ length: count }, () => Peer.open(options)));
  const connections: PeerConnection[] = [];
  let retries = 0;
  const connect = async (more: number) => {
    retries = 0;
    const until = connections.length + more;
    let dialled = connections.length;
    await Promise.all(Array.from({ length: AT_ONCE }, async () => {
      while (dialled < until) {
        const peer = peers[dialled++ % peers.length]!;
        for (let attempt = 1;; attempt++) {
          try {
            connections.push(await peer.connect(ticket));
            break;
          } catch (error) { // a busy machine lets some searches take too long
            if (attempt === MAX_ATTEMPTS) throw error;
            retries++;
            await delay(1000 * Math.random());
          }
        }
      }
    }));
    return { retries };
  };
  await answerLines(async ([question, argument]) => {
    switch (question) {
      case "connect":
        return await connect(Number(argument));
      case "echo":
        return {
          echoed: (await Promise.all(connections.map(isAlive))).filter((alive) => alive).length,
        };
      case "start":
        connections.forEach(talk);
        return {};
      case "timers":
        return { timers: timers() };
      default:
        return await memory();
    }
  });
  Deno.exit();
}

/** For as long as the program runs. Each connection begins at a moment of its own. */
async function talk(connection: PeerConnection): Promise<void> {
  await delay(1000 * Math.random());
  for (;;) {
    await Promise.all([isAlive(connection), delay(1000)]);
  }
}

async function isAlive(connection: PeerConnection): Promise<boolean> {
  try {
    await connection.write(Uint8Array.of(42));
    const buffer = new Uint8Array(1);
    return await connection.read(buffer) === 1 && buffer[0] === 42;
  } catch {
    return false;
  }
}

const [first, url, ticket, peers] = Deno.args;
if (first === "accept") await acceptAll(url!, Number(ticket));
else if (first === "dial") await dialAll(url!, ticket!, Number(peers));
else await run(Number(first ?? 1000));
