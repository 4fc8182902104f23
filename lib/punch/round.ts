/**
 * One round of a punch: offers are exchanged, a plan is made of them, and dials and a listener bring about connections
 * until one is nominated.
 *
 * @module
 */

import type { ConnectionAttempt } from "../errors.ts";
import type { Network } from "../net/network.ts";
import type { SignalChannel } from "../signal/channel.ts";
import { PunchAttempt } from "./attempt.ts";
import type { Met } from "./meeting.ts";
import type { PunchRole } from "./message.ts";
import { OfferExchange } from "./offers.ts";
import type { PunchPlan } from "./plan_types.ts";
import type { PunchSide } from "./profile.ts";

/** What a round needs. */
export interface RoundOptions {
  readonly network: Network;
  readonly channel: SignalChannel;
  readonly role: PunchRole;
  /** Known to both sides and to nobody else; may be empty. */
  readonly sharedSecret: Uint8Array;
  readonly round: number;
  readonly side: PunchSide;
  readonly signal: AbortSignal;
}

/** How a round ended. */
export type RoundResult =
  | {
    readonly kind: "connected";
    readonly met: Met;
    readonly plan: PunchPlan;
    /** When both offers were known. */
    readonly startedAtMs: number;
    readonly attempts: readonly ConnectionAttempt[];
  }
  /** Theory has no way; both sides know it. */
  | { readonly kind: "impossible"; readonly plan: PunchPlan }
  | {
    readonly kind: "failed";
    readonly plan: PunchPlan;
    readonly attempts: readonly ConnectionAttempt[];
  }
  /** The peer has gone on to another round. */
  | {
    readonly kind: "superseded";
    readonly round: number;
    readonly attempts: readonly ConnectionAttempt[];
  };

/**
 * Runs a round to its end.
 *
 * @throws the signal's reason
 * @throws {NetworkError} if the channel breaks before there is a connection
 */
export async function runRound(options: RoundOptions): Promise<RoundResult> {
  const { channel, role, side, round, signal } = options;
  const controller = new AbortController();
  const ended = AbortSignal.any([signal, controller.signal]);
  const exchange = new OfferExchange(channel, role, side, round);
  const result = Promise.withResolvers<RoundResult>();
  const attempts: PunchAttempt[] = [];
  const record = () => attempts.flatMap((attempt) => attempt.attempts);

  exchange.onOffer((offer) => {
    // An offer that takes the place of another one comes from a peer who has started anew.
    attempts.at(-1)?.abandon();
    const attempt = new PunchAttempt(options, exchange.ours, offer, ended);
    attempts.push(attempt);
    attempt.finished.then(async (outcome) => {
      if (outcome.kind === "abandoned") return;
      if (outcome.kind === "impossible") await exchange.confirmed;
      result.resolve(outcome.kind === "impossible" ? outcome : { ...outcome, attempts: record() });
    }, result.reject);
  });
  exchange.later.then((round) => result.resolve({ kind: "superseded", round, attempts: record() }));
  const running = exchange.run(ended).catch((error) => {
    if (!ended.aborted) result.reject(error);
  });
  const onAbort = () => result.reject(signal.reason);
  signal.addEventListener("abort", onAbort);
  let chosen: Met | undefined;
  try {
    signal.throwIfAborted();
    const found = await result.promise;
    if (found.kind === "connected") chosen = found.met;
    return found;
  } finally {
    signal.removeEventListener("abort", onAbort);
    controller.abort();
    const outcomes = await Promise.allSettled(attempts.map(({ finished }) => finished));
    for (const { value } of outcomes.filter((each) => each.status === "fulfilled")) {
      // Nominated at the moment when the round was given up: nobody else will close it.
      if (value.kind === "connected" && value.met !== chosen) value.met.connection.reset();
    }
    await running;
  }
}
