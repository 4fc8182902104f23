/**
 * Stdin and stdout as the two directions of a connection, as in netcat.
 *
 * @module
 */

import { NetworkError } from "../base/errors.ts";
import type { DenoConn } from "../net/deno_conn.ts";
import type { CliIo } from "./io.ts";
import { delay } from "@std/async/delay";

/**
 * Sends what comes from stdin until it ends, and prints what arrives until the other side ends it: each direction ends
 * by itself, so that either side may go on. Somebody at a keyboard is not waited for once the other side has ended.
 *
 * Where this program is interrupted the connection is cut, so that what the other side has is not taken for all.
 *
 * @throws {NetworkError} if the connection breaks before the other side has ended it
 * @throws {Deno.errors.BrokenPipe} if nobody reads stdout any more; the other side is told that this is the end
 * @throws the reason of `io.signal` on abort
 */
export async function pipeThrough(
  conn: DenoConn,
  io: CliIo,
  stdin = io.stdin,
): Promise<void> {
  const stop = new AbortController();
  const signal = AbortSignal.any([io.signal, stop.signal]);
  const onAbort = () => conn.reset();
  io.signal.addEventListener("abort", onAbort, { once: true });
  const up = stdin.pipeTo(conn.writable, { signal, preventAbort: true }).catch(leaveToReader);
  const down = conn.readable.pipeTo(io.stdout, { signal, preventClose: true, preventCancel: true });
  try {
    await Promise.race([
      Promise.all([up, down]),
      io.isInputTerminal ? down : new Promise(() => {}),
    ]);
  } catch (error) {
    io.signal.throwIfAborted();
    stop.abort();
    if (error instanceof Deno.errors.BrokenPipe) await endSoon(conn);
    throw error;
  } finally {
    io.signal.removeEventListener("abort", onAbort);
    stop.abort();
    await Promise.allSettled([down]);
    up.catch(() => {}); // a read from a terminal does not end before the program does
  }
}

/**
 * That the other side takes no more is no failure by itself, as in `| head -1` there. Where the connection was cut, the
 * reading side fails too.
 */
function leaveToReader(error: unknown): void {
  if (!(error instanceof NetworkError)) throw error;
}

/** Tells the other side that this was all, if it can be told. */
async function endSoon(conn: DenoConn): Promise<void> {
  const ending = conn.closeWrite().catch(() => {});
  await Promise.race([ending, delay(END_WITHIN_MS)]);
  conn.close();
}

/** Ours: who does not read has nothing to wait for. */
const END_WITHIN_MS = 1000;

/** Passes on both directions until both have ended, or either breaks. Both are closed then. */
export async function forward(one: DenoConn, other: DenoConn): Promise<void> {
  try {
    await Promise.all([
      one.readable.pipeTo(other.writable),
      other.readable.pipeTo(one.writable),
    ]);
  } catch (error) {
    one.reset(); // the ends are told of it, and nobody else has a use for it
    other.reset();
    if (!(error instanceof NetworkError)) throw error;
  } finally {
    one.close();
    other.close();
  }
}
