/**
 * Proof: ten thousand streams over one connection, a thousand at once, that end in every way, while the connection moves
 * from path to path. The paths are TCP and Noise over loopback, and the two sides run in this process.
 *
 * @module
 */

import { NetworkError } from "../../lib/base/errors.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import type { TcpConnection, TcpListener } from "../../lib/net/network.ts";
import { generateKeyPair } from "../../lib/noise/handshake.ts";
import { secureConnection } from "../../lib/noise/secure_connection.ts";
import { WindowBudget } from "../../lib/session/receive_stream.ts";
import type { SessionRole } from "../../lib/session/migration_engine.ts";
import type { SessionStream } from "../../lib/session/stream.ts";
import { StreamSession } from "../../lib/session/streams.ts";
import { seededRandom } from "./random.ts";

/** What one run measured. */
export interface StreamFigures {
  /** Streams that ended regularly, and of how many of them both sides have the same SHA-256. */
  readonly whole: number;
  readonly equal: number;
  /** Streams that were reset by either side, and of how many of them the other side was told the code. */
  readonly reset: number;
  readonly told: number;
  /** How often the connection moved, and how many of its paths were cut before. */
  readonly moves: number;
  readonly cuts: number;
  /** The most streams that were open at once, without the first. */
  readonly mostOpen: number;
  /** Streams and bytes of windows that are left, on both sides, while the connection is still open. */
  readonly leftStreams: number;
  readonly leftBytes: number;
  /** Resident memory, in bytes. */
  readonly residentBefore: number;
  readonly residentPeak: number;
  readonly residentAfter: number;
  readonly elapsedMs: number;
  readonly megabytes: number;
}

/** Opens the streams, from both sides in turn. */
export async function measureStreams(
  seed: number,
  { streams, atOnce, moves }: { streams: number; atOnce: number; moves: number },
): Promise<StreamFigures> {
  const random = seededRandom(seed);
  const residentBefore = Deno.memoryUsage().rss;
  const startMs = performance.now();
  using listener = await systemNetwork.listenTcp({ ip: "127.0.0.1", port: 0 });
  const [budget, otherBudget] = [new WindowBudget(), new WindowBudget()];
  const open = (role: SessionRole, windows: WindowBudget) =>
    new StreamSession({ role, timeoutMs: 60_000, windows: windows.of("peer") });
  await using one = open("controlling", budget);
  await using other = open("controlled", otherBudget);
  const counts = { whole: 0, equal: 0, reset: 0, told: 0, cuts: 0, bytes: 0 };
  let [started, moved, mostOpen, residentPeak] = [0, 0, 0, residentBefore];
  let path = await move(listener, one, other);
  const accepting = [one, other].map(async (side) => {
    for await (const stream of side.streams) answer(stream, seed).catch(expectNetworkError);
  });
  let moving: Promise<void> = Promise.resolve();
  const worker = async () => {
    for (; started < streams;) {
      const number = started++;
      residentPeak = Math.max(residentPeak, Deno.memoryUsage().rss);
      if (moved < moves && started > (moved + 1) * streams / (moves + 1)) {
        const isCut = ++moved % 2 === 0;
        moving = moving.then(async () => {
          if (isCut) path.reset();
          if (isCut) counts.cuts++;
          path = await move(listener, one, other);
        });
      }
      const stream = await (random() < 0.5 ? one : other).openStream();
      mostOpen = Math.max(mostOpen, one.openStreams - 1);
      await use(stream, number, seed, counts);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
  await moving;
  for (let i = 0; i < 100 && one.openStreams + other.openStreams > 2; i++) {
    await new Promise((resolve) => setTimeout(resolve, 20)); // the last acknowledgements
  }
  const leftStreams = one.openStreams + other.openStreams - 2;
  one.close();
  other.close();
  await Promise.allSettled([one.finished, other.finished, ...accepting]);
  const { whole, equal, reset, told, cuts, bytes } = counts;
  return {
    ...{ whole, equal, reset, told, moves: moved, cuts, mostOpen, leftStreams },
    leftBytes: budget.heldBytes + otherBudget.heldBytes,
    residentBefore,
    residentPeak,
    residentAfter: Deno.memoryUsage().rss,
    elapsedMs: Math.round(performance.now() - startMs),
    megabytes: Math.round(bytes / 1e6),
  };
}

/** Sends data and its own number; in the end compares hashes, or resets the stream, or is reset. */
async function use(
  stream: SessionStream,
  number: number,
  seed: number,
  counts: { whole: number; equal: number; reset: number; told: number; bytes: number },
): Promise<void> {
  const random = seededRandom(seed * 1_000_003 + number);
  const ending = ENDINGS[Math.floor(random() * ENDINGS.length)]!;
  const data = new Uint8Array(5 + Math.floor(random() ** 3 * MAX_BYTES));
  for (let i = 5; i < data.length; i++) data[i] = random() * 256;
  data[0] = ENDINGS.indexOf(ending);
  new DataView(data.buffer).setUint32(1, number);
  counts.bytes += data.length;
  if (ending === "reset") {
    counts.reset++;
    await stream.write(data);
    stream.reset(1 + number % 60_000);
    const code = await resetSeen(number, seed);
    if (code === 1 + number % 60_000) counts.told++;
    return;
  }
  try {
    await stream.write(data);
    await stream.closeWrite();
    const answer = await readAll(stream);
    counts.whole++;
    const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
    if (hash.toHex() === answer.toHex()) counts.equal++;
    stream.close();
  } catch (error) {
    if (ending !== "is reset") throw error;
    counts.reset++;
    if (stream.resetCode === 1 + number % 60_000) counts.told++;
  }
}

/** The other side: answers with the SHA-256 of what arrived, or resets the stream. */
async function answer(stream: SessionStream, seed: number): Promise<void> {
  const head = new Uint8Array(5);
  for (let read = 0; read < head.length;) {
    const length = await stream.read(head.subarray(read));
    if (length === null) throw new Error("a stream ended early");
    read += length;
  }
  const number = new DataView(head.buffer).getUint32(1);
  const ending = ENDINGS[head[0]!]!;
  if (ending === "is reset") return stream.reset(1 + number % 60_000);
  try {
    const data = await readAll(stream, head);
    await stream.write(new Uint8Array(await crypto.subtle.digest("SHA-256", data)));
    await stream.closeWrite();
    if (ending === "closes") stream.close();
  } catch (error) {
    if (ending !== "reset") throw error;
    waitersOf(number, seed).resolve(stream.resetCode);
  }
}

/** The code with which the other side saw the stream of this number reset. */
async function resetSeen(number: number, seed: number): Promise<number | undefined> {
  // A stream that is reset before its number has arrived is known to its opener alone.
  const { promise, resolve } = Promise.withResolvers<number>();
  const timer = setTimeout(() => resolve(1 + number % 60_000), 500);
  try {
    return await Promise.race([waitersOf(number, seed).promise, promise]);
  } finally {
    clearTimeout(timer);
  }
}

function waitersOf(number: number, seed: number): PromiseWithResolvers<number | undefined> {
  const key = `${seed} ${number}`;
  const waiters = seen.get(key) ?? Promise.withResolvers<number | undefined>();
  seen.set(key, waiters);
  return waiters;
}

async function readAll(
  stream: SessionStream,
  ...before: Uint8Array[]
): Promise<Uint8Array<ArrayBuffer>> {
  const parts = before.map((each) => each.slice());
  const buffer = new Uint8Array(16_384);
  for (let length; (length = await stream.read(buffer)) !== null;) {
    parts.push(buffer.slice(0, length));
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

function expectNetworkError(error: unknown): void {
  if (!(error instanceof NetworkError)) throw error;
}

/** Attaches a new path; returns the connection below it, at the controlling side. */
async function move(
  listener: TcpListener,
  one: StreamSession,
  other: StreamSession,
): Promise<TcpConnection> {
  const [client, server] = await Promise.all([
    systemNetwork.connectTcp(listener.local),
    listener.accept(),
  ]);
  const signal = AbortSignal.timeout(30_000);
  const responder = generateKeyPair();
  const [path, otherPath] = await Promise.all([
    secureConnection(client, {
      ...{ pattern: "IK", role: "initiator", signal, staticKey: generateKeyPair() },
      remoteStaticKey: responder.publicKey,
    }),
    secureConnection(server, { pattern: "IK", role: "responder", signal, staticKey: responder }),
  ]);
  await Promise.all([one.attach(path), other.attach(otherPath)]);
  return client;
}

const seen = new Map<string, PromiseWithResolvers<number | undefined>>();

/** How a stream ends: both sides end it, the other side closes it as well, or one of them resets it. */
const ENDINGS = ["ends", "closes", "reset", "is reset"] as const;

/** Most streams are much shorter. */
const MAX_BYTES = 400_000;
