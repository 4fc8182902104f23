/**
 * Decides which connection to a forwarded port goes next. Pure; `waiting_connections.ts` reads from them and dials.
 *
 * A limited number of jobs runs at a time, each for one connection. When a job ends, the newest connection whose client is
 * still there goes next; those whose clients have closed their end come last: after a flood, the oldest have been given up
 * by whoever opened them, and a newcomer would wait for all of them.
 *
 * While the process has too many open files, those whose clients have closed their end are given up, even if their job
 * runs, and so are the oldest others that wait. A client may close its end and still wait for an answer, but most such
 * clients are gone, and the others need their file descriptors. Then no job starts before connections have stopped
 * arriving for a moment: the last to arrive is the one that waits for an answer, and those before it may be gone already.
 *
 * @module
 */

/** All connections that wait, and the jobs that run. */
export interface WaitingState {
  /** How many more jobs may run now. */
  readonly free: number;
  /** The oldest first. */
  readonly waiting: readonly WaitingConnection[];
  /** Those whose jobs run. */
  readonly running: readonly WaitingConnection[];
  /** Whether the listener has too many open files. */
  readonly isListenerShort: boolean;
  /** Until when others are expected to find too many open files. */
  readonly shortUntilMs: number;
  /** While no job is started: when that is over, if nothing arrives, and when at the latest. */
  readonly hold: { readonly untilMs: number; readonly latestMs: number } | null;
}

/** A connection that waits, or whose job runs. */
export interface WaitingConnection {
  readonly id: number;
  /** Whether its client has closed its end, at least for writing. */
  readonly hasEnded: boolean;
}

/** What happens; connections have numbers. */
export type WaitingEvent =
  | { readonly kind: "arrived"; readonly id: number; readonly hasEnded: boolean }
  /** Its client has closed its end. */
  | { readonly kind: "ended"; readonly id: number }
  /** Its job is done; `isShort` if it has failed because the process has too many open files. */
  | { readonly kind: "done"; readonly id: number; readonly isShort: boolean }
  /** What the listener says. */
  | { readonly kind: "shortage"; readonly begins: boolean }
  | { readonly kind: "time" };

/** What the driver has to do. */
export type WaitingAction =
  | { readonly kind: "start"; readonly id: number }
  /** Give it up, and end its job if that runs: others need its file descriptors. */
  | { readonly kind: "shed"; readonly id: number };

/** What follows from an event. */
export interface WaitingStep {
  readonly state: WaitingState;
  readonly actions: readonly WaitingAction[];
}

/** @param atOnce how many jobs may run at a time */
export function initialWaitingState(atOnce: number): WaitingState {
  return {
    free: atOnce,
    waiting: [],
    running: [],
    isListenerShort: false,
    shortUntilMs: -Infinity,
    hold: null,
  };
}

/** The next state, and what to do now. */
export function stepWaiting(state: WaitingState, event: WaitingEvent, nowMs: number): WaitingStep {
  const { state: left, actions } = shed(after(state, event, nowMs), nowMs);
  const started = left.hold === null ? startNext(left) : { state: left, actions: [] };
  return { state: started.state, actions: [...actions, ...started.actions] };
}

/** When jobs may start, if nothing happens before. */
export function waitingWakeAtMs({ hold }: WaitingState): number {
  return hold?.untilMs ?? Infinity;
}

/** The state after an event, before anything follows from it. */
function after(state: WaitingState, event: WaitingEvent, nowMs: number): WaitingState {
  const { waiting, running } = state;
  switch (event.kind) {
    case "arrived": {
      const { id, hasEnded } = event;
      const latestMs = state.hold?.latestMs ?? nowMs + MAX_HOLD_MS;
      const hold = { untilMs: Math.min(nowMs + HOLD_MS, latestMs), latestMs };
      return {
        ...state,
        waiting: waiting.concat({ id, hasEnded }),
        hold: isShort(state, nowMs) ? hold : state.hold,
      };
    }
    case "ended": {
      const mark = (each: WaitingConnection) =>
        each.id === event.id ? { ...each, hasEnded: true } : each;
      return { ...state, waiting: waiting.map(mark), running: running.map(mark) };
    }
    case "done":
      return {
        ...state,
        free: state.free + 1,
        running: running.filter(({ id }) => id !== event.id),
        shortUntilMs: event.isShort ? nowMs + SHORTAGE_MS : state.shortUntilMs,
      };
    case "shortage":
      return { ...state, isListenerShort: event.begins, shortUntilMs: nowMs + SHORTAGE_MS };
    case "time": {
      const isOver = state.hold !== null && state.hold.untilMs <= nowMs;
      return isOver ? { ...state, hold: null } : state;
    }
  }
}

function startNext(state: WaitingState): WaitingStep {
  const waiting = state.waiting.slice();
  const running = state.running.slice();
  const actions: WaitingAction[] = [];
  for (let { free } = state; free > 0 && waiting.length > 0; free--) {
    const index = waiting.findLastIndex(({ hasEnded }) => !hasEnded); // -1 is the last
    const [next] = waiting.splice(index, 1);
    running.push(next!);
    actions.push({ kind: "start", id: next!.id });
  }
  return { state: { ...state, waiting, running, free: state.free - actions.length }, actions };
}

/** A job that is ended keeps its place until it is done. */
function shed(state: WaitingState, nowMs: number): WaitingStep {
  if (!isShort(state, nowMs)) return { state, actions: [] };
  const waiting = state.waiting.filter(({ hasEnded }) => !hasEnded)
    .slice(-MAX_WAITING_IN_SHORTAGE);
  const running = state.running.filter(({ hasEnded }) => !hasEnded);
  const actions = [...state.waiting, ...state.running]
    .filter((each) => !waiting.includes(each) && !running.includes(each))
    .map(({ id }) => ({ kind: "shed", id }) as const);
  return { state: { ...state, waiting, running }, actions };
}

/** A listener that accepts nothing does not always know why; jobs find out sooner. */
function isShort({ isListenerShort, shortUntilMs }: WaitingState, nowMs: number): boolean {
  return isListenerShort || nowMs < shortUntilMs;
}

/** Chosen by us: while there are no file descriptors, those of connections that wait are needed to dial. */
const MAX_WAITING_IN_SHORTAGE = 8;

/** Chosen by us: longer than it takes to free the file descriptors of a few hundred connections. */
const SHORTAGE_MS = 1000;

/** Chosen by us: as long as a listener waits before it looks again whether it can accept. */
const HOLD_MS = 25;

/** Chosen by us: a flood that goes on keeps no one waiting for longer. */
const MAX_HOLD_MS = 100;
