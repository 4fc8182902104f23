/**
 * Which knocks deserve attention: none a second time, none from another day, and from nobody too many. Only those get
 * this far who have the ticket.
 *
 * @module
 */

import { toHex } from "../base/bytes.ts";
import { TokenBucket } from "../base/rate_limiter.ts";

/** What guards a peer against its own ticket. */
export interface ReplayLimits {
  /** By how much the clocks of two peers may differ; knocks are remembered for twice as long. */
  readonly maxClockDifferenceMs: number;
  /** Knocks that are remembered; while there are so many, none is taken. */
  readonly maxRemembered: number;
  /** Knocks of one key at once. */
  readonly burstPerKey: number;
  /** Those of one key that are let in again a second. */
  readonly perKeyPerSecond: number;
}

/** Remembers knocks. */
export class ReplayGuard {
  readonly #limits: ReplayLimits;
  /** Ephemeral keys, and until when they are remembered, the oldest first. */
  readonly #known = new Map<string, number>();
  readonly #buckets = new Map<string, TokenBucket>();

  constructor(limits: ReplayLimits = REPLAY_LIMITS) {
    this.#limits = limits;
  }

  /** Whether this very knock came before; asked first, as it takes no decryption. */
  isRepeated(ephemeralKey: Uint8Array, nowMs: number): boolean {
    this.#forget(nowMs);
    return this.#known.has(toHex(ephemeralKey));
  }

  /**
   * What to do about a knock that is authentic; it is remembered.
   *
   * @param nowMs milliseconds since 1970
   */
  judge(
    knock: { ephemeralKey: Uint8Array; remoteKey: Uint8Array; sentAtMs: number },
    nowMs: number,
  ): "fresh" | "wrong-clock" | "too-many" {
    const { maxClockDifferenceMs, maxRemembered } = this.#limits;
    this.#forget(nowMs);
    if (this.#known.size >= maxRemembered || !this.#takeAllowance(knock.remoteKey, nowMs)) {
      return "too-many";
    }
    this.#known.set(toHex(knock.ephemeralKey), nowMs + 2 * maxClockDifferenceMs);
    const difference = Math.abs(nowMs - knock.sentAtMs);
    return difference <= maxClockDifferenceMs ? "fresh" : "wrong-clock";
  }

  #forget(nowMs: number): void {
    for (const [key, untilMs] of this.#known) {
      if (untilMs > nowMs) break;
      this.#known.delete(key);
    }
  }

  #takeAllowance(remoteKey: Uint8Array, nowMs: number): boolean {
    const { burstPerKey, perKeyPerSecond } = this.#limits;
    const key = toHex(remoteKey);
    const rate = { burst: burstPerKey, perSecond: perKeyPerSecond };
    const bucket = this.#buckets.get(key) ?? new TokenBucket(rate, nowMs);
    if (this.#buckets.size >= MAX_KEYS) this.#buckets.clear(); // costs a burst to everybody, no more
    this.#buckets.set(key, bucket);
    return bucket.take(nowMs);
  }
}

/** Ours. */
export const REPLAY_LIMITS: ReplayLimits = {
  /** Clocks that nobody sets drift by minutes a year; certificates, which everybody needs, forgive less. */
  maxClockDifferenceMs: 10 * 60 * 1000,
  /** Some 2 MiB; a peer that is asked so often in 20 minutes has 13 connections a second. */
  maxRemembered: 16_384,
  /** Each of them may become a connection, and costs half a millisecond until then. */
  burstPerKey: 256,
  perKeyPerSecond: 8,
};

/** Ours: public keys cost nothing, so those who have the ticket can have any number. */
const MAX_KEYS = 4096;
