/**
 * Decides whether a direct path delivers less than the relay that carried the connection before it: then it is left for the
 * relay. Most direct paths are faster than any relay; some lose so much that they are not.
 *
 * What a path delivers is measured in windows of two seconds, in which something was delivered. That is what the path can
 * do only if the application has enough to send. So the direct path is not blamed for less than half of what the relay
 * did until several windows in a row say so, and only for what the relay did within the last minute.
 *
 * @module
 */

/** What is known about the paths of one connection. Times are milliseconds on one clock that never goes backwards. */
export interface PathChoiceState {
  /** What carries the connection. */
  readonly path: "none" | "direct" | "relayed";
  /** Since when. */
  readonly sinceMs: number;
  /** What the relay delivered in its best window, in bytes per millisecond, and when that was; `null` if nothing. */
  readonly relay: { readonly rate: number; readonly atMs: number } | null;
  /** The start of the present window, and the bytes of the connection by then. */
  readonly window: { readonly startedMs: number; readonly bytes: number };
  /** How many windows in a row the direct path has delivered too little. */
  readonly slowWindows: number;
}

/** What happened. */
export type PathChoiceEvent =
  /** The connection has moved to a path, or lost it. `bytes` as below. */
  | { readonly kind: "path"; readonly path: PathChoiceState["path"]; readonly bytes: number }
  /** A while has passed; `bytes` is how many were delivered in both directions since the connection began. */
  | { readonly kind: "delivered"; readonly bytes: number };

/** Move to the relay. */
export interface PathChoiceAction {
  readonly kind: "leave";
  /** What the direct path delivers, and what the relay did, in bytes per millisecond. */
  readonly direct: number;
  readonly relayed: number;
}

/** What follows from an event. */
export interface PathChoiceStep {
  readonly state: PathChoiceState;
  readonly actions: readonly PathChoiceAction[];
}

/** The state before the first path. */
export const INITIAL_PATH_CHOICE: PathChoiceState = {
  path: "none",
  sinceMs: -Infinity,
  relay: null,
  window: { startedMs: -Infinity, bytes: 0 },
  slowWindows: 0,
};

/** The next state, and whether to leave the path. */
export function stepPathChoice(
  state: PathChoiceState,
  event: PathChoiceEvent,
  nowMs: number,
): PathChoiceStep {
  const { bytes } = event;
  if (event.kind === "path") {
    if (event.path === state.path) return { state, actions: [] };
    const window = { startedMs: nowMs, bytes };
    return {
      state: { ...state, path: event.path, sinceMs: nowMs, window, slowWindows: 0 },
      actions: [],
    };
  }
  const { path, relay, window, sinceMs } = state;
  const elapsedMs = nowMs - window.startedMs;
  if (path === "none" || elapsedMs < WINDOW_MS) return { state, actions: [] };
  const rate = (bytes - window.bytes) / elapsedMs;
  const next = { ...state, window: { startedMs: nowMs, bytes } };
  if (path === "relayed") {
    const isBest = relay === null || rate >= relay.rate || nowMs - relay.atMs > RELAY_KNOWN_MS;
    const known = isBest && rate >= MIN_RATE ? { rate, atMs: nowMs } : relay;
    return { state: { ...next, relay: known }, actions: [] };
  }
  const isKnown = relay !== null && nowMs - relay.atMs <= RELAY_KNOWN_MS;
  const isSettled = window.startedMs - sinceMs >= SETTLE_MS;
  // Without a byte it is idle, or has stalled, for which there is another remedy.
  if (!isKnown || !isSettled || rate === 0) return { state: next, actions: [] };
  const slowWindows = rate < SLOW_SHARE * relay.rate ? state.slowWindows + 1 : 0;
  if (slowWindows < SLOW_WINDOWS) return { state: { ...next, slowWindows }, actions: [] };
  // What the relay did is measured anew: if the application has less to send now, the direct path is as good.
  return {
    state: { ...next, slowWindows: 0, relay: null },
    actions: [{ kind: "leave", direct: rate, relayed: relay.rate }],
  };
}

/** Chosen by us: many round trips, and several losses. */
const WINDOW_MS = 2000;

/** How long a path may take until it delivers what it can. Chosen by us: slow start over a long path. */
const SETTLE_MS = 1500;

/** Chosen by us: a second window shows that the first was no accident. */
const SLOW_WINDOWS = 2;

/** Chosen by us: a relay costs its owner something, so that it has to be worth it. */
const SLOW_SHARE = 0.5;

/** Chosen by us: less than 16 KB/s says that the application has little to send, and nothing about a path. */
const MIN_RATE = 16;

/** Chosen by us: applications begin and end transfers, and networks change. */
const RELAY_KNOWN_MS = 60_000;
