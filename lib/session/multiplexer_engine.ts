/**
 * Which streams a session may have, and when it has no more use: a pure function.
 *
 * @module
 */

import { malformed } from "../base/errors.ts";
import type { SessionRole } from "./migration_engine.ts";

/** The streams of a session, as far as their number matters. */
export interface MultiplexerState {
  /** The number of the next stream that this side opens. */
  readonly nextOwnId: number;
  /** The number of the next stream that the other side may open. */
  readonly nextRemoteId: number;
  /** How many streams of each side are open, without the first. */
  readonly own: number;
  readonly remote: number;
  readonly isFirstOver: boolean;
  /** Whether this side has ever used more than the first stream. */
  readonly isUsed: boolean;
  /** Whether the other side writes no more at all. */
  readonly isRemoteEnded: boolean;
  /** How many wait for streams of the other side, or need the session for another reason. */
  readonly holders: number;
  /** `ending`: this side opens and accepts no more, and ends the session's own stream. */
  readonly phase: "open" | "ending";
  /** Since when neither a stream nor a holder needs the session. */
  readonly idleSinceMs: number | undefined;
}

/** What happens. */
export type MultiplexerEvent =
  /** The application opens a stream. */
  | { readonly kind: "open" }
  /** The other side has opened the stream of this number. */
  | { readonly kind: "open-received"; readonly id: number }
  /** A stream is over, in both directions. */
  | { readonly kind: "over"; readonly id: number }
  /** Somebody waits for streams of the other side, or does so no longer. */
  | { readonly kind: "held" | "released" }
  /** The application closes the session. */
  | { readonly kind: "close" }
  /** The other side writes no more at all. */
  | { readonly kind: "end-received" }
  | { readonly kind: "time" };

/** What to do. */
export type MultiplexerAction =
  /** Open the stream of this number. */
  | { readonly kind: "open"; readonly id: number }
  /** This side has too many streams, or the session ends. */
  | { readonly kind: "refuse-open"; readonly why: "too-many" | "ending" }
  /** The stream that the other side has opened is there. */
  | { readonly kind: "accept"; readonly id: number }
  /** Reset it: there are too many. */
  | { readonly kind: "refuse"; readonly id: number }
  /** End the session's own stream, after everything that was written. */
  | { readonly kind: "end" };

/** The limits. */
export interface MultiplexerLimits {
  /** How many streams of each side may be open at once. */
  readonly maxStreams: number;
  /** How long a session stays that was used for streams, and has neither streams nor a holder. */
  readonly idleMs: number;
}

/** The result of a step. */
export interface MultiplexerStep {
  readonly state: MultiplexerState;
  readonly actions: readonly MultiplexerAction[];
}

/** A session that has its first stream only. */
export function initialMultiplexerState(role: SessionRole): MultiplexerState {
  const isControlling = role === "controlling";
  return {
    nextOwnId: isControlling ? 1 : 2,
    nextRemoteId: isControlling ? 2 : 1,
    own: 0,
    remote: 0,
    isFirstOver: false,
    isUsed: false,
    isRemoteEnded: false,
    holders: 0,
    phase: "open",
    idleSinceMs: undefined,
  };
}

/**
 * One step.
 *
 * @throws {MalformedMessageError} if the other side opens a stream that is not its next one
 */
export function stepMultiplexer(
  state: MultiplexerState,
  event: MultiplexerEvent,
  nowMs: number,
  limits: MultiplexerLimits,
): MultiplexerStep {
  const { state: next, actions } = apply(state, event, limits);
  if (next.phase === "ending") return { state: next, actions };
  const isIdle = next.isFirstOver && next.own + next.remote + next.holders === 0;
  if (!isIdle) return { state: { ...next, idleSinceMs: undefined }, actions };
  const idleSinceMs = next.idleSinceMs ?? nowMs;
  const mayWait = next.isUsed && !next.isRemoteEnded;
  if (mayWait && nowMs < idleSinceMs + limits.idleMs) {
    return { state: { ...next, idleSinceMs }, actions };
  }
  return { state: { ...next, phase: "ending" }, actions: [...actions, { kind: "end" }] };
}

/** When a step with `time` has something to do. */
export function multiplexerWakeAtMs(state: MultiplexerState, limits: MultiplexerLimits): number {
  if (state.phase === "ending" || state.idleSinceMs === undefined) return Infinity;
  return state.idleSinceMs + limits.idleMs;
}

/** Whether the stream of that number has been opened, by either side. */
export function wasOpened(state: MultiplexerState, id: number): boolean {
  const isOwn = id % 2 === state.nextOwnId % 2;
  return id === 0 || id < (isOwn ? state.nextOwnId : state.nextRemoteId);
}

function apply(
  state: MultiplexerState,
  event: MultiplexerEvent,
  { maxStreams }: MultiplexerLimits,
): MultiplexerStep {
  switch (event.kind) {
    case "open": {
      if (state.phase === "ending") return refuse(state, "ending");
      if (state.own >= maxStreams || state.nextOwnId > MAX_ID) return refuse(state, "too-many");
      const id = state.nextOwnId;
      const opened = { ...state, nextOwnId: id + 2, own: state.own + 1, isUsed: true };
      return { state: opened, actions: [{ kind: "open", id }] };
    }
    case "open-received":
      return onOpenReceived(state, event.id, maxStreams);
    case "over":
      if (event.id === 0) return { state: { ...state, isFirstOver: true }, actions: [] };
      return event.id % 2 === state.nextOwnId % 2
        ? { state: { ...state, own: state.own - 1 }, actions: [] }
        : { state: { ...state, remote: state.remote - 1 }, actions: [] };
    case "held":
      return { state: { ...state, holders: state.holders + 1, isUsed: true }, actions: [] };
    case "released":
      return { state: { ...state, holders: Math.max(0, state.holders - 1) }, actions: [] };
    case "close":
      if (state.phase === "ending") return { state, actions: [] };
      return { state: { ...state, phase: "ending" }, actions: [{ kind: "end" }] };
    case "end-received": // whoever waits for streams of the other side learns that there will be none
      return { state: { ...state, holders: 0, isRemoteEnded: true }, actions: [] };
    case "time":
      return { state, actions: [] };
  }
}

function onOpenReceived(state: MultiplexerState, id: number, maxStreams: number): MultiplexerStep {
  if (id !== state.nextRemoteId) {
    throw malformed("stream frame", `OPEN of stream ${id} instead of ${state.nextRemoteId}`);
  }
  const next = { ...state, nextRemoteId: id + 2, isUsed: true };
  if (state.phase === "ending") return { state: next, actions: [] };
  if (state.remote >= maxStreams) return { state: next, actions: [{ kind: "refuse", id }] };
  return { state: { ...next, remote: state.remote + 1 }, actions: [{ kind: "accept", id }] };
}

function refuse(state: MultiplexerState, why: "too-many" | "ending"): MultiplexerStep {
  return { state, actions: [{ kind: "refuse-open", why }] };
}

/** The largest number that an OPEN can carry. */
const MAX_ID = 0xffff_ffff;
