/**
 * Who is served next when a rendezvous has more to do than it can: the source that has cost least of late. So a flood slows
 * down those it comes from, and hardly anyone else. An IPv6 /64 is a source, and its /56 and /48 have debts of their own:
 * otherwise each new /64 of one attacker would be a newcomer.
 *
 * @module
 */

import { sourceKeys, WIDER_SHARES } from "../../net/source.ts";

/** What each source may cost. A message costs 1, and 1 for each client that it is sent to. */
export interface TurnLimits {
  /**
   * What one IPv4 address or IPv6 /64 may cost at once; beyond that, its messages wait. An IPv6 /56 may cost twice as much,
   * and a /48 four times.
   */
  readonly sourceBurst: number;
  /** What it may cost per second in the long run, and wider prefixes as above. If many sources use up their bursts, they share what sixteen may cost. */
  readonly sourcePerSecond: number;
}

/** Takes turns between the sources of a server's clients. */
export class FairTurns {
  readonly #limits: TurnLimits;
  /** What sources and wider prefixes have cost, divided by their shares: so the same limits apply to all. */
  readonly #debts = new Map<string, Debt>();
  readonly #waiting = new Map<string, Waiting>();
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
    return this.#worstOf(sourceKeys(ip)) <= this.#limits.sourceBurst;
  }

  /** Charges a source for something that cannot wait; `false` if it has cost far too much, and should be turned away. */
  charge(ip: string, cost: number): boolean {
    const keys = sourceKeys(ip);
    if (this.#worstOf(keys) > this.#limits.sourceBurst) return false;
    this.#add(keys, cost);
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
    const keys = sourceKeys(ip);
    const key = keys[0]!;
    if (this.#mayRunNow(keys)) {
      this.#spend(() => this.#add(keys, job()));
      return true;
    }
    const { promise, resolve, reject } = Promise.withResolvers<boolean>();
    const waiting = this.#waiting.get(key) ?? { keys, turns: [] };
    waiting.turns.push({ job, untilMs: performance.now() + maxWaitMs, resolve, reject });
    this.#waiting.set(key, waiting);
    this.#schedule(this.#worstOf(keys) > this.#limits.sourceBurst);
    return await promise;
  }

  /** From now on, nothing waits. */
  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#next?.timer);
    for (const { turns } of this.#waiting.values()) for (const { resolve } of turns) resolve(false);
    this.#waiting.clear();
  }

  #mayRunNow(keys: readonly string[]): boolean {
    if (this.#isClosed) return true;
    if (this.#waiting.has(keys[0]!) || !this.#hasSpareTime()) return false;
    const { sourceBurst } = this.#limits;
    return this.#worstOf(keys) <=
      (this.#waiting.size === 0 ? sourceBurst : sourceBurst / LIGHT_DIVISOR);
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
      const { keys, turns } = this.#waiting.get(key)!;
      const { job, resolve, reject } = turns.shift()!;
      if (turns.length === 0) this.#waiting.delete(key);
      try {
        this.#add(keys, job());
        resolve(true);
      } catch (error) {
        reject(error);
      }
    } while (performance.now() < startMs + SLICE_MS);
    if (this.#waiting.size > 0) this.#schedule(this.#cheapest() === undefined);
  }

  /** Turns of one source may have different ends, so all are looked at. */
  #endLate(nowMs: number): void {
    const isLate = ({ untilMs }: Turn) => untilMs <= nowMs;
    for (const [key, { keys, turns }] of this.#waiting) {
      if (!turns.some(isLate)) continue;
      for (const turn of turns) if (isLate(turn)) turn.resolve(false);
      const left = turns.filter((turn) => !isLate(turn));
      if (left.length === 0) this.#waiting.delete(key);
      else this.#waiting.set(key, { keys, turns: left });
    }
  }

  /** The waiting source that has cost least, if one may be served. If a wider prefix decides, its /64s take turns. */
  #cheapest(): string | undefined {
    const clock = this.#tick();
    let best: string | undefined;
    let [least, leastOwn] = [this.#limits.sourceBurst, Infinity];
    for (const [key, { keys }] of this.#waiting) {
      const worst = this.#worstOf(keys, clock);
      if (worst > least) continue;
      const own = keys.length === 1 ? worst : this.#debtOf(key, clock);
      if (worst === least && own > leastOwn) continue;
      [best, least, leastOwn] = [key, worst, own];
    }
    return best;
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

  /** The highest debt of a source and the wider prefixes of it. */
  #worstOf(keys: readonly string[], clock: Clock = this.#tick()): number {
    let worst = this.#debtOf(keys[0]!, clock);
    for (let i = 1; i < keys.length; i++) worst = Math.max(worst, this.#debtOf(keys[i]!, clock));
    return worst;
  }

  #add(keys: readonly string[], cost: number): void {
    for (const [wider, key] of keys.entries()) {
      const share = WIDER_SHARES[wider]!;
      this.#setDebt(key, { cost: this.#debtOf(key) + cost / share, share });
    }
  }

  #debtOf(key: string, { nowMs, slowMs }: Clock = this.#tick()): number {
    const debt = this.#debts.get(key);
    if (debt === undefined) return 0;
    const paidMs = (debt.isHigh ? slowMs : nowMs) - debt.atMs;
    return Math.max(0, debt.cost - paidMs / 1000 * this.#limits.sourcePerSecond);
  }

  /** If there are too many debts, the oldest is forgotten. */
  #setDebt(key: string, { cost, share }: Pick<Debt, "cost" | "share">): void {
    if (cost === 0) return;
    const { nowMs, slowMs } = this.#tick();
    const isHigh = cost > this.#limits.sourceBurst / 2;
    this.#debts.set(key, { cost, share, isHigh, atMs: isHigh ? slowMs : nowMs });
    if (this.#debts.size > MAX_DEBTS) this.#debts.delete(this.#debts.keys().next().value!);
  }

  #tick(): Clock {
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

  /** Forgets what is paid off, and returns how many sources have high debts. A wider prefix counts as its share. */
  #reviewDebts(): number {
    let high = 0;
    for (const [key, { share }] of this.#debts) {
      const cost = this.#debtOf(key);
      if (cost === 0) this.#debts.delete(key);
      else this.#setDebt(key, { cost, share }); // it may be high no longer
      if (this.#debts.get(key)?.isHigh) high += share;
    }
    return high;
  }
}

interface Clock {
  readonly nowMs: number;
  readonly slowMs: number;
}

interface Debt {
  /** Divided by the share. */
  readonly cost: number;
  /** How much more than a single source it may cost. */
  readonly share: number;
  readonly isHigh: boolean;
  /** When it was that high: by the slow clock if it is high. */
  readonly atMs: number;
}

/** The turns of one IPv4 address or IPv6 /64. */
interface Waiting {
  /** It and the wider prefixes of it. */
  readonly keys: readonly string[];
  readonly turns: Turn[];
}

interface Turn {
  readonly job: () => number;
  readonly untilMs: number;
  resolve(hasRun: boolean): void;
  reject(reason: unknown): void;
}

/** Chosen by us: new events wait at most this long, and one message takes 0.1 ms with all its subscribers. */
const SLICE_MS = 1;

/** Chosen by us: jobs that do not wait leave a quarter of the time to others. */
const SPARE_SHARE = 0.75;

/** Chosen by us: a source that has used an eighth of its burst may wait. A pair of peers that connects costs some 60. */
const LIGHT_DIVISOR = 8;

/** Chosen by us: more sources with high debts share what so many may cost, a third of a processor core. */
const HEAVY_SOURCES = 16;

/** Chosen by us: some megabytes. A debt of one connection is paid off and forgotten within a fifth of a second. */
const MAX_DEBTS = 2 ** 15;

/** Chosen by us: to review ten thousand debts takes a millisecond. */
const REVIEW_MS = 100;

/** Chosen by us: how long to pause while all who wait have cost too much. */
const PAUSE_MS = 10;
