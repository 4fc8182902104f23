/**
 * Stdin and stdout as the two directions of a connection, as in netcat.
 *
 * @module
 */

import { NetworkError } from "../errors.ts";
import type { DenoConn } from "../net/deno_conn.ts";
import type { CliIo } from "./io.ts";

/**
 * Sends what comes from stdin until it ends, and prints what arrives until the other side ends it: each direction ends
 * by itself, so that either side may go on. Somebody at a keyboard is not waited for once the other side has ended.
 *
 * @throws {NetworkError} if the connection breaks
 * @throws the reason of `io.signal` on abort
 */
export async function pipeThrough(
  conn: DenoConn,
  io: CliIo,
  stdin = io.stdin,
): Promise<void> {
  const stop = new AbortController();
  const signal = AbortSignal.any([io.signal, stop.signal]);
  const onAbort = () => conn.close();
  io.signal.addEventListener("abort", onAbort, { once: true });
  const up = stdin.pipeTo(conn.writable, { signal });
  const down = conn.readable.pipeTo(io.stdout, { signal, preventClose: true });
  try {
    await Promise.race([
      Promise.all([up, down]),
      io.isInputTerminal ? down : new Promise(() => {}),
    ]);
  } catch (error) {
    io.signal.throwIfAborted();
    // The other side has read all that it wanted, as in `| head -1`.
    if (!(error instanceof NetworkError && error.reason === "reset")) throw error;
  } finally {
    io.signal.removeEventListener("abort", onAbort);
    stop.abort();
    await Promise.allSettled([down]);
    up.catch(() => {}); // a read from a terminal does not end before the program does
  }
}
