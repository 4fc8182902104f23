/**
 * The lifecycle of one stream of a session, as a pure function. As with TCP, each direction ends by itself, and a reset
 * ends both.
 *
 * @module
 */

import { malformed } from "../base/errors.ts";

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
      if (isOver(state)) return { state, actions: [] };
      return { state: OVER, actions: [{ kind: "discard" }, ...giveUp(event.code)] };
    case "time-up":
      return isOver(state) || !state.isClosed
        ? { state, actions: [] }
        : { state: OVER, actions: giveUp(0) };
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
    ? { state: OVER, actions: [...actions, ...giveUp(0)] }
    : { state, actions };
}

function giveUp(code: number): readonly StreamAction[] {
  return [{ kind: "write-reset", code }, { kind: "over" }];
}

function isOver({ sending, receiving }: StreamState): boolean {
  return sending === "ended" && receiving === "ended";
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
