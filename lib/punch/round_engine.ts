/**
 * A round of a punch as a state machine: from the first offer of the peer to a connection, or to the reason why there is
 * none. Pure; `round.ts` owns the offers and the attempts.
 *
 * ```text
 *   waiting --(offer)--> attempting --(connected, failed)-----------------> over
 *                        |       ^  --(impossible)--> lingering --(confirmed, time)--> over
 *        (another offer) |       | (abandoned)
 *                        +-------+
 *   any --(superseded, aborted)--> over
 * ```
 *
 * An offer that replaces another one comes from a peer that has started over. The attempt with the old offer must have
 * ended before the next one starts, because no two sockets can have the same addresses.
 *
 * @module
 */

import type { PunchOffer } from "./offer.ts";

/** Everything that is known about a round. Times are milliseconds of one clock that never goes backwards. */
export interface RoundState {
  /** Once this many SYNs have been sent, no further attempt starts. */
  readonly maxSyns: number;
  readonly phase: RoundPhase;
  /** The peer's latest offer that no attempt has started from. */
  readonly next: PunchOffer | null;
  /** Whether the peer is known to have this side's offer. */
  readonly isConfirmed: boolean;
}

/** Where a round stands. */
export type RoundPhase =
  | { readonly kind: "waiting" }
  | { readonly kind: "attempting" }
  /** The peer still has to learn that it is impossible. */
  | { readonly kind: "lingering"; readonly end: RoundEnd; readonly untilMs: number }
  | { readonly kind: "over"; readonly end: RoundEnd };

/** How a round ended. */
export type RoundEnd =
  /** As its last attempt. */
  | { readonly kind: "connected" | "impossible" | "failed" }
  /** Replaced offers have used up the SYNs. */
  | { readonly kind: "exhausted" }
  /** The peer has gone on to a later round. */
  | { readonly kind: "superseded"; readonly round: number }
  | { readonly kind: "aborted" };

/** How an attempt ended. */
export type AttemptOutcome = "connected" | "impossible" | "failed" | "abandoned";

/** What happens in a round. */
export type RoundEvent =
  | { readonly kind: "offer"; readonly offer: PunchOffer }
  /** The attempt has ended; `syns` counts those of all attempts of the round. */
  | { readonly kind: "attempted"; readonly outcome: AttemptOutcome; readonly syns: number }
  | { readonly kind: "confirmed" }
  | { readonly kind: "superseded"; readonly round: number }
  | { readonly kind: "aborted" }
  | { readonly kind: "time" };

/** What the driver has to do. */
export type RoundAction =
  | { readonly kind: "attempt"; readonly offer: PunchOffer }
  /** The peer has this side's offer: pass that on to the attempt. */
  | { readonly kind: "confirm" }
  | { readonly kind: "abandon" };

/** The state before the first offer. */
export function initialRoundState(maxSyns: number): RoundState {
  return {
    maxSyns,
    phase: WAITING,
    next: null,
    isConfirmed: false,
  };
}

/** What an event leads to. */
export function stepRound(
  state: RoundState,
  event: RoundEvent,
  nowMs: number,
): { readonly state: RoundState; readonly actions: readonly RoundAction[] } {
  const { phase } = state;
  if (phase.kind === "over") return { state, actions: [] };
  switch (event.kind) {
    case "offer":
      if (phase.kind === "waiting") return attempt(state, event.offer);
      if (phase.kind === "lingering") return { state, actions: [] };
      return { state: { ...state, next: event.offer }, actions: [{ kind: "abandon" }] };
    case "attempted":
      return attempted(state, event, nowMs);
    case "confirmed":
      if (phase.kind === "lingering") return over(state, phase.end);
      return {
        state: { ...state, isConfirmed: true },
        actions: phase.kind === "attempting" ? [{ kind: "confirm" }] : [],
      };
    case "superseded":
      return over(state, { kind: "superseded", round: event.round });
    case "aborted":
      return over(state, { kind: "aborted" });
    case "time":
      return phase.kind === "lingering" && phase.untilMs <= nowMs
        ? over(state, phase.end)
        : { state, actions: [] };
  }
}

type Step = ReturnType<typeof stepRound>;

function attempt(state: RoundState, offer: PunchOffer): Step {
  const confirm: readonly RoundAction[] = state.isConfirmed ? [{ kind: "confirm" }] : [];
  return {
    state: { ...state, phase: { kind: "attempting" }, next: null },
    actions: [{ kind: "attempt", offer }, ...confirm],
  };
}

function attempted(
  state: RoundState,
  { outcome, syns }: { readonly outcome: AttemptOutcome; readonly syns: number },
  nowMs: number,
): Step {
  if (outcome === "abandoned") {
    if (state.next === null) return { state: { ...state, phase: WAITING }, actions: [] };
    return syns >= state.maxSyns ? over(state, { kind: "exhausted" }) : attempt(state, state.next);
  }
  const end = { kind: outcome };
  if (outcome !== "impossible" || state.isConfirmed) return over(state, end);
  const phase: RoundPhase = { kind: "lingering", end, untilMs: nowMs + LINGER_MS };
  return { state: { ...state, phase }, actions: [] };
}

/** Whatever is under way ends with the round. */
function over(state: RoundState, end: RoundEnd): Step {
  return { state: { ...state, phase: { kind: "over", end } }, actions: [{ kind: "abandon" }] };
}

const WAITING: RoundPhase = { kind: "waiting" };

/** How long the peer has to confirm. Chosen by us: five repetitions of its offer, beside which a punch by UDP may go on. */
const LINGER_MS = 6500;
