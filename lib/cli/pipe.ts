/**
 * Stdin and stdout as the two directions of a connection, as in netcat; and one connection forwarded to another.
 *
 * @module
 */

import { NetworkError } from "../base/errors.ts";
import { type ByteSink, type ByteSource, copyStream, writeAll } from "../base/reader.ts";
import type { DenoConn } from "../net/deno_conn.ts";
import type { CliIo } from "./io.ts";
import type { Chunks } from "./stdin_chunks.ts";
import { abortable } from "@std/async/abortable";
import { delay } from "@std/async/delay";

/**
 * Sends stdin until it ends, and prints what arrives until the other side ends it. Each direction ends on its own, so
 * that the other may continue. If stdin is a keyboard, the end of the other side ends both.
 *
 * An interrupt, or stdin that cannot be read, resets the connection, so that the other side does not take partial data
 * for all of it. If it throws, stdin and stdout can be used for another connection.
 *
 * @throws {NetworkError} if the connection breaks before the other side has ended it; or if it does not say how it has
 * `finished`, and the other side did not take all of stdin
 * @throws {Deno.errors.BrokenPipe} if the reader of stdout has gone; the other side gets a regular end
 * @throws the reason of `io.signal` on abort
 */
export async function pipeThrough(
  conn: DenoConn & { readonly finished?: Promise<void> },
  io: CliIo,
  stdin: Chunks,
): Promise<void> {
  io.signal.throwIfAborted();
  const stop = new AbortController(); // ends the direction that is left when the other decides
  const signal = AbortSignal.any([io.signal, stop.signal]);
  const onAbort = () => conn.reset();
  io.signal.addEventListener("abort", onAbort, { once: true });
  let unsent: NetworkError | undefined;
  const up = sendAll(stdin, conn, signal).catch((error) => unsent = networkError(error));
  const down = abortable(printAll(conn, io.stdout), io.signal); // stdout may take nothing
  try {
    await Promise.race([
      Promise.all([up, down]),
      io.isInputTerminal ? down : new Promise(() => {}),
      failureOf(conn), // even if the other side has ended its direction, and stdin is idle
    ]);
    if (io.isInputTerminal) await conn.closeWrite().catch(networkError); // stdin will not end by itself
    else if (unsent !== undefined && conn.finished === undefined) throw unsent;
  } catch (error) {
    io.signal.throwIfAborted();
    stop.abort();
    if (error instanceof Deno.errors.BrokenPipe) await endSoon(conn);
    else conn.reset(); // if stdin failed, the other side must not take part of it for all of it
    throw error;
  } finally {
    io.signal.removeEventListener("abort", onAbort);
    stop.abort();
    await Promise.allSettled([down, up]);
  }
}

/**
 * Sends stdin until it ends. While a chunk is encrypted, another thread reads the next one.
 *
 * @param signal stops reading; what has not been read stays in stdin
 */
async function sendAll(
  stdin: Chunks,
  conn: Pick<DenoConn, "write" | "closeWrite">,
  signal: AbortSignal,
): Promise<void> {
  let chunk = await stdin.next(signal);
  while (chunk !== null) {
    [chunk] = await Promise.all([stdin.next(signal), writeAll(conn, chunk)]);
  }
  await conn.closeWrite();
}

/**
 * Prints what arrives, in large pieces: another thread writes to stdout, and waking it takes as long as decrypting a
 * record. Meanwhile the next piece is read. If that fails, what has arrived before is printed nevertheless.
 */
async function printAll(conn: ByteSource, stdout: ByteSink): Promise<void> {
  let printing: Promise<unknown> = Promise.resolve();
  try {
    let [buffer, printed] = [new Uint8Array(PRINT_BYTES), new Uint8Array(PRINT_BYTES)];
    let length = await conn.read(buffer);
    while (length !== null) {
      const data = buffer.subarray(0, length);
      [buffer, printed] = [printed, buffer];
      const writing = printing = writeAll(stdout, data);
      [length] = await Promise.all([conn.read(buffer), writing]);
    }
  } finally {
    await Promise.allSettled([printing]);
  }
}

/** Why a command ends a connection, for the command at the other side. */
export const RESET_CODES = { busy: 1, serviceUnreachable: 2, localLost: 3 } as const;

/** A connection to a peer. */
export interface PeerConn extends DenoConn {
  readonly finished?: Promise<void>;
  /** As of `Session`. */
  readonly resetCode?: number | undefined;
  reset(code?: number): void;
}

/**
 * Forwards both directions until both have ended or either breaks, then closes both connections. A connection that breaks
 * while the other takes no data ends both, too. If it is the local one, the peer is told.
 *
 * @param one the connection to the peer
 * @param other the local one
 * @param signal resets both on abort
 * @returns which of them broke, if any
 */
export async function forward(
  one: PeerConn,
  other: DenoConn,
  signal: AbortSignal,
): Promise<"peer" | "local" | undefined> {
  const reset = () => {
    one.reset();
    other.reset();
  };
  signal.addEventListener("abort", reset, { once: true });
  const pipes = [copyStream(one, other), copyStream(other, one)];
  try {
    if (signal.aborted) reset();
    await Promise.race([Promise.all(pipes), failureOf(one)]);
    return undefined;
  } catch (error) {
    const broken = await hasFailed(one) ? "peer" : "local";
    one.reset(broken === "local" ? RESET_CODES.localLost : undefined);
    other.reset();
    await Promise.allSettled(pipes);
    if (!(error instanceof NetworkError)) throw error;
    return broken;
  } finally {
    signal.removeEventListener("abort", reset);
    one.close();
    other.close();
  }
}

/** Why the other side has ended a forwarded connection, for people; `undefined` if it did not say. */
export function endOfForwarding(
  { resetCode }: PeerConn,
  { isService }: { readonly isService: boolean },
): string | undefined {
  switch (resetCode) {
    case RESET_CODES.serviceUnreachable:
      return "the peer cannot connect to its own service; check that it runs";
    case RESET_CODES.localLost:
      return `the ${isService ? "client" : "service"} at the other side broke the connection off`;
    default:
      return undefined;
  }
}

/** Whether the connection has ended before it was finished. */
async function hasFailed({ finished = new Promise(() => {}) }: PeerConn): Promise<boolean> {
  return await Promise.race([
    finished.then(() => false, () => true),
    delay(0).then(() => false),
  ]);
}

/** Rejects if the connection ends before it is finished; never resolves. */
async function failureOf({ finished }: { readonly finished?: Promise<void> }): Promise<void> {
  await finished;
  await new Promise(() => {});
}

/**
 * The error of a direction that the other side takes no more data of, as with `| head -1` there: the other one may go on.
 * Whether it is a failure, the connection says when it has ended; if it cannot, it is one.
 */
function networkError(error: unknown): NetworkError {
  if (error instanceof NetworkError) return error;
  throw error;
}

/** Ends the connection regularly if the other side still reads, and closes it in any case. */
async function endSoon(conn: DenoConn): Promise<void> {
  const ending = conn.closeWrite().catch(() => {}); // the connection is closed either way
  await Promise.race([ending, delay(END_WITHIN_MS)]);
  conn.close();
}

/** Chosen by us: a side that reads confirms the end within a few round trips. */
const END_WITHIN_MS = 1000;

/** Chosen by us: four records. */
const PRINT_BYTES = 262_144;
