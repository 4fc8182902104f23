/**
 * Joins a connection to a peer with one on this machine.
 *
 * @module
 */

import { NetworkError } from "../base/errors.ts";
import type { DenoConn } from "../net/deno_conn.ts";

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
