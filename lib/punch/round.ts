/**
 * One round of a punch: both sides exchange offers, plan from them, and dial and listen until one connection is
 * nominated.
 *
 * @module
 */

import type { ConnectionAttempt } from "../base/errors.ts";
import { TaskGroup } from "../base/tasks.ts";
import { ResettableTimer } from "../base/timers.ts";
import type { SignalChannel } from "../signal/channel.ts";
import { type ConnectedAttempt, PunchAttempt, type PunchAttemptOptions } from "./attempt.ts";
import type { BaseSocket } from "./gathering.ts";
import { withoutPredictions } from "./manual.ts";
import type { PunchOffer } from "./offer.ts";
import { OfferExchange, type OfferSource } from "./offer_exchange.ts";
import { withPathKinds } from "./path_kinds.ts";
import type { PunchPlan } from "./plan_types.ts";
import {
  type RoundAction,
  type RoundEnd,
  type RoundEvent,
  type RoundState,
  startRound,
  stepRound,
} from "./round_engine.ts";

/** What a round needs. */
export interface RoundOptions extends Omit<PunchAttemptOptions, "isManual"> {
  readonly channel: SignalChannel;
  /** Which round it is, from 1. */
  readonly round: number;
  readonly base: BaseSocket;
  /** Once this many SYNs have been sent, no further attempt starts. */
  readonly maxSyns: number;
  readonly signal: AbortSignal;
}

/** How a round ended, and what it cost. */
export interface RoundResult {
  readonly end: RoundEnd;
  /** The connection, if the end is one. */
  readonly connected: ConnectedAttempt | undefined;
  /** The plan of the last attempt; `undefined` if there was no offer of the peer. */
  readonly plan: PunchPlan | undefined;
  readonly attempts: readonly ConnectionAttempt[];
  /** SYNs that both sides had planned for the birthday method. */
  readonly birthdaySyns: number;
}

/**
 * Runs a round to its end. An abort is such an end.
 *
 * @throws {NetworkError} if the channel breaks before there is a connection
 * @throws {UnreachableError} if the other side has the same role
 */
export async function runRound(options: RoundOptions): Promise<RoundResult> {
  return await new Round(options).run();
}

class Round {
  readonly #options: RoundOptions;
  readonly #exchange: OfferExchange;
  readonly #attempts: PunchAttempt[] = [];
  readonly #over = Promise.withResolvers<RoundEnd>();
  readonly #tasks = new TaskGroup((error) => this.#over.reject(error));
  readonly #timer = new ResettableTimer(() => this.#dispatch({ kind: "tick" }));
  #state: RoundState;
  #connected: ConnectedAttempt | undefined;

  constructor(options: RoundOptions) {
    this.#options = options;
    this.#state = startRound(options.maxSyns);
    this.#exchange = new OfferExchange({
      channel: options.channel,
      role: options.role,
      sharedSecret: options.sharedSecret,
      round: options.round,
      source: sourceOf(options),
      onOffer: (offer) => this.#dispatch({ kind: "offer", offer }),
      onConfirmed: () => this.#dispatch({ kind: "confirmed" }),
      onLaterRound: (round) => this.#dispatch({ kind: "superseded", round }),
    });
  }

  async run(): Promise<RoundResult> {
    const { signal } = this.#options;
    const onAbort = () => this.#dispatch({ kind: "aborted" });
    signal.addEventListener("abort", onAbort, { once: true });
    if (signal.aborted) onAbort();
    else this.#tasks.run((ended) => this.#exchange.run(ended));
    let end: RoundEnd | undefined;
    try {
      end = await this.#over.promise;
    } finally {
      signal.removeEventListener("abort", onAbort);
      this.#timer.clear();
      this.#attempts.at(-1)?.abandon();
      await this.#tasks.stop();
      // A connection may be nominated at the moment when the round ends otherwise: nothing else would close it.
      if (end?.kind !== "connected") this.#connected?.nominated.connection.reset();
    }
    return {
      end,
      connected: end.kind === "connected" ? this.#connected : undefined,
      plan: this.#attempts.at(-1)?.plan,
      attempts: this.#attempts.flatMap(({ attempts }) => attempts),
      birthdaySyns: this.#attempts.reduce((sum, { plan }) => sum + plan.birthdaySyns, 0),
    };
  }

  #dispatch(event: RoundEvent): void {
    const { state, actions } = stepRound(this.#state, event, performance.now());
    this.#state = state;
    for (const action of actions) this.#perform(action);
    const { phase } = this.#state;
    if (phase.kind === "lingering") this.#timer.set(phase.untilMs - performance.now());
    if (phase.kind === "over") this.#over.resolve(phase.end);
  }

  #perform(action: RoundAction): void {
    switch (action.kind) {
      case "attempt":
        return this.#tasks.run(() => this.#attempt(action.offer));
      case "confirm":
        return this.#attempts.at(-1)?.confirm();
      case "abandon":
        return this.#attempts.at(-1)?.abandon();
    }
  }

  async #attempt(remote: PunchOffer): Promise<void> {
    const { localOffer: local, headStartMs } = this.#exchange;
    const isManual = this.#options.channel.isManual ?? false;
    const offers = { local, remote, headStartMs };
    const attempt = new PunchAttempt({ ...this.#options, isManual }, offers);
    this.#attempts.push(attempt);
    const result = await attempt.finished;
    if (result.kind === "connected") this.#connected = result; // no attempt follows
    const syns = countSyns(this.#attempts.flatMap(({ attempts }) => attempts));
    this.#dispatch({ kind: "attempted", outcome: result.kind, syns });
  }
}

/** What this side offers of its base socket. */
function sourceOf({ base, pathKinds, channel }: RoundOptions): OfferSource {
  return {
    get description() {
      const description = withPathKinds(base.description, pathKinds);
      return channel.isManual ? withoutPredictions(description) : description;
    },
    get sampleAgeMs() {
      return base.sampleAgeMs;
    },
    refresh: (signal) => base.refresh(signal),
  };
}

/** SYNs that dialling sent. */
export function countSyns(attempts: readonly ConnectionAttempt[]): number {
  return attempts.reduce((sum, { tries }) => sum + tries, 0);
}
