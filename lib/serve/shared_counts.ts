/**
 * How many connections and relays each source has, in all threads of a server: a table in memory that they share. So the
 * limits of a source hold for the server as a whole, whichever threads its connections come to.
 *
 * @module
 */

import { seededHash } from "../base/rate_limiter.ts";
import type { SourceCounts } from "../net/source.ts";

/** The table, as a thread gets it. */
export interface SharedCountsTable {
  readonly buffer: SharedArrayBuffer;
  /** 32 bits that clients cannot guess. */
  readonly seed: number;
}

/** A new table, in which nothing is counted. */
export function createSharedCounts(): SharedCountsTable {
  const [seed] = crypto.getRandomValues(new Uint32Array(1));
  return { buffer: new SharedArrayBuffer(SLOTS * Int32Array.BYTES_PER_ELEMENT), seed: seed! };
}

/**
 * The table, as one thread uses it. Keys with the same hash share a number, and so get too little rather than too much; the
 * seed keeps attackers from choosing which ones do.
 */
export class SharedCounts implements SourceCounts {
  readonly #table: Int32Array;
  readonly #seed: number;

  constructor({ buffer, seed }: SharedCountsTable) {
    this.#table = new Int32Array(buffer);
    this.#seed = seed;
  }

  count(key: string): number {
    return Atomics.load(this.#table, this.#slotOf(key));
  }

  take(key: string, max: number): boolean {
    const slot = this.#slotOf(key);
    if (Atomics.add(this.#table, slot, 1) < max) return true;
    Atomics.sub(this.#table, slot, 1);
    return false;
  }

  release(key: string): void {
    Atomics.sub(this.#table, this.#slotOf(key), 1);
  }

  #slotOf(key: string): number {
    return seededHash(this.#seed, key) & (SLOTS - 1);
  }
}

/** Chosen by us: 1 MiB. With 2,048 connections of as many sources, one source in 130 shares its number with another. */
const SLOTS = 2 ** 18;
