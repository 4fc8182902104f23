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
  /** How many requests are remembered; at the limit, the oldest is forgotten. */
  readonly maxRemembered: number;
  /** How many requests of one key are remembered; at the limit, the oldest of this key is forgotten. */
  readonly maxRememberedPerKey: number;
  /** How many requests of one key are accepted at once. */
  readonly burstPerKey: number;
  /** How many more of that key are accepted each second. */
  readonly perKeyPerSecond: number;
}

/** What to do about an authentic request. */
export type ReplayVerdict = "fresh" | "wrong-clock" | "too-many";

/** A request, as far as a {@linkcode ReplayGuard} looks at it. */
export interface GuardedRequest {
  /** The initiator's ephemeral key, which no two requests share. */
  readonly ephemeralKey: Uint8Array;
  /** The initiator's public key. */
  readonly remoteKey: Uint8Array;
  /** Milliseconds since 1970, by the initiator's clock. */
  readonly sentAtMs: number;
}

/** The time, by two clocks. */
export interface GuardClocks {
  /** Milliseconds on a clock that never goes back or jumps: how long to remember. */
  readonly nowMs: number;
  /** Milliseconds since 1970: whether a request is fresh. */
  readonly wallMs: number;
}

/**
 * Remembers connection requests, in bounded memory. A key that sends too much loses its own memory first, and
 * a request that was dropped can be repeated a second later.
 */
export class ReplayGuard {
  readonly #limits: ReplayLimits;
  /** The requests that have arrived; oldest first. */
  readonly #known = new Map<string, { readonly key: string; readonly untilMs: number }>();
  /** What is known about a key; the one that was quiet for longest first. */
  readonly #keys = new Map<string, KeyMemory>();

  constructor(limits: ReplayLimits = REPLAY_LIMITS) {
    this.#limits = limits;
  }

  /** Whether this request has arrived before. Ask this first: it takes no decryption. */
  isReplay(ephemeralKey: Uint8Array, nowMs: number): boolean {
    this.#forgetOld(nowMs);
    return this.#known.has(nameOf(ephemeralKey));
  }

  /** Judges an authentic request, and remembers it if it is fresh. */
  judge(request: GuardedRequest, { nowMs, wallMs }: GuardClocks): ReplayVerdict {
    const { maxClockDifferenceMs, maxRemembered, maxRememberedPerKey } = this.#limits;
    // A stale request gets the same answer every time, so there is nothing to remember.
    const differenceMs = Math.abs(wallMs - request.sentAtMs);
    if (!(differenceMs <= maxClockDifferenceMs)) return "wrong-clock";
    const key = toHex(request.remoteKey);
    const memory = this.#memoryOf(key, nowMs);
    if (!memory.bucket.take(nowMs)) return "too-many";
    this.#forgetOld(nowMs);
    if (memory.requests.size >= maxRememberedPerKey) this.#forget(first(memory.requests));
    if (this.#known.size >= maxRemembered) this.#forget(first(this.#known.keys()));
    const name = nameOf(request.ephemeralKey);
    this.#known.set(name, { key, untilMs: nowMs + 2 * maxClockDifferenceMs });
    memory.requests.add(name);
    return "fresh";
  }

  #forgetOld(nowMs: number): void {
    for (const [name, { untilMs }] of this.#known) {
      if (untilMs > nowMs) break;
      this.#forget(name);
    }
  }

  #forget(name: string): void {
    const request = this.#known.get(name);
    if (request === undefined) return;
    this.#known.delete(name);
    this.#keys.get(request.key)?.requests.delete(name);
  }

  #memoryOf(key: string, nowMs: number): KeyMemory {
    const { burstPerKey, perKeyPerSecond } = this.#limits;
    const rate = { burst: burstPerKey, perSecond: perKeyPerSecond };
    const memory = this.#keys.get(key) ??
      { bucket: new TokenBucket(rate, nowMs), requests: new Set<string>() };
    this.#keys.delete(key); // the newest is last
    if (this.#keys.size >= MAX_KEYS) this.#keys.delete(first(this.#keys.keys()));
    this.#keys.set(key, memory);
    return memory;
  }
}

interface KeyMemory {
  readonly bucket: TokenBucket;
  /** Its requests that are remembered; oldest first. */
  readonly requests: Set<string>;
}

/** 64 bits are enough to tell requests apart: the next key of another initiator cannot be guessed. */
function nameOf(ephemeralKey: Uint8Array): string {
  return toHex(ephemeralKey.subarray(0, 8));
}

/** @param names at least one */
function first(names: Iterable<string>): string {
  for (const name of names) return name;
  throw new RangeError("Cannot forget: there is nothing to forget");
}

/** Chosen by us, see each. */
export const REPLAY_LIMITS: ReplayLimits = {
  /** A clock that is never set drifts by minutes a year; TLS certificates forgive less. */
  maxClockDifferenceMs: 10 * 60 * 1000,
  /** Less than 8 MiB. Filling it takes 27 connections a second for 20 minutes, by several keys. */
  maxRemembered: 32_768,
  /** One key cannot make the peer forget the requests of others. */
  maxRememberedPerKey: 8192,
  /** Each request may become a connection, and costs half a millisecond until then. */
  burstPerKey: 256,
  /** A browser behind a forwarded port needs some dozens; it costs at most a tenth of a core. */
  perKeyPerSecond: 128,
};

/** Chosen by us: keys cost nothing, so a holder of the ticket can use any number of them. */
const MAX_KEYS = 4096;
