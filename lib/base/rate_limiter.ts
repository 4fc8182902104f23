/**
 * Token buckets: for one source, and for any number of them in a fixed amount of memory.
 *
 * @module
 */

/** How much may be taken. */
export interface Rate {
  /** What may be taken at once, after a time without taking any. */
  readonly burst: number;
  /** What comes back a second. */
  readonly perSecond: number;
}

/** A token bucket. */
export class TokenBucket {
  readonly #rate: Rate;
  #tokens: number;
  #filledMs: number;

  /** @param nowMs on a clock that had better not go back: a step back refills nothing and takes nothing away */
  constructor(rate: Rate, nowMs: number) {
    this.#rate = rate;
    this.#tokens = rate.burst;
    this.#filledMs = nowMs;
  }

  /** Takes an amount, or nothing if there is less left; whether it took it. */
  take(nowMs: number, amount: number = 1): boolean {
    const tokens = refilled(this.#rate, this.#tokens, nowMs - this.#filledMs);
    const isEnough = tokens >= amount;
    this.#tokens = isEnough ? tokens - amount : tokens;
    this.#filledMs = nowMs;
    return isEnough;
  }
}

/**
 * Limits what each source takes. Sources that hash alike share a bucket, which errs on the side of too little; the
 * seed keeps others from choosing who shares with whom. Nothing is ever evicted, so a flood of forged sources frees no
 * bucket.
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
   * Takes an amount, or nothing if there is less left.
   *
   * @param key names the source, such as `sourceKey(ip)`
   * @param nowMs the time on a clock that never goes back
   */
  take(key: string, amount: number, nowMs: number): boolean {
    const bucket = this.#bucketOf(key);
    const elapsedMs = nowMs - this.#filledMs[bucket]!;
    const tokens = refilled(this.#rate, this.#tokens[bucket]!, elapsedMs);
    const isEnough = tokens >= amount;
    this.#tokens[bucket] = isEnough ? tokens - amount : tokens;
    this.#filledMs[bucket] = nowMs;
    return isEnough;
  }

  /** FNV-1a. */
  #bucketOf(key: string): number {
    let hash = this.#seed ^ 0x811c_9dc5;
    for (let i = 0; i < key.length; i++) hash = Math.imul(hash ^ key.charCodeAt(i), 0x0100_0193);
    hash ^= hash >>> 15; // FNV's low bits know little of the high ones
    return hash & (BUCKETS - 1);
  }
}

function refilled({ burst, perSecond }: Rate, tokens: number, elapsedMs: number): number {
  return Math.min(burst, tokens + Math.max(0, elapsedMs) / 1000 * perSecond);
}

/** Chosen by us: 256 KiB a limiter. */
const BUCKETS = 2 ** 14;
