/**
 * One round of a punch: offers are exchanged, a plan is made of them, and dials and a listener bring about connections
 * until one is nominated.
 *
 * @module
 */

import type { ConnectionAttempt } from "../base/errors.ts";
import type { Network } from "../net/network.ts";
import type { SignalChannel } from "../signal/channel.ts";
import { type AttemptOutcome, PunchAttempt } from "./attempt.ts";
import type { BaseSocket } from "./gathering.ts";
import { withoutPredictions } from "./manual.ts";
import type { NominatedConnection } from "./nomination.ts";
import type { PunchOffer, PunchRole } from "./offer.ts";
import { OfferExchange, type OfferSource } from "./offer_exchange.ts";
import { type DirectPathKind, type PunchPlan, withPathKinds } from "./plan_types.ts";
import { delay } from "@std/async/delay";

/** What a round needs. */
export interface RoundOptions {
  readonly network: Network;
  readonly channel: SignalChannel;
  readonly role: PunchRole;
  /** Known to both sides and to nobody else; may be empty. */
  readonly sharedSecret: Uint8Array;
  /** The ways that are taken. */
  readonly pathKinds: ReadonlySet<DirectPathKind>;
  /** Hears of each plan. */
  readonly onPlan?: (plan: PunchPlan) => void;
  readonly round: number;
  readonly base: BaseSocket;
  /** When so many SYNs have been sent there is no further attempt. */
  readonly maxSyns: number;
  readonly signal: AbortSignal;
}

/** How a round ended. */
export type RoundResult =
  & (
    | {
      readonly kind: "connected";
      readonly met: NominatedConnection;
      readonly plan: PunchPlan;
      /** When both offers were known. */
      readonly startedAtMs: number;
      readonly channelBinding: Uint8Array;
      readonly pathKind: DirectPathKind;
    }
    /** `impossible`: theory has no way, and both sides know it. */
    | { readonly kind: "impossible" | "failed"; readonly plan: PunchPlan }
    /** The peer has gone on to another round. */
    | { readonly kind: "superseded"; readonly round: number; readonly plan?: PunchPlan }
    /** The signal ended it; there was a plan if there was an offer of the peer's. */
    | { readonly kind: "aborted"; readonly plan?: PunchPlan }
  )
  & {
    readonly attempts: readonly ConnectionAttempt[];
    /** SYNs that both sides had planned for sprays. */
    readonly sprayedSyns: number;
  };

/**
 * Runs a round to its end.
 *
 * @throws {NetworkError} if the channel breaks before there is a connection
 * @throws {UnreachableError} if the other side has the same role
 */
export async function runRound(options: RoundOptions): Promise<RoundResult> {
  const { signal } = options;
  const controller = new AbortController();
  const ended = AbortSignal.any([signal, controller.signal]);
  const result = Promise.withResolvers<End>();
  const fail = (error: unknown) => {
    if (!ended.aborted) result.reject(error);
  };
  const attempts: PunchAttempt[] = [];

  const attempt = async (theirs: PunchOffer) => {
    const last = attempts.at(-1);
    if (last !== undefined && countSyns(attemptsOf(attempts)) >= options.maxSyns) {
      return result.resolve({ kind: "failed", plan: last.plan });
    }
    const { ours, headStartMs } = exchange;
    const { confirmed } = exchange;
    const isManual = options.channel.isManual ?? false;
    const offers = { ours, theirs, headStartMs, confirmed };
    const current = new PunchAttempt({ ...options, isManual }, offers, ended);
    attempts.push(current);
    const outcome = await current.finished;
    if (outcome.kind === "abandoned") return;
    // The peer shall hear why before this side is gone.
    if (outcome.kind === "impossible") await Promise.race([exchange.confirmed, linger(ended)]);
    result.resolve(outcome);
  };
  let attempting = Promise.resolve();
  let newest: PunchOffer | undefined;
  const exchange = new OfferExchange({
    ...options,
    source: sourceOf(options),
    onOffer: (theirs) => {
      // An offer that takes the place of another one comes from a peer who has started anew. The earlier dials have to
      // be gone: no two can have the same addresses.
      newest = theirs;
      attempts.at(-1)?.abandon();
      attempting = attempting
        .then(() => newest === theirs && !ended.aborted ? attempt(theirs) : undefined)
        .catch(fail);
    },
  });
  exchange.later.then((round) => result.resolve({ kind: "superseded", round }));
  const running = exchange.run(ended).catch(fail);
  const onAbort = () => result.resolve({ kind: "aborted" });
  signal.addEventListener("abort", onAbort);
  if (signal.aborted) onAbort();
  let end: End | undefined;
  try {
    end = await result.promise;
  } finally {
    signal.removeEventListener("abort", onAbort);
    controller.abort();
    await Promise.all([running, attempting]);
    await resetOthers(attempts, end);
  }
  const plan = attempts.at(-1)?.plan;
  const sprayedSyns = attempts.reduce((sum, { plan }) => sum + plan.sprayedSyns, 0);
  return { ...plan && { plan }, ...end, attempts: attemptsOf(attempts), sprayedSyns };
}

/** What is offered of a punch port. */
function sourceOf({ base, pathKinds, channel }: RoundOptions): OfferSource {
  return {
    get side() {
      const side = withPathKinds(base.side, pathKinds);
      return channel.isManual ? withoutPredictions(side) : side;
    },
    get sampleAgeMs() {
      return base.sampleAgeMs;
    },
    refresh: (signal) => base.refresh(signal),
  };
}

/** SYNs that were sent by dialling. */
export function countSyns(attempts: readonly ConnectionAttempt[]): number {
  return attempts.reduce((sum, { tries }) => sum + tries, 0);
}

function attemptsOf(attempts: readonly PunchAttempt[]): ConnectionAttempt[] {
  return attempts.flatMap(({ attempts }) => attempts);
}

type End =
  | Exclude<AttemptOutcome, { kind: "abandoned" }>
  | { readonly kind: "superseded"; readonly round: number }
  | { readonly kind: "aborted" };

/** A connection that was nominated at the moment when the round ended: nobody else will close it. */
async function resetOthers(attempts: readonly PunchAttempt[], end: End | undefined): Promise<void> {
  for (const { finished } of attempts) {
    const outcome = await finished.catch(() => undefined); // is what the round failed by
    if (outcome?.kind === "connected" && outcome !== end) outcome.met.connection.reset();
  }
}

async function linger(signal: AbortSignal): Promise<void> {
  await delay(LINGER_MS, { signal }).catch(() => {}); // aborted: no reason to stay
}

/** Ours: some repetitions of the peer's offer. */
const LINGER_MS = 3000;
