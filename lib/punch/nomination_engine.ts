/**
 * Which of many connections both sides agree on, as a state machine. Pure; `nomination.ts` reads and writes.
 *
 * ```text
 *   proving --(proved)--> agreeing --(agreed)--> nominated
 *      |                     |
 *      +--(failed, expired)--+--(another was nominated)--> settled, and reset
 * ```
 *
 * The controlling side nominates the first connection whose other end has proved itself; the controlled side waits for
 * the nomination.
 *
 * No cap ends a connection that may be the peer's. What this side dialled is bounded by its plan. What it accepted takes
 * up room, of which connections from the peer's own addresses and from anywhere else each have a part of their own;
 * in either, those that prove nothing make room for others.
 *
 * @module
 */

import type { PunchRole } from "./offer.ts";

/** What became of a connection. */
export type NominationOutcome = "nominated" | "not-nominated" | "not-authenticated" | "broken";

/** Everything that is known about the connections, each of which has a number. */
export interface NominationState {
  readonly role: PunchRole;
  /** Those that are not settled, oldest first. */
  readonly open: ReadonlyMap<number, OpenConnection>;
  /** The connection that this side, as the controlling one, is nominating or has nominated. */
  readonly nominee: number | null;
  /** The connection that both sides agreed on. */
  readonly nominated: number | null;
  /** Whether no further connection is wanted. */
  readonly isClosed: boolean;
}

/** A connection that is not settled. */
export interface OpenConnection {
  /** Whether its other end still has to prove itself, or has and both sides still have to agree on it. */
  readonly phase: "proving" | "agreeing";
  /** Whether it was reset because its other end took too long, or others needed the room. */
  readonly isEvicted: boolean;
  readonly origin: ConnectionOrigin;
}

/** Where a connection comes from: this side dialled it, or accepted it from an address that the peer named, or another. */
export type ConnectionOrigin = "dialled" | "peer" | "elsewhere";

/** What happens to a connection. */
export type NominationEvent =
  | { readonly kind: "opened"; readonly id: number; readonly origin: ConnectionOrigin }
  /** Its other end has proved itself. */
  | { readonly kind: "proved"; readonly id: number }
  /** The nomination was sent (controlling side) or received (controlled side). */
  | { readonly kind: "agreed"; readonly id: number }
  /** Its other end is not the peer, or the connection broke. */
  | {
    readonly kind: "failed";
    readonly id: number;
    readonly why: "not-authenticated" | "broken";
  }
  /** The time for the proof is up. */
  | { readonly kind: "expired"; readonly id: number }
  | { readonly kind: "closed" };

/** What the driver has to do. */
export type NominationAction =
  /** Exchange proofs. */
  | { readonly kind: "prove"; readonly id: number }
  /** Send the nomination (controlling side), or wait for it (controlled side). */
  | { readonly kind: "agree"; readonly id: number }
  /** Reset it; it fails then. */
  | { readonly kind: "reset"; readonly id: number }
  /** This is what became of it. */
  | { readonly kind: "settle"; readonly id: number; readonly outcome: NominationOutcome };

/** The state before the first connection. */
export function initialNominationState(role: PunchRole): NominationState {
  return { role, open: new Map(), nominee: null, nominated: null, isClosed: false };
}

/** What an event leads to. */
export function stepNomination(
  state: NominationState,
  event: NominationEvent,
): { readonly state: NominationState; readonly actions: readonly NominationAction[] } {
  switch (event.kind) {
    case "opened":
      return opened(state, event);
    case "proved":
      return proved(state, event.id);
    case "agreed":
      return state.isClosed || state.nominated !== null
        ? settle(state, event.id, "not-nominated")
        : settle({ ...state, nominated: event.id }, event.id, "nominated");
    case "failed":
      return failed(state, event.id, event.why);
    case "expired":
      return state.open.get(event.id)?.phase === "proving"
        ? { state: evict(state, event.id), actions: [{ kind: "reset", id: event.id }] }
        : { state, actions: [] };
    case "closed":
      return {
        state: { ...state, isClosed: true },
        actions: Array.from(state.open.keys(), (id) => ({ kind: "reset", id })),
      };
  }
}

type Step = ReturnType<typeof stepNomination>;

/** The peer proves itself at once: of the connections that have not, the oldest is the least likely to be the peer's. */
function opened(
  state: NominationState,
  { id, origin }: { readonly id: number; readonly origin: ConnectionOrigin },
): Step {
  if (isDecided(state) || state.isClosed) return settle(state, id, "not-nominated");
  const actions: NominationAction[] = [];
  let next = state;
  const sharing = [...state.open].filter(([_, each]) => each.origin === origin);
  if (sharing.length >= MAX_OPEN[origin]) {
    const oldest = sharing.find(([_, { phase, isEvicted }]) => phase === "proving" && !isEvicted);
    if (oldest === undefined) return settle(state, id, "not-nominated");
    next = evict(state, oldest[0]);
    actions.push({ kind: "reset", id: oldest[0] });
  }
  actions.push({ kind: "prove", id });
  return {
    state: withOpen(next, id, { phase: "proving", isEvicted: false, origin }),
    actions,
  };
}

function proved(state: NominationState, id: number): Step {
  if (state.role === "controlling" && isDecided(state)) return settle(state, id, "not-nominated");
  const agreeing = withOpen(state, id, { phase: "agreeing", isEvicted: false });
  return {
    state: state.role === "controlling" ? { ...agreeing, nominee: id } : agreeing,
    actions: [{ kind: "agree", id }],
  };
}

function failed(state: NominationState, id: number, why: "not-authenticated" | "broken"): Step {
  // A nomination that was not sent is not made: another connection may still be nominated.
  const isFree = state.nominee === id && state.nominated === null;
  const next = isFree ? { ...state, nominee: null } : state;
  if (why === "not-authenticated" || state.open.get(id)?.isEvicted) {
    return settle(next, id, "not-authenticated");
  }
  return settle(next, id, isDecided(next) || next.isClosed ? "not-nominated" : "broken");
}

/** Whether there is one connection, and every other one has lost. */
function isDecided({ nominee, nominated }: NominationState): boolean {
  return nominee !== null || nominated !== null;
}

function settle(state: NominationState, id: number, outcome: NominationOutcome): Step {
  const open = new Map(state.open);
  open.delete(id);
  return { state: { ...state, open }, actions: [{ kind: "settle", id, outcome }] };
}

function evict(state: NominationState, id: number): NominationState {
  return withOpen(state, id, { isEvicted: true });
}

function withOpen(
  state: NominationState,
  id: number,
  changes: Partial<OpenConnection>,
): NominationState {
  const before = state.open.get(id) ?? NEW;
  return { ...state, open: new Map(state.open).set(id, { ...before, ...changes }) };
}

const NEW: OpenConnection = { phase: "proving", isEvicted: false, origin: "elsewhere" };

/**
 * Connections at a time that are not settled. Chosen by us: a peer opens at most 208 sockets at once, so twice that many
 * leave it room beside hosts behind the same NAT. What comes from elsewhere is rarely the peer.
 */
const MAX_OPEN: Readonly<Record<ConnectionOrigin, number>> = {
  dialled: Infinity,
  peer: 416,
  elsewhere: 64,
};
