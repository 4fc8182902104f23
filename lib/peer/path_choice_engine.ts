/**
 * Decides whether the path of a connection is worse than another one that it had, or may have: then it is left for that one.
 * A direct path that delivers less is left for the relay, or for the direct path by the other transport; one that is quiet
 * is left if its round trip is much longer than that of the other transport. By default TCP comes before UDP, but TCP halves
 * its rate on each loss: if a direct path by TCP is held up although little is under way, UDP is tried once.
 *
 * What a path delivers is measured in windows of two seconds. That is what the path can do only if the application has
 * enough to send. So a path is not blamed until several windows in a row say so, and only for what another path did within
 * the last minute of its use, not more than a minute ago. A new direct path that was never half as good as the relay before
 * it is left sooner: when it stalls, or after one window in which little arrived and much was waiting.
 *
 * @module
 */

/** What a connection runs over: a relay, or a direct path by a transport. */
export type Route = "relay" | "tcp" | "udp";

/** What is known about the paths of one connection. Times are milliseconds on one clock that never goes backwards. */
export interface PathChoiceState {
  /** Whether both sides can punch by UDP, as far as this side knows. */
  readonly hasUdp: boolean;
  /** What carries the connection. */
  readonly route: Route | "none";
  /** Since when. */
  readonly sinceMs: number;
  /** What each route did when it was used last. For the present one, that is its last use until this one is measured. */
  readonly known: Readonly<Partial<Record<Route, RouteRecord>>>;
  /** Whether a whole window of the present path was measured. */
  readonly isMeasured: boolean;
  /** The start of the present window, the bytes of the connection by then, and the longest round trip since. */
  readonly window: { readonly startedMs: number; readonly bytes: number; readonly rttMs: number };
  /** The shortest round trip of the present path; `Infinity` until it is measured. */
  readonly leastRttMs: number;
  /** How many windows in a row the path has been worse than which other route. */
  readonly worse: { readonly than: Route | null; readonly windows: number };
  /** Until when a direct path is not left for another direct one again, and how long that was. */
  readonly calm: { readonly untilMs: number; readonly waitMs: number };
  /** The direct route that was chosen here: it may turn out to be worse, and then it is left at once. */
  readonly trial: Route | null;
}

/** What a route did. */
export interface RouteRecord {
  /** What it delivered in its best window, in bytes per millisecond; 0 if that says nothing about the path. */
  readonly rate: number;
  /** Its shortest round trip; `Infinity` if it was not measured. */
  readonly rttMs: number;
  readonly atMs: number;
}

/** What happened. */
export type PathChoiceEvent =
  /**
   * The connection has moved to a path, or lost it. `bytes` as below; `rttsMs` are round trips that were measured on other
   * paths.
   */
  | {
    readonly kind: "path";
    readonly route: Route | "none";
    readonly bytes: number;
    readonly rttsMs: Readonly<Partial<Record<Route, number>>>;
  }
  /**
   * A while has passed; `bytes` is how many were delivered in both directions since the connection began, `rttMs` the round
   * trip of late, with the time in queues; `undefined` if it is not known.
   */
  | { readonly kind: "delivered"; readonly bytes: number; readonly rttMs: number | undefined }
  /** An answer over the path is overdue. */
  | { readonly kind: "stalled" };

/** Move to another path. */
export interface PathChoiceAction {
  readonly kind: "leave";
  readonly for: Route;
  /** For people. */
  readonly why: string;
}

/** What follows from an event. */
export interface PathChoiceStep {
  readonly state: PathChoiceState;
  readonly actions: readonly PathChoiceAction[];
}

/** The state before the first path. */
export function initialPathChoice(hasUdp: boolean): PathChoiceState {
  return {
    hasUdp,
    route: "none",
    sinceMs: -Infinity,
    known: {},
    isMeasured: false,
    window: { startedMs: -Infinity, bytes: 0, rttMs: 0 },
    leastRttMs: Infinity,
    worse: BETTER,
    calm: { untilMs: -Infinity, waitMs: FIRST_CALM_MS },
    trial: null,
  };
}

/** The next state, and whether to leave the path. */
export function stepPathChoice(
  state: PathChoiceState,
  event: PathChoiceEvent,
  nowMs: number,
): PathChoiceStep {
  if (event.kind === "path") return { state: moved(state, event, nowMs), actions: [] };
  if (event.kind === "stalled") return onStalled(state, nowMs);
  const leastRttMs = Math.min(state.leastRttMs, event.rttMs ?? Infinity);
  const window = { ...state.window, rttMs: Math.max(state.window.rttMs, event.rttMs ?? 0) };
  const measured = { ...state, leastRttMs, window };
  const { route, sinceMs } = measured;
  const elapsedMs = nowMs - window.startedMs;
  if (route === "none" || elapsedMs < WINDOW_MS) return { state: measured, actions: [] };
  const rate = (event.bytes - window.bytes) / elapsedMs;
  const isSettled = window.startedMs - sinceMs >= SETTLE_MS;
  const next = {
    ...withRate(measured, route, rate, nowMs),
    window: { startedMs: nowMs, bytes: event.bytes, rttMs: 0 },
  };
  if (route === "relay" || !isSettled) return { state: next, actions: [] };
  const fault = faultOf(next, { rate, rttMs: window.rttMs }, nowMs);
  if (fault === undefined) return { state: { ...next, worse: BETTER }, actions: [] };
  if (fault === "unknown") return { state: next, actions: [] };
  const windows = next.worse.than === fault.for ? next.worse.windows + 1 : 1;
  if (windows < (fault.isPlain ? 1 : WORSE_WINDOWS)) {
    return { state: { ...next, worse: { than: fault.for, windows } }, actions: [] };
  }
  const { for: other, why } = fault;
  return { state: left(next, other, nowMs), actions: [{ kind: "leave", for: other, why }] };
}

function moved(
  state: PathChoiceState,
  { route, bytes, rttsMs }: Extract<PathChoiceEvent, { kind: "path" }>,
  nowMs: number,
): PathChoiceState {
  if (route === state.route) return state;
  const { route: before, leastRttMs, isMeasured, trial } = state;
  const known = { ...state.known };
  for (const each of ["relay", "tcp", "udp"] as const) {
    const record = known[each];
    const rttMs = record?.rttMs ?? rttsMs[each] ?? Infinity;
    const rate = freshOf(state, each, nowMs)?.rate ?? 0;
    if (each === before) {
      const atMs = isMeasured || record === undefined ? nowMs : record.atMs;
      known[each] = { rate, rttMs: Math.min(leastRttMs, rttMs), atMs };
    } else if (each !== route && rttMs < Infinity) known[each] ??= { rate, rttMs, atMs: nowMs };
  }
  return {
    ...state,
    route,
    known,
    isMeasured: false,
    sinceMs: nowMs,
    window: { startedMs: nowMs, bytes, rttMs: 0 },
    leastRttMs: Infinity,
    worse: BETTER,
    trial: route === "none" || route === trial ? trial : null,
  };
}

/**
 * Remembers the best window of the route, for as long as it counts. The first one takes the place of what was known before:
 * the application may have less to send now.
 */
function withRate(
  state: PathChoiceState,
  route: Route,
  rate: number,
  nowMs: number,
): PathChoiceState {
  const known = { ...state.known };
  if (!state.isMeasured) delete known[route];
  const before = known[route];
  const isBest = before === undefined || rate >= before.rate || nowMs - before.atMs > KNOWN_MS;
  if (isBest && rate >= MIN_RATE) known[route] = { rate, rttMs: state.leastRttMs, atMs: nowMs };
  return { ...state, known, isMeasured: true };
}

/** What a route did, if that still counts. */
function freshOf(
  { known }: PathChoiceState,
  route: Route,
  nowMs: number,
): RouteRecord | undefined {
  const record = known[route];
  return record !== undefined && nowMs - record.atMs <= KNOWN_MS ? record : undefined;
}

/** The remedy for a path that stalls is another path. Here it is known which one: another direct one may be as slow. */
function onStalled(state: PathChoiceState, nowMs: number): PathChoiceStep {
  const relay = freshOf(state, "relay", nowMs);
  const isDirect = state.route === "tcp" || state.route === "udp";
  if (!isDirect || relay === undefined || !isUnproved(state, relay, nowMs)) {
    return { state, actions: [] };
  }
  const why = `it has stalled, and the relay delivered ${relay.rate.toFixed(0)} KB/s`;
  return { state: left(state, "relay", nowMs), actions: [{ kind: "leave", for: "relay", why }] };
}

/** Whether the path is new, and has not been half as good as the relay yet. */
function isUnproved(
  { route, sinceMs, isMeasured, known }: PathChoiceState,
  relay: RouteRecord,
  nowMs: number,
): boolean {
  const rate = isMeasured && route !== "none" ? known[route]?.rate ?? 0 : 0;
  return nowMs - sinceMs <= NEW_MS && rate < RELAY_SHARE * relay.rate;
}

/** What a path is worse than. */
interface Fault extends Omit<PathChoiceAction, "kind"> {
  /** Whether one window is enough. */
  readonly isPlain?: boolean;
}

/** What the path is worse than, and why; `unknown` if this window says nothing. */
function faultOf(
  state: PathChoiceState,
  { rate, rttMs }: { readonly rate: number; readonly rttMs: number },
  nowMs: number,
): Fault | "unknown" | undefined {
  const { leastRttMs, route, calm, trial, hasUdp } = state;
  const relay = freshOf(state, "relay", nowMs);
  // Without a byte it is idle, or has stalled, for which there is another remedy.
  if (relay !== undefined && rate > 0 && rate < RELAY_SHARE * relay.rate) {
    const shortMs = Math.min(leastRttMs, relay.rttMs);
    const isWaiting = leastRttMs === Infinity || rttMs > QUEUE_SHARE * shortMs + QUEUE_MS;
    const isPlain = isWaiting && rate < PLAIN_SHARE * relay.rate &&
      isUnproved(state, relay, nowMs);
    return { for: "relay", why: inRates(rate, relay.rate), isPlain };
  }
  // Otherwise the application has no more to send.
  const isQueued = rttMs > QUEUE_SHARE * leastRttMs + QUEUE_MS;
  const isCalm = nowMs < calm.untilMs && trial !== route;
  const other = route === "tcp" ? "udp" : "tcp";
  const record = freshOf(state, other, nowMs);
  if (!isCalm && record !== undefined) {
    const share = trial === route ? TRIAL_SHARE : DIRECT_SHARE;
    if (rate > 0 && rate < share * record.rate && isQueued) {
      return { for: other, why: inRates(rate, record.rate) };
    }
    const isFar = leastRttMs < Infinity && leastRttMs > FAR_SHARE * record.rttMs + FAR_MS;
    if (rate < MIN_RATE && isFar) {
      const [here, there] = [leastRttMs.toFixed(0), record.rttMs.toFixed(0)];
      return { for: other, why: `its round trip takes ${here} ms instead of ${there}` };
    }
  }
  const isHeldUp = isQueued && rate >= MIN_RATE &&
    rate * Math.min(leastRttMs, TYPICAL_RTT_MS) < FEW_BYTES;
  const isUntried = record === undefined || record.rate === 0;
  if (route === "tcp" && hasUdp && !isCalm && isUntried && isHeldUp) {
    return { for: "udp", why: `it delivers ${rate.toFixed(0)} KB/s, and much is waiting` };
  }
  return rate === 0 ? "unknown" : undefined;
}

/** The search for the other path may fail, or another one may be under way: what is known is kept until it is used. */
function left(state: PathChoiceState, target: Route, nowMs: number): PathChoiceState {
  const isDirect = target !== "relay";
  const isReturn = state.trial === state.route;
  const { waitMs } = state.calm;
  return {
    ...state,
    worse: BETTER,
    trial: isDirect && !isReturn ? target : null,
    calm: isDirect
      ? { untilMs: nowMs + waitMs, waitMs: Math.min(2 * waitMs, MAX_CALM_MS) }
      : state.calm,
  };
}

function inRates(here: number, there: number): string {
  return `it delivers ${here.toFixed(0)} KB/s instead of ${there.toFixed(0)}`;
}

const BETTER: PathChoiceState["worse"] = { than: null, windows: 0 };

/** Chosen by us: many round trips, and several losses. */
const WINDOW_MS = 2000;

/** How long a path may take until it delivers what it can. Chosen by us: slow start over a long path. */
const SETTLE_MS = 1500;

/** How long a direct path is new. Chosen by us: several windows; a stall after that says nothing about rates. */
const NEW_MS = 10_000;

/** Chosen by us: a second window shows that the first was no accident. */
const WORSE_WINDOWS = 2;

/** Chosen by us: a relay costs its owner something, so that it has to be worth it. */
const RELAY_SHARE = 0.5;

/** Chosen by us: no accident makes a good path that slow for a window. */
const PLAIN_SHARE = 0.25;

/** Chosen by us: the other direct path costs nothing more, but what an application sends varies by itself. */
const DIRECT_SHARE = 0.7;

/** Chosen by us: what is not clearly better is not worth a change of what firewalls and systems treat less well. */
const TRIAL_SHARE = 1.2;

/** Chosen by us: what jitter and the way of a packet through the host do not explain. */
const [FAR_SHARE, FAR_MS] = [1.5, 20];

/** Chosen by us: in both directions together, as much as TCP has under way at a loss of half a percent. */
const FEW_BYTES = 49_152;

/** Chosen by us: where much is lost and the path is busy, the shortest round trip that was measured may be far too long. */
const TYPICAL_RTT_MS = 100;

/** Chosen by us: answers wait behind what is to be sent, or to be sent again. */
const [QUEUE_SHARE, QUEUE_MS] = [1.5, 25];

/** Chosen by us: less than 16 KB/s says that the application has little to send, and nothing about a path. */
const MIN_RATE = 16;

/** How long what a route did counts. Chosen by us: applications begin and end transfers, and networks change. */
export const KNOWN_MS = 60_000;

/** Chosen by us: a search costs a few datagrams and messages. */
const [FIRST_CALM_MS, MAX_CALM_MS] = [60_000, 960_000];
