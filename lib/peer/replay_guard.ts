/**
 * Rejects replayed, stale and excessive connection requests. Only requests of ticket holders get this far.
 *
 * @module
 */

import { toHex } from "../base/bytes.ts";
import { TokenBucket } from "../base/rate_limiter.ts";
import { type Clocks, steadyTimeMs } from "../base/timers.ts";

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
export type ReplayVerdict = "fresh" | "replay" | "wrong-clock" | "too-many";

/** A request, as far as a {@linkcode ReplayGuard} looks at it. */
export interface GuardedRequest {
  /** The initiator's ephemeral key, which no two requests share. */
  readonly ephemeralKey: Uint8Array;
  /** The initiator's public key. */
  readonly remoteKey: Uint8Array;
  /** Milliseconds since 1970, by the initiator's clock. */
  readonly sentAtMs: number;
  /** What it resumes; `null` for a new connection, or if the initiator does not say how old the connection is. */
  readonly resumed: ResumedConnection | null;
}

/** The connection that a request resumes. */
export interface ResumedConnection {
  /** When it was made, by this side's clocks. */
  readonly madeAt: Clocks;
  /** How old it is, by a clock of the initiator that never jumps. */
  readonly ageMs: number;
  /** What the last request for it said about that; `-1` before the first. */
  readonly lastAgeMs: number;
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
  judge(request: GuardedRequest, clocks: Clocks): ReplayVerdict {
    const { nowMs } = clocks;
    const { maxClockDifferenceMs, maxRemembered, maxRememberedPerKey } = this.#limits;
    const { resumed } = request;
    if (resumed !== null && resumed.ageMs <= resumed.lastAgeMs) return "replay";
    // A stale request gets the same answer every time, so there is nothing to remember.
    if (!(clockDifferenceMs(request, clocks) <= maxClockDifferenceMs)) return "wrong-clock";
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

/**
 * By how much the clocks of the two sides differ. Those of a connection did not differ when it was made, but one of them may
 * have been set since then, or have stood still while its host slept. So each side has two: its wall clock, and the time
 * at which the connection was made plus the age of the connection. One pair has to agree. That a request for a connection
 * may pass by several clocks makes no replay possible: each is younger than those before it.
 */
function clockDifferenceMs(
  { sentAtMs, resumed }: GuardedRequest,
  { nowMs, wallMs }: Clocks,
): number {
  if (resumed === null) return Math.abs(wallMs - sentAtMs);
  const { madeAt, ageMs } = resumed;
  const theirs = [sentAtMs, madeAt.wallMs + ageMs];
  const ours = [wallMs, steadyTimeMs(madeAt, nowMs)];
  return Math.min(...theirs.flatMap((their) => ours.map((our) => Math.abs(our - their))));
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
