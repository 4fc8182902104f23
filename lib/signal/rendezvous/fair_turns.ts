/**
 * Who is served next when a rendezvous has more to do than it can: the source that has cost least of late. So a flood slows
 * down those it comes from, and hardly anyone else.
 *
 * @module
 */

import { sourceKeys } from "../../net/source.ts";

/** What each source may cost. A message costs 1, and 1 for each client that it is sent to. */
export interface TurnLimits {
  /** What one IPv4 address or IPv6 /64 may cost at once; beyond that, its messages wait. */
  readonly sourceBurst: number;
  /** What it may cost per second in the long run. */
  readonly sourcePerSecond: number;
}

/** Takes turns between the sources of a server's clients. */
export class FairTurns {
  readonly #limits: TurnLimits;
  readonly #debts = new Map<string, Debt>();
  readonly #waiting = new Map<string, Turn[]>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #isClosed = false;

  constructor(limits: TurnLimits) {
    this.#limits = limits;
  }

  /** Charges a source for something that cannot wait; `false` if it has cost far too much, and should be turned away. */
  charge(ip: string, cost: number): boolean {
    const nowMs = performance.now();
    const key = keyOf(ip);
    const debt = this.#debtOf(key, nowMs);
    if (debt > this.#limits.sourceBurst) return false;
    this.#setDebt(key, debt + cost, nowMs);
    return true;
  }

  /**
   * Runs a job in its turn: at once if there is little to do.
   *
   * @param job returns what it has cost
   */
  async run(ip: string, job: () => number): Promise<void> {
    const nowMs = performance.now();
    const key = keyOf(ip);
    const isFree = this.#waiting.size === 0 && this.#debtOf(key, nowMs) <= this.#limits.sourceBurst;
    if (isFree || this.#isClosed) return this.#perform(key, job, nowMs);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const turns = this.#waiting.get(key) ?? [];
    turns.push({ job, resolve, reject });
    this.#waiting.set(key, turns);
    this.#schedule();
    await promise;
  }

  /** From now on, nothing waits. */
  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    for (const turns of this.#waiting.values()) for (const { resolve } of turns) resolve();
    this.#waiting.clear();
  }

  #schedule(waitMs = 0): void {
    this.#timer ??= setTimeout(() => this.#serve(), waitMs);
  }

  /** Works for a short time, and lets the system's events come in before it goes on. */
  #serve(): void {
    this.#timer = undefined;
    const startMs = performance.now();
    for (let nowMs = startMs; nowMs - startMs < SLICE_MS;) {
      const key = this.#cheapest(nowMs);
      if (key === undefined) break;
      const turns = this.#waiting.get(key)!;
      const { job, resolve, reject } = turns.shift()!;
      if (turns.length === 0) this.#waiting.delete(key);
      try {
        this.#perform(key, job, nowMs);
        resolve();
      } catch (error) {
        reject(error);
      }
      nowMs = performance.now();
    }
    if (this.#waiting.size > 0) {
      this.#schedule(this.#cheapest(performance.now()) === undefined ? PAUSE_MS : 0);
    }
    if (this.#debts.size > MAX_REMEMBERED) this.#forget();
  }

  /** The waiting source that has cost least, if one may be served. */
  #cheapest(nowMs: number): string | undefined {
    let [best, least]: [string | undefined, number] = [undefined, this.#limits.sourceBurst];
    for (const key of this.#waiting.keys()) {
      const debt = this.#debtOf(key, nowMs);
      if (debt <= least) [best, least] = [key, debt];
    }
    return best;
  }

  #perform(key: string, job: () => number, nowMs: number): void {
    this.#setDebt(key, this.#debtOf(key, nowMs) + job(), nowMs);
  }

  #debtOf(key: string, nowMs: number): number {
    const debt = this.#debts.get(key);
    if (debt === undefined) return 0;
    return Math.max(0, debt.cost - (nowMs - debt.atMs) / 1000 * this.#limits.sourcePerSecond);
  }

  #setDebt(key: string, cost: number, atMs: number): void {
    this.#debts.set(key, { cost, atMs });
  }

  #forget(): void {
    const nowMs = performance.now();
    for (const key of this.#debts.keys()) {
      if (this.#debtOf(key, nowMs) === 0) this.#debts.delete(key);
    }
  }
}

interface Debt {
  readonly cost: number;
  readonly atMs: number;
}

interface Turn {
  readonly job: () => number;
  resolve(): void;
  reject(reason: unknown): void;
}

/** All of an IPv6 /64 waits as one. */
function keyOf(ip: string): string {
  return sourceKeys(ip)[0]!;
}

/** Chosen by us: new events wait at most this long, and one message takes 0.1 ms with all its subscribers. */
const SLICE_MS = 2;

/** Chosen by us: how long to pause while all who wait have cost too much. */
const PAUSE_MS = 10;

/** Chosen by us: what is remembered of sources that have paid off their debt, 100 bytes each. */
const MAX_REMEMBERED = 4096;
