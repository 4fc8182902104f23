/**
 * One round of a punch: offers are exchanged, a plan is made of them, and dials and a listener bring about connections
 * until one is nominated.
 *
 * @module
 */

import { delay } from "@std/async/delay";
import type { ConnectionAttempt } from "../errors.ts";
import type { Network } from "../net/network.ts";
import type { SignalChannel } from "../signal/channel.ts";
import type { PunchAnchor } from "./anchor.ts";
import { PunchAttempt } from "./attempt.ts";
import type { Met } from "./meeting.ts";
import type { PunchOffer, PunchRole } from "./message.ts";
import { OfferExchange } from "./offers.ts";
import type { PunchPlan } from "./plan_types.ts";

/** What a round needs. */
export interface RoundOptions {
  readonly network: Network;
  readonly channel: SignalChannel;
  readonly role: PunchRole;
  /** Known to both sides and to nobody else; may be empty. */
  readonly sharedSecret: Uint8Array;
  readonly round: number;
  readonly anchor: PunchAnchor;
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
  const { channel, anchor, signal } = options;
  const controller = new AbortController();
  const ended = AbortSignal.any([signal, controller.signal]);
  const result = Promise.withResolvers<RoundResult>();
  const attempts: PunchAttempt[] = [];
  const record = () => attempts.flatMap((attempt) => attempt.attempts);

  const begin = async (theirs: PunchOffer) => {
    // Who has waited for long has old samples: the peer gets new ones, and plans with those.
    if (await anchor.refresh(ended)) await exchange.announce();
    // An offer that takes the place of another one comes from a peer who has started anew.
    attempts.at(-1)?.abandon();
    const attempt = new PunchAttempt(options, exchange.ours, theirs, ended);
    attempts.push(attempt);
    const outcome = await attempt.finished;
    if (outcome.kind === "abandoned") return;
    // The peer shall hear why before this side is gone.
    if (outcome.kind === "impossible") await Promise.race([exchange.confirmed, linger(ended)]);
    result.resolve(outcome.kind === "impossible" ? outcome : { ...outcome, attempts: record() });
  };
  const begun: Promise<void>[] = [];
  const exchange = new OfferExchange(channel, options, anchor, (theirs) => {
    begun.push(
      begin(theirs).catch((error) => {
        if (!ended.aborted) result.reject(error);
      }),
    );
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
    await Promise.all([running, ...begun]);
    for (const attempt of attempts) {
      const outcome = await attempt.finished.catch(() => undefined);
      // Nominated at the moment when the round was given up: nobody else will close it.
      if (outcome?.kind === "connected" && outcome.met !== chosen) outcome.met.connection.reset();
    }
  }
}

async function linger(signal: AbortSignal): Promise<void> {
  await delay(LINGER_MS, { signal }).catch(() => {}); // aborted: no reason to stay
}

/** Ours: some repetitions of the peer's offer. */
const LINGER_MS = 3000;
