/**
 * What counts as one source of connections or requests, and how much each gets. A host may have all of an IPv6 /64, a home
 * all of a /56 and a company all of a /48 (RFC 6177), so each of these is limited.
 *
 * @module
 */

import { type Rate, RateLimiter } from "../base/rate_limiter.ts";
import { ipToBytes } from "./address.ts";
import { unmapped } from "./ip_prefix.ts";

/** How many connections a server accepts. */
export interface ConnectionLimits {
  /** Open connections; more are reset. */
  readonly maxConnections: number;
  /** Open connections of one IPv4 address or IPv6 /64; an IPv6 /56 may have twice as many, and a /48 four times. */
  readonly maxConnectionsPerSource: number;
  /** The share of all connections, from 0 to 1, that is left to sources with fewer than four. Default: 0. */
  readonly reservedShare?: number;
}

/** How many of something each source has. */
export interface SourceCounts {
  /** How many it has. */
  count(key: string): number;
  /** Counts one more; `false`, and counts none, if there are `max` already. */
  take(key: string, max: number): boolean;
  /** Counts one less. */
  release(key: string): void;
}

/** Counts of a server without further threads. */
export class LocalSourceCounts implements SourceCounts {
  readonly #counts = new Map<string, number>();

  count(key: string): number {
    return this.#counts.get(key) ?? 0;
  }

  take(key: string, max: number): boolean {
    const count = this.count(key);
    if (count >= max) return false;
    this.#counts.set(key, count + 1);
    return true;
  }

  release(key: string): void {
    const left = this.count(key) - 1;
    if (left === 0) this.#counts.delete(key);
    else this.#counts.set(key, left);
  }
}

/** Open connections, by source. */
export class ConnectionCounts {
  readonly #limits: ConnectionLimits;
  readonly #counts: SourceCounts;
  #total = 0;

  /** @param counts of several threads, if there are any */
  constructor(limits: ConnectionLimits, counts: SourceCounts = new LocalSourceCounts()) {
    this.#limits = limits;
    this.#counts = counts;
  }

  /** How many connections are open. */
  get total(): number {
    return this.#total;
  }

  /** Counts a connection, unless there are too many; call the result once when it has ended. */
  admit(ip: string): (() => void) | undefined {
    const releaseFromTotal = this.admitUnknown();
    if (releaseFromTotal === undefined) return undefined;
    const releaseFromSource = this.attribute(ip);
    if (releaseFromSource === undefined) return void releaseFromTotal();
    return () => {
      releaseFromTotal();
      releaseFromSource();
    };
  }

  /** Whether it is others that keep a connection of this source out. */
  isFullOfOthers(ip: string): boolean {
    const { maxConnections, maxConnectionsPerSource } = this.#limits;
    return this.#total >= maxConnections &&
      sourceKeys(ip).every((key, wider) =>
        this.#counts.count(key) < Math.min(NEW_SOURCE_CONNECTIONS, maxConnectionsPerSource) *
            WIDER_SHARES[wider]!
      );
  }

  /** As {@linkcode ConnectionCounts.admit}, for a connection whose source is not known yet. */
  admitUnknown(): (() => void) | undefined {
    if (this.#total >= this.#limits.maxConnections) return undefined;
    this.#total++;
    return () => this.#total--;
  }

  /** Counts a connection of {@linkcode ConnectionCounts.admitUnknown} for its source. */
  attribute(ip: string): (() => void) | undefined {
    if (this.#isReserved(ip)) return undefined;
    const taken: string[] = [];
    const release = () => taken.splice(0).forEach((key) => this.#counts.release(key));
    for (const [wider, key] of sourceKeys(ip).entries()) {
      const max = this.#limits.maxConnectionsPerSource * WIDER_SHARES[wider]!;
      if (!this.#counts.take(key, max)) return void release();
      taken.push(key);
    }
    return release;
  }

  /** Whether only newer sources may have the connection that was counted last. */
  #isReserved(ip: string): boolean {
    const { maxConnections, reservedShare = 0 } = this.#limits;
    if (this.#total <= maxConnections - Math.floor(maxConnections * reservedShare)) return false;
    return sourceKeys(ip).some((key, wider) =>
      this.#counts.count(key) >= NEW_SOURCE_CONNECTIONS * WIDER_SHARES[wider]!
    );
  }
}

/** One token bucket for each source and for the wider prefixes of it, in a fixed amount of memory. */
export class SourceRateLimiter {
  readonly #limiters: readonly RateLimiter[];

  /**
   * @param rate for an IPv4 address or IPv6 /64; an IPv6 /56 has twice as much, and a /48 four times
   * @param seed any 32 bits that others cannot guess
   */
  constructor({ burst, perSecond }: Rate, seed: number) {
    this.#limiters = WIDER_SHARES.map((share) =>
      new RateLimiter({ burst: burst * share, perSecond: perSecond * share }, seed)
    );
  }

  /**
   * Takes tokens; `false` if there are too few.
   *
   * @param nowMs the current time, from a clock that never goes back
   */
  take(ip: string, amount: number, nowMs: number): boolean {
    if (!ip.includes(":")) return this.#limiters[0]!.take(ip, amount, nowMs);
    return sourceKeys(ip).every((key, wider) => this.#limiters[wider]!.take(key, amount, nowMs));
  }

  /** Whether {@linkcode SourceRateLimiter.take} would take that many. */
  has(ip: string, amount: number, nowMs: number): boolean {
    return sourceKeys(ip).every((key, wider) => this.#limiters[wider]!.has(key, amount, nowMs));
  }
}

/** The keys of an address: the source itself, and the wider prefixes of an IPv6 address, in the order of their size. */
export function sourceKeys(ip: string): string[] {
  const plain = unmapped(ip);
  if (!plain.includes(":")) return [plain];
  const bytes = ipToBytes(plain);
  return PREFIX_BYTES.map((length) => `${bytes.subarray(0, length).join(".")}/${8 * length}`);
}

/** /64, /56 and /48. */
const PREFIX_BYTES = [8, 7, 6];

/** Chosen by us: how much more a /56 and a /48 may have than a /64. Homes and companies have several networks. */
export const WIDER_SHARES = [1, 2, 4];

/** Chosen by us: a peer has one connection or two, and others may be behind the same NAT. */
const NEW_SOURCE_CONNECTIONS = 4;
