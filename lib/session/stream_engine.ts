/**
 * The streams of a session, as pure functions: the lifecycle of one, in which each direction ends by itself and a reset
 * ends both, as with TCP; and how many there may be, and when the session has no more use.
 *
 * @module
 */

import { malformed } from "../base/errors.ts";
import type { SessionRole } from "./migration_engine.ts";

/** What has happened to a stream so far. */
export interface StreamState {
  /** `ending`: what was written, and then the end, wait for room. */
  readonly sending: "open" | "ending" | "ended";
  readonly receiving: "open" | "ended";
  /** Whether this side has closed the stream, and discards what arrives. */
  readonly isClosed: boolean;
  /** Whether it has discarded anything. */
  readonly hasDiscarded: boolean;
}

/** What happens to a stream. */
export type StreamEvent =
  /** This side writes no more. */
  | { readonly kind: "write-closed" }
  /** END was written after everything else. */
  | { readonly kind: "end-written" }
  /** This side neither writes nor reads any more. */
  | { readonly kind: "closed"; readonly hasUnread: boolean }
  /** This side gives it up. */
  | { readonly kind: "reset"; readonly code: number }
  /** The other side has not ended it in time after this side has closed it. */
  | { readonly kind: "time-up" }
  | { readonly kind: "data-received" }
  | { readonly kind: "end-received" }
  | { readonly kind: "reset-received"; readonly code: number };

/** What to do. */
export type StreamAction =
  /** Deliver the data that was received. */
  | { readonly kind: "deliver" }
  /** The reader gets everything that has arrived, and then the end. */
  | { readonly kind: "end-reading" }
  /** Forget what has arrived; reads fail. */
  | { readonly kind: "discard" }
  /** Write END after everything else. */
  | { readonly kind: "write-end" }
  | { readonly kind: "write-reset"; readonly code: number }
  /** Reads and writes fail, because the other side has given up the stream. */
  | { readonly kind: "fail"; readonly code: number }
  /** Give the other side a limited time to end it. */
  | { readonly kind: "start-timer" }
  /** Both directions have ended. */
  | { readonly kind: "over" };

/** The result of a step. */
export interface StreamStep {
  readonly state: StreamState;
  readonly actions: readonly StreamAction[];
}

/** A stream at its beginning. */
export const OPEN_STREAM: StreamState = {
  sending: "open",
  receiving: "open",
  isClosed: false,
  hasDiscarded: false,
};

/**
 * One step of the lifecycle.
 *
 * @throws {MalformedMessageError} if the other side sends anything after its END
 */
export function stepStream(state: StreamState, event: StreamEvent): StreamStep {
  switch (event.kind) {
    case "write-closed":
      if (state.sending !== "open") return { state, actions: [] };
      return { state: { ...state, sending: "ending" }, actions: [{ kind: "write-end" }] };
    case "end-written":
      return settle({ ...state, sending: "ended" }, []);
    case "closed":
      return onClosed(state, event.hasUnread);
    case "reset":
      if (isOver(state)) return { state, actions: [{ kind: "discard" }] };
      return { state: OVER, actions: [{ kind: "discard" }, ...resetWith(event.code)] };
    case "time-up":
      return isOver(state) || !state.isClosed
        ? { state, actions: [] }
        : { state: OVER, actions: resetWith(0) };
    case "data-received":
      if (state.receiving === "ended") throw malformed(WHAT, "data after END");
      if (!state.isClosed) return { state, actions: DELIVER };
      return settle({ ...state, hasDiscarded: true }, []);
    case "end-received":
      if (state.receiving === "ended") throw malformed(WHAT, "a second END");
      return settle(
        { ...state, receiving: "ended" },
        state.isClosed ? [] : [{ kind: "end-reading" }],
      );
    case "reset-received":
      return { state: OVER, actions: [{ kind: "fail", code: event.code }, { kind: "over" }] };
  }
}

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

/** The other side still reads to the end of what was written, also if this side has not read everything. */
function onClosed(state: StreamState, hasUnread: boolean): StreamStep {
  if (isOver(state)) return { state, actions: [{ kind: "discard" }] };
  if (state.isClosed) return { state, actions: [] };
  const isOpen = state.sending === "open";
  const closed: StreamState = {
    sending: isOpen ? "ending" : state.sending,
    receiving: state.receiving,
    isClosed: true,
    hasDiscarded: hasUnread && state.receiving === "open",
  };
  const actions: StreamAction[] = [{ kind: "discard" }];
  if (isOpen) actions.push({ kind: "write-end" });
  if (state.receiving === "open") actions.push({ kind: "start-timer" });
  return settle(closed, actions);
}

/** A stream is over once both directions have ended, or this side has ended it without reading everything. */
function settle(state: StreamState, actions: readonly StreamAction[]): StreamStep {
  if (state.sending !== "ended") return { state, actions };
  if (state.receiving === "ended") return { state, actions: [...actions, { kind: "over" }] };
  return state.hasDiscarded
    ? { state: OVER, actions: [...actions, ...resetWith(0)] }
    : { state, actions };
}

function resetWith(code: number): readonly StreamAction[] {
  return [{ kind: "write-reset", code }, { kind: "over" }];
}

function isOver({ sending, receiving }: StreamState): boolean {
  return sending === "ended" && receiving === "ended";
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

const OVER: StreamState = {
  sending: "ended",
  receiving: "ended",
  isClosed: true,
  hasDiscarded: false,
};

/** Shared, since most steps are this one. */
const DELIVER: readonly StreamAction[] = [{ kind: "deliver" }];

const WHAT = "stream";

/** The largest number that an OPEN can carry. */
const MAX_ID = 0xffff_ffff;
