/**
 * Which of several receivers gets what is offered, as a state machine. Pure; `offer_race.ts` reads and writes.
 *
 * ```text
 *   offered --(shown)--> deciding --(accepted)--> has the transfer
 *      |                    |
 *      +------(failed)------+--> leaving --(told)--> gone
 * ```
 *
 * The first receiver that accepts ends the race: those that still look are refused, and later ones are turned away. It
 * fails when the last receiver has left.
 *
 * @module
 */

/** Everything that is known about the receivers, each of which has a number. */
export interface OfferRaceState {
  readonly phase: "open" | "decided" | "aborted";
  /** Those that look at the offer; the oldest first. */
  readonly looking: ReadonlyMap<number, Looking>;
}

/** A receiver that looks at the offer. */
export type Looking =
  /** The offer is being sent. */
  | { readonly phase: "offered" }
  /** The whole offer is sent. */
  | { readonly phase: "deciding" }
  /** It has failed or declined, and is being told what it has to know. */
  | { readonly phase: "leaving"; readonly error: unknown };

/** What happens to a receiver. */
export type OfferRaceEvent =
  | { readonly kind: "arrived"; readonly id: number }
  /** The whole offer is sent. */
  | { readonly kind: "shown"; readonly id: number }
  | { readonly kind: "accepted"; readonly id: number }
  /** It has declined, or broken the protocol, or its connection broke. */
  | { readonly kind: "failed"; readonly id: number; readonly error: unknown }
  /** It knows why, or cannot be told. */
  | { readonly kind: "told"; readonly id: number }
  /** No further receivers will come. */
  | { readonly kind: "exhausted"; readonly error: unknown }
  | { readonly kind: "aborted" };

/** What the driver has to do. */
export type OfferRaceAction =
  /** Send the offer, and read the answer. */
  | { readonly kind: "show"; readonly id: number }
  /** It has the transfer. Take no more. */
  | { readonly kind: "win"; readonly id: number }
  /** Send the error, if it concerns the receiver, and close the connection. */
  | { readonly kind: "tell"; readonly id: number; readonly error: unknown }
  /** Report the failure, which does not end the race. */
  | { readonly kind: "report"; readonly error: unknown }
  /** Tell a receiver that looks at the offer why it cannot have it. */
  | { readonly kind: "refuse"; readonly id: number; readonly why: OfferRefusal }
  /** Tell a receiver that has seen nothing of the offer that it is too late. */
  | { readonly kind: "turn-away"; readonly id: number }
  | { readonly kind: "reset"; readonly id: number }
  /** The race has failed. Take no more. */
  | { readonly kind: "fail"; readonly error: unknown };

/** Why a receiver cannot have the transfer. */
export type OfferRefusal = "too-late" | "too-many";

/** What follows from an event. */
export interface OfferRaceStep {
  readonly state: OfferRaceState;
  readonly actions: readonly OfferRaceAction[];
}

/** Before the first receiver. */
export const EMPTY_OFFER_RACE: OfferRaceState = { phase: "open", looking: new Map() };

/** The next state, and what to do now. */
export function stepOfferRace(state: OfferRaceState, event: OfferRaceEvent): OfferRaceStep {
  switch (event.kind) {
    case "arrived":
      return arrived(state, event.id);
    case "shown":
      return state.looking.get(event.id)?.phase === "offered"
        ? { state: withLooking(state, event.id, { phase: "deciding" }), actions: [] }
        : { state, actions: [] };
    case "accepted":
      return accepted(state, event.id);
    case "failed":
      return failed(state, event.id, event.error);
    case "told":
      return told(state, event.id);
    case "exhausted":
      return left(state, event.error);
    case "aborted":
      return { state: { ...state, phase: "aborted" }, actions: [] };
  }
}

function arrived(state: OfferRaceState, id: number): OfferRaceStep {
  if (state.phase === "aborted") return { state, actions: [{ kind: "reset", id }] };
  if (state.phase === "decided") return { state, actions: [{ kind: "turn-away", id }] };
  let next = state;
  const actions: OfferRaceAction[] = [];
  if (state.looking.size >= MAX_LOOKING) {
    const [oldest] = state.looking.keys();
    next = without(state, oldest!);
    actions.push(...refusal(state, oldest!, "too-many"));
  }
  actions.push({ kind: "show", id });
  return { state: withLooking(next, id, { phase: "offered" }), actions };
}

function accepted(state: OfferRaceState, id: number): OfferRaceStep {
  if (!state.looking.has(id) || state.phase === "decided") return { state, actions: [] };
  const actions: OfferRaceAction[] = [{ kind: "win", id }];
  for (const other of state.looking.keys()) {
    if (other !== id) actions.push(...refusal(state, other, "too-late"));
  }
  return { state: { phase: "decided", looking: new Map() }, actions };
}

/** It still counts until it is told: its connection is open. */
function failed(state: OfferRaceState, id: number, error: unknown): OfferRaceStep {
  if (!state.looking.has(id)) return { state, actions: [] }; // refused meanwhile
  return {
    state: withLooking(state, id, { phase: "leaving", error }),
    actions: [{ kind: "tell", id, error }],
  };
}

function told(state: OfferRaceState, id: number): OfferRaceStep {
  const looking = state.looking.get(id);
  if (looking?.phase !== "leaving") return { state, actions: [] }; // refused meanwhile
  return left(without(state, id), looking.error);
}

/** Those that look at the offer may still accept it. */
function left(state: OfferRaceState, error: unknown): OfferRaceStep {
  if (state.phase === "decided") return { state, actions: [] };
  if (state.looking.size > 0) return { state, actions: [{ kind: "report", error }] };
  return { state: { ...state, phase: "decided" }, actions: [{ kind: "fail", error }] };
}

/** In the middle of the offer a refusal would be lost. One that leaves is being told already. */
function refusal(
  { looking }: OfferRaceState,
  id: number,
  why: OfferRefusal,
): readonly OfferRaceAction[] {
  switch (looking.get(id)?.phase) {
    case "offered":
      return [{ kind: "reset", id }];
    case "deciding":
      return [{ kind: "refuse", id, why }];
    default:
      return [];
  }
}

function withLooking(state: OfferRaceState, id: number, looking: Looking): OfferRaceState {
  return { ...state, looking: new Map(state.looking).set(id, looking) };
}

function without(state: OfferRaceState, id: number): OfferRaceState {
  const looking = new Map(state.looking);
  looking.delete(id);
  return { ...state, looking };
}

/** Chosen by us: a few people who try at the same time. One more displaces the first, so that it can look, too. */
const MAX_LOOKING = 8;
