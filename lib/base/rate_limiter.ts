/**
 * Token buckets for any number of sources in a fixed amount of memory.
 *
 * @module
 */

import { ipToBytes } from "../net/address.ts";

/** How much a source may take. */
export interface Rate {
  /** What it may take at once, after a time without taking any. */
  readonly burst: number;
  /** What comes back a second. */
  readonly perSecond: number;
}

/**
 * Limits what each source takes. Sources that hash alike share a bucket, which errs on the side of too
 * little; the seed keeps others from choosing who shares with whom. Nothing is ever evicted, so a flood of
 * forged sources frees nobody's bucket.
 */
export class RateLimiter {
  readonly #rate: Rate;
  readonly #seed: number;
  readonly #levels: Float64Array;
  readonly #filledMs: Float64Array;

  /** @param seed any 32 bits that nobody can guess */
  constructor(rate: Rate, seed: number) {
    this.#rate = rate;
    this.#seed = seed;
    this.#levels = new Float64Array(BUCKETS).fill(rate.burst);
    this.#filledMs = new Float64Array(BUCKETS);
  }

  /**
   * Takes an amount, or nothing if there is less left.
   *
   * @param source an IP address; the addresses of an IPv6 /64, which one host has for itself, are one source
   * @param nowMs the time on a clock that never goes back
   */
  take(source: string, amount: number, nowMs: number): boolean {
    const bucket = this.#bucketOf(source);
    const { burst, perSecond } = this.#rate;
    const gained = (nowMs - this.#filledMs[bucket]!) / 1000 * perSecond;
    const level = Math.min(burst, this.#levels[bucket]! + gained);
    const enough = level >= amount;
    this.#levels[bucket] = enough ? level - amount : level;
    this.#filledMs[bucket] = nowMs;
    return enough;
  }

  /** FNV-1a. */
  #bucketOf(source: string): number {
    const key = sourceKey(source);
    let hash = this.#seed ^ 0x811c_9dc5;
    for (let i = 0; i < key.length; i++) hash = Math.imul(hash ^ key.charCodeAt(i), 0x0100_0193);
    hash ^= hash >>> 15; // FNV's low bits know little of the high ones
    return hash & (BUCKETS - 1);
  }
}

/** What counts as one source: an IPv4 address, or the /64 of an IPv6 address. */
export function sourceKey(ip: string): string {
  return ip.includes(":") ? ipToBytes(ip).subarray(0, 8).join(".") : ip;
}

/** Ours: 256 KiB a limiter. */
const BUCKETS = 2 ** 14;

/** Lets so many pass at once, and so many a second after that. */
export class TokenBucket {
  readonly #burst: number;
  readonly #perSecond: number;
  #left: number;
  #filledMs: number;

  /** @param nowMs on a clock that never goes back */
  constructor({ burst, perSecond }: { burst: number; perSecond: number }, nowMs: number) {
    this.#burst = burst;
    this.#perSecond = perSecond;
    this.#left = burst;
    this.#filledMs = nowMs;
  }

  /** Takes one, if there is one. */
  take(nowMs: number): boolean {
    const gained = (nowMs - this.#filledMs) / 1000 * this.#perSecond;
    this.#left = Math.min(this.#burst, this.#left + gained);
    this.#filledMs = nowMs;
    if (this.#left < 1) return false;
    this.#left--;
    return true;
  }
}
