/**
 * Rate limits with token buckets: for one source, or for any number of sources in a fixed amount of memory; and pacing.
 *
 * @module
 */

import { delay } from "@std/async/delay";

/** The size of a token bucket, and how fast it refills. */
export interface Rate {
  /** How many tokens a full bucket holds. */
  readonly burst: number;
  /** How many tokens are added per second. */
  readonly perSecond: number;
}

/** A token bucket, full at first. */
export class TokenBucket {
  readonly #rate: Rate;
  #tokens: number;
  #filledMs: number;

  /** @param nowMs the current time. If the clock goes backwards, the bucket neither refills nor loses tokens. */
  constructor(rate: Rate, nowMs: number) {
    this.#rate = rate;
    this.#tokens = rate.burst;
    this.#filledMs = nowMs;
  }

  /** Takes tokens; `false`, and takes none, if there are too few. */
  take(nowMs: number, amount: number = 1): boolean {
    const tokens = refilled(this.#rate, this.#tokens, nowMs - this.#filledMs);
    const isEnough = tokens >= amount;
    this.#tokens = isEnough ? tokens - amount : tokens;
    this.#filledMs = nowMs;
    return isEnough;
  }
}

/** Takes tokens as soon as there are enough; of several callers, any may be next. */
export async function waitForTokens(bucket: TokenBucket, amount: number = 1): Promise<void> {
  while (!bucket.take(performance.now(), amount)) await delay(WAIT_MS);
}

/**
 * One token bucket per source, in a fixed amount of memory. Sources with the same hash share a bucket, and so get too
 * little rather than too much. The seed keeps attackers from choosing which sources collide. Nothing is evicted, so a
 * flood of forged sources resets no bucket.
 */
export class RateLimiter {
  readonly #rate: Rate;
  readonly #seed: number;
  readonly #tokens: Float64Array;
  readonly #filledMs: Float64Array;

  /** @param seed any 32 bits that others cannot guess */
  constructor(rate: Rate, seed: number) {
    this.#rate = rate;
    this.#seed = seed;
    this.#tokens = new Float64Array(BUCKETS).fill(rate.burst);
    this.#filledMs = new Float64Array(BUCKETS);
  }

  /**
   * Takes tokens; `false`, and takes none, if there are too few.
   *
   * @param key identifies the source, such as one of `sourceKeys(ip)`
   * @param nowMs the current time, from a clock that never goes back
   */
  take(key: string, amount: number, nowMs: number): boolean {
    const bucket = this.#bucketOf(key);
    const tokens = this.#tokensIn(bucket, nowMs);
    const isEnough = tokens >= amount;
    this.#tokens[bucket] = isEnough ? tokens - amount : tokens;
    this.#filledMs[bucket] = nowMs;
    return isEnough;
  }

  /** Whether {@linkcode RateLimiter.take} would take that many. */
  has(key: string, amount: number, nowMs: number): boolean {
    return this.#tokensIn(this.#bucketOf(key), nowMs) >= amount;
  }

  #tokensIn(bucket: number, nowMs: number): number {
    return refilled(this.#rate, this.#tokens[bucket]!, nowMs - this.#filledMs[bucket]!);
  }

  #bucketOf(key: string): number {
    return seededHash(this.#seed, key) & (BUCKETS - 1);
  }
}

/** Paces a stream: says how long each piece has to wait so that the rate is kept in the long run. */
export class Pacer {
  #rate: Rate;
  /** When everything so far would have been sent at the rate. */
  #sentMs = -Infinity;

  /** @param rate `burst` may be sent at once after a pause; `perSecond` may be `Infinity` */
  constructor(rate: Rate) {
    this.#rate = rate;
  }

  /** Paces from now on at another rate. */
  change(rate: Rate): void {
    this.#rate = rate;
  }

  /** Counts a piece, which has to be sent, and returns how many milliseconds it has to wait. */
  delayMs(amount: number, nowMs: number): number {
    const { burst, perSecond } = this.#rate;
    const burstMs = burst / perSecond * 1000;
    this.#sentMs = Math.max(this.#sentMs, nowMs - burstMs) + amount / perSecond * 1000;
    return Math.max(0, this.#sentMs - nowMs);
  }
}

/** FNV-1a: 32 bits, which others cannot choose if they do not know the seed. */
export function seededHash(seed: number, key: string): number {
  let hash = seed ^ 0x811c_9dc5;
  for (let i = 0; i < key.length; i++) hash = Math.imul(hash ^ key.charCodeAt(i), 0x0100_0193);
  return hash ^ hash >>> 15; // the low bits of FNV depend too little on the high ones
}

/** How many tokens a bucket has that had so many some time ago. */
export function refilled({ burst, perSecond }: Rate, tokens: number, elapsedMs: number): number {
  return Math.min(burst, tokens + Math.max(0, elapsedMs) / 1000 * perSecond);
}

/** Chosen by us: 256 KiB per limiter. */
const BUCKETS = 2 ** 14;

/** Chosen by us: a reader that pauses for so long fills no buffer of the system. */
const WAIT_MS = 50;
