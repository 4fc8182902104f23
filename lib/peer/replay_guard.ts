/**
 * Rejects replayed, stale and excessive connection requests. Only requests of ticket holders get this far.
 *
 * @module
 */

import { toHex } from "../base/bytes.ts";
import { TokenBucket } from "../base/rate_limiter.ts";

/** What a {@linkcode ReplayGuard} lets through. */
export interface ReplayLimits {
  /** By how much the clocks of two peers may differ; requests are remembered for twice as long. */
  readonly maxClockDifferenceMs: number;
  /** How many requests are remembered; at the limit, no new one is accepted. */
  readonly maxRemembered: number;
  /** How many requests of one key are accepted at once. */
  readonly burstPerKey: number;
  /** How many more of that key are accepted each second. */
  readonly perKeyPerSecond: number;
}

/** What to do about an authentic request. */
export type ReplayVerdict = "fresh" | "wrong-clock" | "too-many";

/** Remembers connection requests. Times are milliseconds since 1970. */
export class ReplayGuard {
  readonly #limits: ReplayLimits;
  /** Ephemeral keys, and until when they are remembered; oldest first. */
  readonly #known = new Map<string, number>();
  readonly #buckets = new Map<string, TokenBucket>();

  constructor(limits: ReplayLimits = REPLAY_LIMITS) {
    this.#limits = limits;
  }

  /** Whether this request has arrived before. Ask this first: it takes no decryption. */
  isReplay(ephemeralKey: Uint8Array, nowMs: number): boolean {
    this.#forgetOld(nowMs);
    return this.#known.has(toHex(ephemeralKey));
  }

  /** Judges an authentic request, and remembers it. */
  judge(
    request: { ephemeralKey: Uint8Array; remoteKey: Uint8Array; sentAtMs: number },
    nowMs: number,
  ): ReplayVerdict {
    const { maxClockDifferenceMs, maxRemembered } = this.#limits;
    this.#forgetOld(nowMs);
    if (this.#known.size >= maxRemembered) return "too-many";
    if (!this.#takeToken(request.remoteKey, nowMs)) return "too-many";
    this.#known.set(toHex(request.ephemeralKey), nowMs + 2 * maxClockDifferenceMs);
    const differenceMs = Math.abs(nowMs - request.sentAtMs);
    return differenceMs <= maxClockDifferenceMs ? "fresh" : "wrong-clock";
  }

  #forgetOld(nowMs: number): void {
    for (const [key, untilMs] of this.#known) {
      if (untilMs > nowMs) break;
      this.#known.delete(key);
    }
  }

  #takeToken(remoteKey: Uint8Array, nowMs: number): boolean {
    const { burstPerKey, perKeyPerSecond } = this.#limits;
    const key = toHex(remoteKey);
    const rate = { burst: burstPerKey, perSecond: perKeyPerSecond };
    const bucket = this.#buckets.get(key) ?? new TokenBucket(rate, nowMs);
    if (this.#buckets.size >= MAX_KEYS) this.#buckets.clear(); // at worst, every key gets a new burst
    this.#buckets.set(key, bucket);
    return bucket.take(nowMs);
  }
}

/** Chosen by us, see each. */
export const REPLAY_LIMITS: ReplayLimits = {
  /** A clock that is never set drifts by minutes a year; TLS certificates forgive less. */
  maxClockDifferenceMs: 10 * 60 * 1000,
  /** About 2 MiB. It takes 13 connections a second for 20 minutes to fill it. */
  maxRemembered: 16_384,
  /** Each request may become a connection, and costs half a millisecond until then. */
  burstPerKey: 256,
  perKeyPerSecond: 8,
};

/** Chosen by us: keys cost nothing, so a holder of the ticket can use any number of them. */
const MAX_KEYS = 4096;
