// deno-lint-ignore-file no-console
/**
 * Compares two kinds of connection to another process, in alternating rounds, because the load of a machine changes
 * more slowly than that.
 *
 * @module
 */

import type { TcpConnection } from "../lib/net/network.ts";
import { median } from "./median.ts";

/** One kind of connection. */
export interface Stream {
  /** Its name in the output. */
  readonly name: string;
  /** Opens a connection whose other side runs {@linkcode answerStream}. */
  open(): Promise<TcpConnection>;
}

/** The result of a comparison. */
export interface Comparison {
  /** The second one's figure / the first one's: the median of the rounds. */
  readonly ratio: number;
  /** The medians of each. */
  readonly first: number;
  readonly second: number;
  /** The processor time of the second / that of the first, of all rounds together, if there is a clock for it. */
  readonly cpuRatio?: number;
}

/** Compares the milliseconds for a message of 64 bytes and its echo. */
export async function compareRoundTrips(first: Stream, second: Stream): Promise<Comparison> {
  using one = await open(first, ECHO);
  using other = await open(second, ECHO);
  await echo(one, WARM_UP_MESSAGES);
  await echo(other, WARM_UP_MESSAGES);
  const pairs: Pair[] = [];
  for (let i = 0; i < ROUND_TRIP_ROUNDS; i++) {
    pairs.push([await echo(one, MESSAGES), await echo(other, MESSAGES)]);
  }
  return compare("round trip", [first, second], pairs, (ms) => `${(ms * 1000).toFixed(0)} µs`);
}

/**
 * Compares the bytes per millisecond, in writes of 64 KiB.
 *
 * @param cpuSeconds the processor time that both sides have used so far
 */
export async function compareBulk(
  first: Stream,
  second: Stream,
  cpuSeconds: () => number = () => 0,
): Promise<Comparison> {
  await bulk(first);
  await bulk(second);
  const pairs: Pair[] = [];
  const used = [0, 0];
  for (let i = 0; i < BULK_ROUNDS; i++) {
    const startedAt = cpuSeconds();
    const one = await bulk(first);
    const betweenAt = cpuSeconds();
    pairs.push([one, await bulk(second)]);
    used[0]! += betweenAt - startedAt;
    used[1]! += cpuSeconds() - betweenAt;
  }
  const streams = [first, second] as const;
  const format = (rate: number) => `${(rate / 1000).toFixed(0)} MB/s`;
  return { ...compare("bulk", streams, pairs, format), cpuRatio: used[1]! / used[0]! };
}

/**
 * How many milliseconds a clock counts on this side during a message of 64 bytes and its echo, and during a write of
 * 64 KiB.
 *
 * @param clock runs only during the work to measure
 */
export async function measureWithin(
  stream: Stream,
  clock: { readonly elapsedMs: number },
): Promise<{ roundTrip: number; write: number }> {
  using connection = await open(stream, ECHO);
  await echo(connection, WARM_UP_MESSAGES);
  const beforeEchoes = clock.elapsedMs;
  await echo(connection, WARM_UP_MESSAGES);
  const roundTrip = (clock.elapsedMs - beforeEchoes) / WARM_UP_MESSAGES;
  await bulk(stream);
  const beforeBulk = clock.elapsedMs;
  await bulk(stream);
  return { roundTrip, write: (clock.elapsedMs - beforeBulk) / WRITES };
}

/** The other side: echoes or discards everything, as the first byte requests, until the end. */
export async function answerStream(
  connection: Pick<TcpConnection, "read" | "write" | "closeWrite">,
): Promise<void> {
  const buffer = new Uint8Array(WRITE_BYTES);
  const mode = new Uint8Array(1);
  await connection.read(mode);
  for (;;) {
    const length = await connection.read(buffer);
    if (length === null) break;
    if (mode[0] === ECHO) await connection.write(buffer.subarray(0, length));
  }
  await connection.closeWrite();
}

/** The figures of one round, for the first and the second stream. */
type Pair = readonly [number, number];

/** Summarizes the rounds, and prints the medians. */
function compare(
  what: string,
  streams: readonly [Stream, Stream],
  pairs: readonly Pair[],
  format: (figure: number) => string,
): Comparison {
  const first = median(pairs.map((pair) => pair[0]));
  const second = median(pairs.map((pair) => pair[1]));
  console.log(
    `${what}: ${format(first)} ${streams[0].name}, ${format(second)} ${streams[1].name}`,
  );
  return { ratio: median(pairs.map(([one, other]) => other / one)), first, second };
}

async function open(stream: Stream, mode: number): Promise<TcpConnection> {
  const connection = await stream.open();
  await connection.write(Uint8Array.of(mode));
  return connection;
}

/** Milliseconds per message. */
async function echo(connection: TcpConnection, messages: number): Promise<number> {
  const message = new Uint8Array(MESSAGE_BYTES);
  const answer = new Uint8Array(MESSAGE_BYTES);
  const start = performance.now();
  for (let i = 0; i < messages; i++) {
    await connection.write(message);
    for (let read = 0; read < MESSAGE_BYTES;) read += (await connection.read(answer))!;
  }
  return (performance.now() - start) / messages;
}

/** Bytes per millisecond, until the other side has read everything. */
async function bulk(stream: Stream): Promise<number> {
  using connection = await open(stream, BULK);
  const data = new Uint8Array(WRITE_BYTES);
  const start = performance.now();
  for (let i = 0; i < WRITES; i++) await connection.write(data);
  await connection.closeWrite();
  if (await connection.read(new Uint8Array(1)) !== null) {
    throw new Error("Cannot measure: data was echoed");
  }
  return WRITES * WRITE_BYTES / (performance.now() - start);
}

const ECHO = 1;
const BULK = 2;
const MESSAGE_BYTES = 64;
const WARM_UP_MESSAGES = 4000;
const MESSAGES = 200;
const ROUND_TRIP_ROUNDS = 41;
/** The size of one write. */
export const WRITE_BYTES = 65_536;
const WRITES = 1500;
const BULK_ROUNDS = 11;
