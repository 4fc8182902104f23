/**
 * When to ask for a lease again: RFC 6887 §11.2.1, which does for all three protocols.
 *
 * @module
 */

import type { Logger } from "../base/logger.ts";
import { WaitQueue } from "../base/wait_queue.ts";
import type { Network } from "../net/network.ts";
import { AnnouncementFeed, type GatewayAnnouncement } from "./announcements.ts";
import {
  checkLease,
  hearAnnouncement,
  isEpochConsistent,
  isSameOutside,
  RESTARTED,
} from "./lease_check.ts";
import { isOfGateway, type MappingGrant } from "./mapper.ts";
import { type HeldGrant, type RaceResult, releaseHeld } from "./race.ts";
import { delay } from "@std/async/delay";

/** How long a gateway keeps a port open, and since when. */
export interface Lease {
  /** `Infinity` if it never expires. */
  readonly lifetimeSeconds: number;
  /** When the answer came, on the clock of `performance.now()`. */
  readonly grantedAtMs: number;
}

/** When a lease is over, on the clock of `performance.now()`. */
export function expiryMs({ lifetimeSeconds, grantedAtMs }: Lease): number {
  return grantedAtMs + lifetimeSeconds * 1000;
}

/**
 * When to renew a lease, on the clock of `performance.now()`: between 1/2 and 5/8 of its lifetime; if that fails
 * between 3/4 and 13/16, and so on, half of what is left each time. `Infinity` if nothing is left to try, because
 * it would be less than 4 s after the last time, or the lease never expires.
 *
 * @param attempt how many renewals of this lease have failed
 * @param random from 0 to 1, so that hosts do not ask in step
 */
export function renewalMs(lease: Lease, attempt: number, random: number): number {
  const { lifetimeSeconds, grantedAtMs } = lease;
  if (lifetimeSeconds === Infinity) return Infinity;
  const share = 2 ** -(attempt + 1);
  if (attempt > 0 && lifetimeSeconds * share < MIN_INTERVAL_SECONDS) return Infinity;
  return grantedAtMs + lifetimeSeconds * 1000 * (1 - share + random * share / 4);
}

/**
 * How long to wait before the next try to repair a mapping.
 *
 * @param failures how many tries have failed since it last worked; at least 1
 */
export function repairDelayMs(failures: number): number {
  return Math.min(MIN_INTERVAL_SECONDS * 2 ** (failures - 1), MAX_REPAIR_SECONDS) * 1000;
}

/**
 * How long to wait before mappings are made anew after the gateway has lost them all: RFC 6887 §8.5, RFC 6886 §3.7.
 *
 * @param random from 0 to 1
 */
export function restartDelayMs(random: number): number {
  return random * MAX_RESTART_DELAY_MS;
}

/** RFC 6887 §11.2.1. */
export const MIN_INTERVAL_SECONDS = 4;

/** RFC 6887 §8.5: all hosts of a home ask at once otherwise. */
const MAX_RESTART_DELAY_MS = 5000;

/** Ours: a router that comes back is noticed within minutes, and one that does not costs a few packets an hour. */
const MAX_REPAIR_SECONDS = 300;

/** What became of a mapping. */
export interface LeaseNews {
  readonly event: "mapped" | "renewed" | "changed" | "lost";
  /** Why; for what is not a renewal. */
  readonly reason?: string;
}

/** What {@linkcode LeaseRenewer} takes. */
export interface LeaseRenewerOptions {
  readonly network: Network;
  /** What to ask for at each renewal. */
  readonly lifetimeSeconds: number;
  /** How often to look; `Infinity` for never. */
  readonly checkSeconds: number;
  /** Whether to hear announcements: they do not come from other links. */
  readonly listens: boolean;
  /** Gets a new mapping by whatever works now. */
  readonly race: (signal: AbortSignal) => Promise<RaceResult>;
  readonly onNews: (news: LeaseNews) => void;
  readonly logger?: Logger;
}

/** Keeps a mapping until it is disposed, which releases it. */
export class LeaseRenewer implements AsyncDisposable {
  readonly #options: LeaseRenewerOptions;
  readonly #ended = new AbortController();
  readonly #announced = new WaitQueue<GatewayAnnouncement>(MAX_ANNOUNCEMENTS);
  #held: HeldGrant;
  /** Grants of the same port by other protocols, to be released after it. */
  #twins: HeldGrant[] = [];
  /** What is still to be heard of losers. */
  #losers: Promise<void> = Promise.resolve();
  #isLost = false;
  /** Renewals of this lease that failed. */
  #failures = 0;
  #renewAtMs = 0;
  #checkAtMs = 0;
  #retryAtMs = Infinity;
  #lastAskedMs = -Infinity;
  #feed: AnnouncementFeed | undefined;
  /** Those before it, which end. */
  readonly #feeds: (Promise<void> | undefined)[] = [];
  readonly #keeping: Promise<void>;

  /** @param result what to keep */
  constructor(result: RaceResult, options: LeaseRenewerOptions) {
    this.#options = options;
    this.#held = result.winner;
    this.#hold(result.winner);
    this.#hear(result.losers);
    this.#listen();
    this.#keeping = this.#keep(this.#ended.signal);
    this.#keeping.catch(() => {}); // whoever disposes is told
  }

  /** The latest grant; of a mapping that is lost, the last. */
  get held(): HeldGrant {
    return this.#held;
  }

  /** Whether the mapping is gone, and no other was got yet. */
  get isLost(): boolean {
    return this.#isLost;
  }

  /** Stops keeping it, and lets it be. */
  async leave(): Promise<void> {
    this.#ended.abort(ENDED);
    await Promise.all([...this.#feeds, this.#feed?.stop()]);
    await this.#losers;
    await this.#keeping;
  }

  /** Whether the gateway confirmed the release. */
  async release(): Promise<boolean> {
    await this.leave();
    const warn = (problem: unknown) => this.#warn(problem);
    const isReleased = await releaseHeld(this.#held, warn);
    for (const twin of this.#twins.splice(0)) await releaseHeld(twin);
    return isReleased || this.#isLost;
  }

  /** As {@linkcode LeaseRenewer.release}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.release();
  }

  async #keep(signal: AbortSignal): Promise<void> {
    try {
      while (true) {
        const announcement = await this.#nextAnnouncement(signal);
        if (announcement !== undefined) await this.#onAnnouncement(announcement, signal);
        else await this.#onTime(signal);
      }
    } catch (error) {
      if (error !== ENDED) throw error;
    }
  }

  /** `undefined` when it is time for something. */
  async #nextAnnouncement(signal: AbortSignal): Promise<GatewayAnnouncement | undefined> {
    const dueMs = Math.min(this.#renewAtMs, this.#checkAtMs, this.#retryAtMs, this.#lossMs());
    const timer = new AbortController();
    const waitMs = Math.min(Math.max(0, dueMs - performance.now()), MAX_TIMER_MS);
    const id = setTimeout(() => timer.abort(TIME), waitMs);
    try {
      return await this.#announced.next(AbortSignal.any([signal, timer.signal]));
    } catch (error) {
      if (error !== TIME) throw error;
      return undefined;
    } finally {
      clearTimeout(id);
    }
  }

  /** When a mapping that cannot be renewed is over. */
  #lossMs(): number {
    return this.#isLost ? Infinity : expiryMs(this.#held.grant);
  }

  async #onTime(signal: AbortSignal): Promise<void> {
    const nowMs = performance.now();
    if (nowMs >= this.#lossMs()) this.#lose("the lease is over");
    if (this.#isLost || nowMs >= this.#retryAtMs) return await this.#repair(signal);
    if (nowMs >= this.#renewAtMs) return await this.#renew(signal);
    if (nowMs >= this.#checkAtMs) await this.#check(signal);
  }

  async #onAnnouncement(announcement: GatewayAnnouncement, signal: AbortSignal): Promise<void> {
    // Anybody on the link can forge announcements: they make us ask no more often than leases may.
    if (performance.now() < this.#lastAskedMs + MIN_INTERVAL_SECONDS * 1000) return;
    const meaning = hearAnnouncement(this.#held.grant, announcement);
    if (meaning === "look" && !this.#isLost) return await this.#check(signal);
    this.#lose(RESTARTED);
    await delay(restartDelayMs(Math.random()), { signal });
    await this.#renew(signal);
  }

  async #check(signal: AbortSignal): Promise<void> {
    this.#checkAtMs = performance.now() + this.#options.checkSeconds * 1000;
    this.#lastAskedMs = performance.now();
    try {
      const finding = await checkLease(this.#held, signal);
      switch (finding.kind) {
        case "fine":
          this.#held = { ...this.#held, grant: finding.grant };
          return;
        case "changed":
          return this.#adopt({ ...this.#held, grant: finding.grant });
        case "remade":
          this.#lose(finding.reason);
          return this.#adopt({ ...this.#held, grant: finding.grant });
        case "lost":
          this.#lose(finding.reason);
          if (finding.restarted) await delay(restartDelayMs(Math.random()), { signal });
          return await this.#renew(signal);
      }
    } catch (error) {
      signal.throwIfAborted();
      if (!isOfGateway(error)) throw error;
      this.#warn(error);
      await this.#renew(signal);
    }
  }

  async #renew(signal: AbortSignal): Promise<void> {
    const { mapper, grant } = this.#held;
    this.#lastAskedMs = performance.now();
    try {
      const { lifetimeSeconds } = this.#options;
      this.#adopt({
        ...this.#held,
        grant: await mapper.renew(grant, { lifetimeSeconds, signal }),
      });
    } catch (error) {
      signal.throwIfAborted();
      if (!isOfGateway(error)) throw error;
      this.#warn(error);
      await this.#repair(signal);
    }
  }

  /** All protocols and gateways again: the one that worked may be gone. */
  async #repair(signal: AbortSignal): Promise<void> {
    this.#lastAskedMs = performance.now();
    try {
      const { winner, losers } = await this.#options.race(signal);
      this.#replace(this.#held, winner);
      this.#adopt(winner);
      this.#hear(losers);
      this.#listen();
    } catch (error) {
      signal.throwIfAborted();
      if (!isOfGateway(error)) throw error;
      this.#warn(error);
      this.#failures++;
      const nowMs = performance.now();
      this.#retryAtMs = nowMs + repairDelayMs(this.#failures);
      const nextMs = renewalMs(this.#held.grant, this.#failures, Math.random());
      this.#renewAtMs = nextMs > nowMs ? nextMs : Infinity;
      this.#checkAtMs = Infinity;
    }
  }

  /** What another protocol granted before may still be open, and is released in the end. */
  #replace({ mapper, grant, gateway }: HeldGrant, after: HeldGrant): void {
    const isSame = (held: HeldGrant) =>
      held.grant.mapper === grant.mapper && held.grant.gateway === grant.gateway;
    if (isSame(after)) return;
    this.#twins = [...this.#twins.filter((twin) => !isSame(twin)), { mapper, grant, gateway }];
  }

  #adopt(after: HeldGrant): void {
    const { grant: before } = this.#held;
    const { grant } = after;
    const wasLost = this.#isLost;
    const isRestarted = after.mapper === this.#held.mapper &&
      !isEpochConsistent(before, grant.epoch);
    if (isRestarted) this.#lose(RESTARTED);
    this.#isLost = false;
    this.#hold(after);
    if (wasLost || isRestarted) return this.#tell({ event: "mapped", reason: "made anew" });
    const reason = differenceOf(before, grant);
    this.#tell(reason === undefined ? { event: "renewed" } : { event: "changed", reason });
  }

  #hold(held: HeldGrant): void {
    this.#held = held;
    this.#failures = 0;
    this.#retryAtMs = Infinity;
    this.#renewAtMs = renewalMs(held.grant, 0, Math.random());
    this.#checkAtMs = performance.now() + this.#options.checkSeconds * 1000;
  }

  #lose(reason: string): void {
    if (this.#isLost) return;
    this.#isLost = true;
    this.#retryAtMs = performance.now();
    this.#tell({ event: "lost", reason });
  }

  #hear(losers: Promise<readonly HeldGrant[]>): void {
    const before = this.#losers;
    this.#losers = losers.then(async (twins) => {
      await before;
      this.#twins.push(...twins);
    });
    this.#losers.catch(() => {}); // whoever disposes is told
  }

  /** Hears the gateway of the grant that is held now, and no other. */
  #listen(): void {
    if (!this.#options.listens) return;
    this.#feeds.push(this.#feed?.stop());
    const { network } = this.#options;
    this.#feed = new AnnouncementFeed(network, this.#held.gateway, {
      onAnnouncement: (announcement) => this.#announced.push(announcement),
      onProblem: (problem) => this.#warn(problem),
    });
  }

  #tell(news: LeaseNews): void {
    this.#options.onNews(news);
  }

  #warn(problem: unknown): void {
    this.#options.logger?.warn(problem instanceof Error ? problem.message : String(problem));
  }
}

/** What is different from outside, or for who reads it; `undefined` if nothing. */
function differenceOf(before: MappingGrant, after: MappingGrant): string | undefined {
  if (!isSameOutside(before, after)) {
    return before.external.port === after.external.port
      ? `the address outside was ${before.external.ip}`
      : `the port outside was ${before.external.port}`;
  }
  if (before.mapper !== after.mapper || before.gateway !== after.gateway) {
    return `${before.mapper} at ${before.gateway} works no more`;
  }
  return undefined;
}

const ENDED = new DOMException("The mapping is kept no more", "AbortError");
const TIME = new DOMException("It is time", "TimeoutError");

/** Ours: a gateway repeats an announcement ten times (RFC 6886 §3.2.1), and the first of them will do. */
const MAX_ANNOUNCEMENTS = 4;

/** What a timer of the platform can wait at most. */
const MAX_TIMER_MS = 2 ** 31 - 1;
