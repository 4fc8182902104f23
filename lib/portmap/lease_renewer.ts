/**
 * Keeps a mapping open: carries out what the lease engine decides, with the gateway's answers as its events.
 *
 * @module
 */

import { messageOf, PunchlineError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import { TaskGroup } from "../base/tasks.ts";
import { MAX_TIMER_MS, ResettableTimer, WakeableDelay } from "../base/timers.ts";
import type { Network } from "../net/network.ts";
import { followAnnouncements, type GatewayAnnouncement } from "./announcements.ts";
import { checkLease } from "./lease_check.ts";
import {
  expiryMs,
  type LeaseAction,
  type LeaseEvent,
  type LeaseMoment,
  type LeaseNews,
  type LeaseState,
  openLease,
  stepLease,
} from "./lease_engine.ts";
import type { MappingGrant } from "./mapper.ts";
import { type HeldGrant, type RaceResult, releaseGrant } from "./race.ts";

/** What {@linkcode LeaseRenewer} takes. */
export interface LeaseRenewerOptions {
  readonly network: Network;
  /** The lifetime to ask for at each renewal. */
  readonly lifetimeSeconds: number;
  /** How often to check the mapping; `Infinity` for never. */
  readonly checkSeconds: number;
  /** Whether to listen to announcements, which do not arrive from other links. */
  readonly listens: boolean;
  /** Gets a new mapping by whatever works now; `held` is what this one was granted before, the latest grant first. */
  readonly race: (signal: AbortSignal, held: readonly MappingGrant[]) => Promise<RaceResult>;
  /** Called with what happens to the mapping. */
  readonly onNews: (news: LeaseNews) => void;
  readonly logger?: Logger;
}

/** Keeps a mapping open until it is disposed, which releases it. */
export class LeaseRenewer implements AsyncDisposable {
  readonly #options: LeaseRenewerOptions;
  /** The mapper and the gateway of each grant. */
  readonly #holders = new Map<string, Omit<HeldGrant, "grant">>();
  readonly #announcements: GatewayAnnouncement[] = [];
  readonly #delay = new WakeableDelay();
  readonly #faults: unknown[] = [];
  readonly #keeping = new TaskGroup((fault) => this.#faults.push(fault));
  /** Races and listeners that have ended, but are not finished yet. */
  readonly #endings = new TaskGroup((fault) => this.#faults.push(fault));
  #listening: TaskGroup | undefined;
  #state: LeaseState;

  /** @param result the mapping to keep, and its duplicates */
  constructor(result: RaceResult, options: LeaseRenewerOptions) {
    this.#options = options;
    const grant = this.#hold(result);
    const { state, actions } = openLease(grant, options, moment());
    this.#state = state;
    this.#keeping.run((signal) => this.#keep(actions, signal));
  }

  /** The latest grant; while the mapping is lost, the last one. */
  get held(): HeldGrant {
    return this.#heldOf(this.#state.grant);
  }

  /** Whether the mapping is gone and not yet replaced. */
  get isLost(): boolean {
    return this.#state.isLost;
  }

  /**
   * Stops renewing the mapping, and leaves it open.
   *
   * @throws a fault of this program that ended the renewals
   */
  async leave(): Promise<void> {
    await this.#keeping.stop(ENDED);
    await Promise.all([this.#endings.stop(), this.#listening?.stop()]);
    if (this.#faults.length > 0) throw this.#faults[0];
    this.#step({ kind: "leave" });
  }

  /**
   * Closes the mapping, and its duplicates.
   *
   * @returns why the port may still be open; `undefined` if the gateway has closed it
   */
  async release(): Promise<string | undefined> {
    await this.leave();
    const actions = this.#step({ kind: "release" });
    const grants = actions.flatMap((action) => action.kind === "release" ? action.grants : []);
    const [own, ...duplicates] = grants.map((grant) => this.#heldOf(grant));
    const problem = own && await releaseGrant(own, (problem) => this.#warn(problem));
    for (const duplicate of duplicates) await releaseGrant(duplicate);
    return this.isLost ? undefined : problem;
  }

  /** As {@linkcode LeaseRenewer.release}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.release();
  }

  async #keep(first: readonly LeaseAction[], signal: AbortSignal): Promise<void> {
    let actions = first;
    while (actions.length > 0) {
      let event: LeaseEvent | undefined;
      for (const action of actions) event = await this.#perform(action, signal);
      if (event === undefined) return;
      actions = this.#step(event);
    }
  }

  #step(event: LeaseEvent): readonly LeaseAction[] {
    const { state, actions } = stepLease(this.#state, event, moment());
    this.#state = state;
    return actions;
  }

  /** Carries out an action, and returns the event that follows: only the last action of a step has one. */
  async #perform(action: LeaseAction, signal: AbortSignal): Promise<LeaseEvent | undefined> {
    switch (action.kind) {
      case "wait":
        return await this.#wait(action.untilMs, signal);
      case "check":
        return await this.#ask(signal, async () => {
          const { mapper } = this.#heldOf(action.grant);
          return { kind: "checked", finding: await checkLease(mapper, action.grant, signal) };
        });
      case "renew":
        return await this.#ask(signal, async () => {
          const { grant, lifetimeSeconds } = action;
          const { mapper } = this.#heldOf(grant);
          return { kind: "renewed", grant: await mapper.renew(grant, { lifetimeSeconds, signal }) };
        });
      case "race":
        return await this.#ask(signal, async () => {
          const { grant, duplicates } = this.#state;
          const result = await this.#options.race(signal, [grant, ...duplicates]);
          return { kind: "won", grant: this.#hold(result) };
        });
      case "listen":
        return this.#listen(action.grant);
      case "report":
        return void this.#options.onNews(action.news);
      case "drop": {
        const held = this.#heldOf(action.grant);
        this.#endings.run(() => releaseGrant(held, (problem) => this.#warn(problem)));
        return undefined;
      }
      case "release": // release() carries it out
        return undefined;
    }
  }

  async #wait(untilMs: number, signal: AbortSignal): Promise<LeaseEvent> {
    if (this.#announcements.length === 0) {
      await this.#delay.wait(untilMs - performance.now(), signal);
    }
    const announcement = this.#announcements.shift();
    if (announcement === undefined) return { kind: "time" };
    return { kind: "announced", mapper: announcement.mapper, epoch: announcement.epoch };
  }

  async #ask(signal: AbortSignal, ask: () => Promise<LeaseEvent>): Promise<LeaseEvent> {
    const expiry = new ResettableTimer(() => {
      for (const action of this.#step({ kind: "expired" })) {
        if (action.kind === "report") this.#options.onNews(action.news);
      }
    });
    const leftMs = expiryMs(this.#state.grant) - performance.now();
    if (leftMs > 0 && leftMs < MAX_TIMER_MS) expiry.set(Math.ceil(leftMs));
    try {
      return await ask();
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof PunchlineError)) throw error;
      this.#warn(error);
      return { kind: "failed" };
    } finally {
      expiry.clear();
    }
  }

  /** Remembers who granted what, and waits for the duplicates in the background. */
  #hold({ winner, losers }: RaceResult): MappingGrant {
    this.#remember(winner);
    this.#endings.run(async () => {
      const duplicates = await losers;
      for (const duplicate of duplicates) this.#remember(duplicate);
      this.#step({ kind: "duplicated", grants: duplicates.map(({ grant }) => grant) });
    });
    return winner.grant;
  }

  #remember({ grant, mapper, gateway }: HeldGrant): void {
    this.#holders.set(keyOf(grant), { mapper, gateway });
  }

  #heldOf(grant: MappingGrant): HeldGrant {
    return { grant, ...this.#holders.get(keyOf(grant))! };
  }

  #listen(grant: MappingGrant): undefined {
    if (!this.#options.listens) return;
    const before = this.#listening;
    if (before !== undefined) this.#endings.run(() => before.stop());
    const { network } = this.#options;
    const { gateway } = this.#heldOf(grant);
    this.#listening = new TaskGroup((problem) => this.#onListenerFailed(problem));
    this.#listening.run((signal) =>
      followAnnouncements(network, gateway, {
        signal,
        onAnnouncement: (announcement) => this.#onAnnouncement(announcement),
      })
    );
  }

  #onAnnouncement(announcement: GatewayAnnouncement): void {
    if (this.#announcements.length < MAX_ANNOUNCEMENTS) this.#announcements.push(announcement);
    this.#delay.wake();
  }

  /** Without announcements, the next check shows a restart. */
  #onListenerFailed(problem: unknown): void {
    if (problem instanceof PunchlineError) this.#warn(problem);
    else this.#faults.push(problem);
  }

  #warn(problem: unknown): void {
    this.#options.logger?.warn(messageOf(problem));
  }
}

/** There is one mapper for each protocol of each gateway. */
function keyOf({ mapper, gateway }: MappingGrant): string {
  return `${mapper} ${gateway}`;
}

function moment(): LeaseMoment {
  return { nowMs: performance.now(), random: Math.random() };
}

const ENDED = new DOMException("The mapping is no longer renewed", "AbortError");

/** Chosen by us: a gateway repeats an announcement ten times (RFC 6886 §3.2.1), and the first of them is enough. */
const MAX_ANNOUNCEMENTS = 4;
