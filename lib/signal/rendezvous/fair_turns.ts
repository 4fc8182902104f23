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
  /** What it may cost per second in the long run. If many sources use up their bursts, they share what sixteen may cost. */
  readonly sourcePerSecond: number;
}

/** Takes turns between the sources of a server's clients. */
export class FairTurns {
  readonly #limits: TurnLimits;
  readonly #debts = new Map<string, Debt>();
  readonly #waiting = new Map<string, Turn[]>();
  #next: { readonly timer: ReturnType<typeof setTimeout>; readonly isPause: boolean } | undefined;
  #isClosed = false;
  /** High debts are paid off by `slowMs`, which falls behind while many sources have them. */
  #clock = { nowMs: performance.now(), slowMs: 0, speed: 1, nextReviewMs: 0 };
  /** How long jobs may take now without waiting. */
  #spare = { atMs: performance.now(), ms: SLICE_MS };

  constructor(limits: TurnLimits) {
    this.#limits = limits;
  }

  /** Whether a source has cost little enough for something that cannot wait. */
  admits(ip: string): boolean {
    return this.#debtOf(keyOf(ip)) <= this.#limits.sourceBurst;
  }

  /** Charges a source for something that cannot wait; `false` if it has cost far too much, and should be turned away. */
  charge(ip: string, cost: number): boolean {
    if (!this.admits(ip)) return false;
    const key = keyOf(ip);
    this.#setDebt(key, this.#debtOf(key) + cost);
    return true;
  }

  /**
   * Runs a job in its turn: at once if there is little to do, or if its source has cost little.
   *
   * @param job returns what it has cost
   * @param maxWaitMs how long it may wait
   * @returns whether it has run
   */
  async run(ip: string, job: () => number, maxWaitMs = Infinity): Promise<boolean> {
    const key = keyOf(ip);
    if (this.#mayRunNow(key)) {
      this.#spend(() => this.#perform(key, job));
      return true;
    }
    const { promise, resolve, reject } = Promise.withResolvers<boolean>();
    const turns = this.#waiting.get(key) ?? [];
    turns.push({ job, untilMs: performance.now() + maxWaitMs, resolve, reject });
    this.#waiting.set(key, turns);
    this.#schedule(this.#debtOf(key) > this.#limits.sourceBurst);
    return await promise;
  }

  /** From now on, nothing waits. */
  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#next?.timer);
    for (const turns of this.#waiting.values()) for (const { resolve } of turns) resolve(false);
    this.#waiting.clear();
  }

  #mayRunNow(key: string): boolean {
    if (this.#isClosed) return true;
    if (this.#waiting.has(key) || !this.#hasSpareTime()) return false;
    const { sourceBurst } = this.#limits;
    return this.#debtOf(key) <=
      (this.#waiting.size === 0 ? sourceBurst : sourceBurst / LIGHT_SHARE);
  }

  /** A source that may be served does not wait for the end of a pause that others have to make. */
  #schedule(isPause: boolean): void {
    if (this.#next !== undefined && (isPause || !this.#next.isPause)) return;
    clearTimeout(this.#next?.timer);
    this.#next = { timer: setTimeout(() => this.#serve(), isPause ? PAUSE_MS : 0), isPause };
  }

  /** Works for a short time, and lets the system's events come in before it goes on. */
  #serve(): void {
    this.#next = undefined;
    const startMs = performance.now();
    this.#endLate(startMs);
    do {
      const key = this.#cheapest();
      if (key === undefined) break;
      const turns = this.#waiting.get(key)!;
      const { job, resolve, reject } = turns.shift()!;
      if (turns.length === 0) this.#waiting.delete(key);
      try {
        this.#perform(key, job);
        resolve(true);
      } catch (error) {
        reject(error);
      }
    } while (performance.now() < startMs + SLICE_MS);
    if (this.#waiting.size > 0) this.#schedule(this.#cheapest() === undefined);
  }

  #endLate(nowMs: number): void {
    for (const [key, turns] of this.#waiting) {
      while (turns.length > 0 && turns[0]!.untilMs <= nowMs) turns.shift()!.resolve(false);
      if (turns.length === 0) this.#waiting.delete(key);
    }
  }

  /** The waiting source that has cost least, if one may be served. */
  #cheapest(): string | undefined {
    const clock = this.#tick();
    let [best, least]: [string | undefined, number] = [undefined, this.#limits.sourceBurst];
    for (const key of this.#waiting.keys()) {
      const debt = this.#debtOf(key, clock);
      if (debt <= least) [best, least] = [key, debt];
    }
    return best;
  }

  #perform(key: string, job: () => number): void {
    const cost = job();
    this.#setDebt(key, this.#debtOf(key) + cost);
  }

  #hasSpareTime(): boolean {
    const nowMs = performance.now();
    const { atMs, ms } = this.#spare;
    this.#spare = { atMs: nowMs, ms: Math.min(SLICE_MS, ms + (nowMs - atMs) * SPARE_SHARE) };
    return this.#spare.ms > 0;
  }

  #spend(act: () => void): void {
    const startMs = performance.now();
    act();
    this.#spare = { ...this.#spare, ms: this.#spare.ms - (performance.now() - startMs) };
  }

  #debtOf(key: string, { nowMs, slowMs } = this.#tick()): number {
    const debt = this.#debts.get(key);
    if (debt === undefined) return 0;
    const paidMs = (debt.isHigh ? slowMs : nowMs) - debt.atMs;
    return Math.max(0, debt.cost - paidMs / 1000 * this.#limits.sourcePerSecond);
  }

  #setDebt(key: string, cost: number): void {
    const { nowMs, slowMs } = this.#tick();
    const isHigh = cost > this.#limits.sourceBurst / 2;
    this.#debts.set(key, { cost, isHigh, atMs: isHigh ? slowMs : nowMs });
  }

  #tick(): { readonly nowMs: number; readonly slowMs: number } {
    const clock = this.#clock;
    const nowMs = performance.now();
    clock.slowMs += (nowMs - clock.nowMs) * clock.speed;
    clock.nowMs = nowMs;
    if (nowMs >= clock.nextReviewMs) {
      clock.nextReviewMs = nowMs + REVIEW_MS;
      clock.speed = Math.min(1, HEAVY_SOURCES / this.#reviewDebts());
    }
    return clock;
  }

  /** Forgets what is paid off, and returns how many sources have high debts. */
  #reviewDebts(): number {
    let high = 0;
    for (const key of this.#debts.keys()) {
      const cost = this.#debtOf(key);
      if (cost === 0) this.#debts.delete(key);
      else this.#setDebt(key, cost); // it may be high no longer
      if (this.#debts.get(key)?.isHigh) high++;
    }
    return high;
  }
}

interface Debt {
  readonly cost: number;
  readonly isHigh: boolean;
  /** When it was that high: by the slow clock if it is high. */
  readonly atMs: number;
}

interface Turn {
  readonly job: () => number;
  readonly untilMs: number;
  resolve(hasRun: boolean): void;
  reject(reason: unknown): void;
}

/** All of an IPv6 /64 waits as one. */
function keyOf(ip: string): string {
  return sourceKeys(ip)[0]!;
}

/** Chosen by us: new events wait at most this long, and one message takes 0.1 ms with all its subscribers. */
const SLICE_MS = 1;

/** Chosen by us: jobs that do not wait leave a quarter of the time to others. */
const SPARE_SHARE = 0.75;

/** Chosen by us: a source that has used an eighth of its burst may wait. A pair of peers that connects costs some 60. */
const LIGHT_SHARE = 8;

/** Chosen by us: more sources with high debts share what so many may cost, a third of a processor core. */
const HEAVY_SOURCES = 16;

/** Chosen by us: to review ten thousand debts takes a millisecond. */
const REVIEW_MS = 100;

/** Chosen by us: how long to pause while all who wait have cost too much. */
const PAUSE_MS = 10;
