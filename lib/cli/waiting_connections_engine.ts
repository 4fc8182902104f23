/**
 * Decides which connection to a forwarded port goes next. Pure; `waiting_connections.ts` reads from them and dials.
 *
 * A limited number of jobs runs at a time, each for one connection. When a job ends, the newest connection whose client is
 * still there goes next; those whose clients have closed their end come last: after a flood, the oldest have been given up
 * by whoever opened them, and a newcomer would wait for all of them.
 *
 * While the process has too many open files, those whose clients have closed their end are given up, even if their job
 * runs, and so are the oldest others that wait. A client may close its end and still wait for an answer, but most such
 * clients are gone, and the others need their file descriptors.
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
  /** Until when jobs are expected to find too many open files. */
  readonly jobsShortUntilMs: number;
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
  | { readonly kind: "shortage"; readonly begins: boolean };

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
    jobsShortUntilMs: -Infinity,
  };
}

/** The next state, and what to do now. */
export function stepWaiting(state: WaitingState, event: WaitingEvent, nowMs: number): WaitingStep {
  switch (event.kind) {
    case "arrived": {
      const { id, hasEnded } = event;
      if (state.free > 0 && !(hasEnded && isShort(state, nowMs))) {
        return start({ ...state, free: state.free - 1 }, { id, hasEnded });
      }
      return shed({ ...state, waiting: state.waiting.concat({ id, hasEnded }) }, nowMs);
    }
    case "ended": {
      const mark = (each: WaitingConnection) =>
        each.id === event.id ? { ...each, hasEnded: true } : each;
      const { waiting, running } = state;
      return shed({ ...state, waiting: waiting.map(mark), running: running.map(mark) }, nowMs);
    }
    case "done":
      return done(state, event, nowMs);
    case "shortage":
      return shed({ ...state, isListenerShort: event.begins }, nowMs);
  }
}

function start(state: WaitingState, connection: WaitingConnection): WaitingStep {
  const running = state.running.concat(connection);
  return { state: { ...state, running }, actions: [{ kind: "start", id: connection.id }] };
}

function done(
  state: WaitingState,
  { id, isShort }: { readonly id: number; readonly isShort: boolean },
  nowMs: number,
): WaitingStep {
  const jobsShortUntilMs = isShort ? nowMs + JOB_SHORTAGE_MS : state.jobsShortUntilMs;
  const running = state.running.filter((each) => each.id !== id);
  const { state: left, actions } = shed({ ...state, jobsShortUntilMs, running }, nowMs);
  if (left.waiting.length === 0) return { state: { ...left, free: left.free + 1 }, actions };
  const index = left.waiting.findLastIndex(({ hasEnded }) => !hasEnded); // -1 is the last
  const waiting = left.waiting.slice();
  const [next] = waiting.splice(index, 1);
  const started = start({ ...left, waiting }, next!);
  return { state: started.state, actions: [...actions, ...started.actions] };
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
function isShort({ isListenerShort, jobsShortUntilMs }: WaitingState, nowMs: number): boolean {
  return isListenerShort || nowMs < jobsShortUntilMs;
}

/** Chosen by us: while there are no file descriptors, those of connections that wait are needed to dial. */
const MAX_WAITING_IN_SHORTAGE = 8;

/** Chosen by us: longer than it takes to free the file descriptors of a few hundred connections. */
const JOB_SHORTAGE_MS = 1000;
