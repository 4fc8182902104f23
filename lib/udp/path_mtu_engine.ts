/**
 * The path MTU, found with datagrams of padding (RFC 8899, DPLPMTUD), as a pure engine. Sizes are those of datagrams,
 * without the headers of UDP and IP.
 *
 * The largest size is tried first, because most paths take it; if it is lost three times, the middle of what is left.
 * If datagrams above the base size stop arriving, the path has become a black hole for them: back to the base size.
 *
 * @module
 */

/** What is known about the path MTU. */
export interface PathMtuState {
  /** Datagrams of this size arrive. */
  readonly bytes: number;
  /** Datagrams larger than this do not, as far as is known. */
  readonly upperBytes: number;
  readonly maxBytes: number;
  /** The size that is being tried, and how often it was. */
  readonly probe: { readonly bytes: number; readonly tries: number } | undefined;
  /** When to start a search; `Infinity` while one is running. */
  readonly searchMs: number;
  /** Large datagrams that were lost since one arrived, and when one did. */
  readonly lostInRow: number;
  readonly arrivedMs: number;
}

/** What has happened. */
export type PathMtuEvent =
  /** The path works, or `searchMs` has come. */
  | { readonly kind: "timer" }
  /** The datagram of a probe has arrived, or was lost. */
  | { readonly kind: "probe-arrived" | "probe-lost"; readonly bytes: number }
  /** Another datagram has arrived, or was lost. */
  | { readonly kind: "arrived" | "lost"; readonly bytes: number };

/** What to do. */
export type PathMtuAction =
  /** Send a probe of this size. */
  | { readonly kind: "probe"; readonly bytes: number }
  /** Send datagrams of up to this size. */
  | { readonly kind: "resize"; readonly bytes: number };

/** The next state, and what to do. */
export interface PathMtuStep {
  readonly state: PathMtuState;
  readonly actions: readonly PathMtuAction[];
}

/** The state before the first packet; a search is due at once. */
export function initialPathMtuState(maxBytes: number): PathMtuState {
  return {
    bytes: Math.min(BASE_BYTES, maxBytes),
    upperBytes: maxBytes,
    maxBytes,
    probe: undefined,
    searchMs: 0,
    lostInRow: 0,
    arrivedMs: 0,
  };
}

/** Processes an event. */
export function stepPathMtu(state: PathMtuState, event: PathMtuEvent, nowMs: number): PathMtuStep {
  switch (event.kind) {
    case "timer":
      return nowMs < state.searchMs
        ? stay(state)
        : tryNext({ ...state, upperBytes: state.maxBytes, searchMs: Infinity }, nowMs, true);
    case "probe-arrived": {
      if (event.bytes <= state.bytes) return stay(state);
      const grown = { ...state, bytes: event.bytes, lostInRow: 0, arrivedMs: nowMs };
      const { state: next, actions } = tryNext(grown, nowMs, false);
      return { state: next, actions: [{ kind: "resize", bytes: event.bytes }, ...actions] };
    }
    case "probe-lost":
      return onProbeLost(state, event.bytes, nowMs);
    case "arrived":
      return event.bytes <= BASE_BYTES || state.lostInRow === 0 && nowMs - state.arrivedMs < 100
        ? stay(state) // nearly always: nothing worth a copy
        : stay({ ...state, lostInRow: 0, arrivedMs: nowMs });
    case "lost":
      return event.bytes <= BASE_BYTES ? stay(state) : onLargeLost(state, nowMs);
  }
}

function onProbeLost(state: PathMtuState, bytes: number, nowMs: number): PathMtuStep {
  const { probe } = state;
  if (probe === undefined || probe.bytes !== bytes) return stay(state);
  if (probe.tries < MAX_PROBES) {
    const next = { ...state, probe: { bytes, tries: probe.tries + 1 } };
    return { state: next, actions: [{ kind: "probe", bytes }] };
  }
  return tryNext({ ...state, upperBytes: bytes }, nowMs, false);
}

function onLargeLost(state: PathMtuState, nowMs: number): PathMtuStep {
  const lostInRow = state.lostInRow + 1;
  const isBlackHole = lostInRow >= BLACK_HOLE_LOSSES &&
    nowMs - state.arrivedMs >= BLACK_HOLE_MS && state.bytes > BASE_BYTES;
  if (!isBlackHole) return stay({ ...state, lostInRow });
  return {
    state: {
      ...initialPathMtuState(state.maxBytes),
      searchMs: nowMs + RETRY_MS,
      arrivedMs: nowMs,
    },
    actions: [{ kind: "resize", bytes: BASE_BYTES }],
  };
}

/** Tries the largest size if a search begins, and the middle of what is left otherwise. */
function tryNext(state: PathMtuState, nowMs: number, isFirst: boolean): PathMtuStep {
  const bytes = isFirst ? state.maxBytes : Math.floor((state.bytes + state.upperBytes) / 2);
  const isDone = state.bytes >= state.maxBytes || !isFirst && bytes - state.bytes < MIN_STEP_BYTES;
  if (isDone) return stay({ ...state, probe: undefined, searchMs: nowMs + RAISE_MS });
  return {
    state: { ...state, probe: { bytes, tries: 1 } },
    actions: [{ kind: "probe", bytes }],
  };
}

function stay(state: PathMtuState): PathMtuStep {
  return { state, actions: NOTHING };
}

const NOTHING: readonly PathMtuAction[] = [];

/** RFC 8899 §5.1.2: BASE_PLPMTU. */
export const BASE_BYTES = 1200;

/** Chosen by us: what fits into Ethernet's 1500 bytes with the headers of UDP and IPv6. */
export const MAX_BYTES = 1452;

/** RFC 8899 §5.1.2. */
const MAX_PROBES = 3;

/** RFC 8899 §5.1.1: PMTU_RAISE_TIMER. */
const RAISE_MS = 600_000;

/** Chosen by us: after a black hole, or an outage that looked like one. */
const RETRY_MS = 60_000;

/** Chosen by us: fewer bytes are not worth a probe. */
const MIN_STEP_BYTES = 16;

/** Chosen by us: a full queue drops several in a row, but not for a second. */
const BLACK_HOLE_LOSSES = 4;
const BLACK_HOLE_MS = 1000;
