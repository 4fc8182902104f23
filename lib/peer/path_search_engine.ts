/**
 * Decides how the search for paths to a peer goes on: the direct ones first, all at once, and a little later one over a
 * relay. A path may die before it carries a byte: only one over which the other side was heard ends the search for others.
 *
 * | event                  | what follows                                                                             |
 * | ---------------------- | ---------------------------------------------------------------------------------------- |
 * | start                  | prepare a punch; or answer without an offer, and open a relay at once                    |
 * | prepared               | punch                                                                                    |
 * | planned                | open a relay at once if the plan is unlikely to work, or else {@linkcode RELAY_AFTER_MS} later |
 * | direct path found      | move to it, unless there is a better one                                                 |
 * | moved to it            | end the search for direct paths and for a relay                                          |
 * | lost before that       | punch again, {@linkcode MAX_PUNCHES} times in all; open a relay, and end after {@linkcode AFTER_LOSS_MS} |
 * | direct search failed   | let UDP end by itself, and open a relay                                                  |
 * | UDP path found         | move to it, unless there is a better one                                                 |
 * | UDP path confirmed     | end the search for a relay; TCP has {@linkcode TCP_MS} left                              |
 * | relayed path found     | move to it; wait {@linkcode UNUSED_MS} for a direct path that is being tried             |
 * | hopeless, or aborted   | end everything                                                                           |
 *
 * @module
 */

import { messageOf, NetworkError, UnreachableError } from "../base/errors.ts";
import type { PunchMethod } from "../punch/plan_types.ts";
import type {
  Failure,
  PathSearchAction,
  PathSearchEvent,
  PathSearchSettings,
  PathSearchState,
  PathSearchStep,
  SearchedPath,
} from "./path_search_types.ts";

/** The state at the start. */
export function initialPathSearchState(settings: PathSearchSettings): PathSearchState {
  const { isDirect, mayRelay } = settings;
  return {
    settings,
    phase: "starting",
    direct: { stage: isDirect ? "preparing" : "over", punches: 0, path: null, failure: null },
    relay: {
      stage: mayRelay ? "waiting" : "over",
      isDue: false,
      path: null,
      rival: null,
      failure: null,
    },
    best: null,
    used: null,
    lastDirect: null,
    moving: new Set(),
    hasFound: false,
    hasMoved: false,
    isDirectUsed: false,
    hopeless: null,
    isAborted: false,
    timers: NO_TIMERS,
  };
}

/** The next state, and what to do now. */
export function stepPathSearch(
  state: PathSearchState,
  event: PathSearchEvent,
  nowMs: number,
): PathSearchStep {
  if (state.phase === "over") {
    const isFound = event.kind === "punched" || event.kind === "udp found" ||
      event.kind === "relay found";
    return { state, actions: isFound ? [{ kind: "reset", path: event.path }] : [] };
  }
  return concluded(onEvent(state, event, nowMs));
}

/** When the search has something to do next, if nothing happens before. */
export function pathSearchWakeAtMs({ phase, direct, relay, timers }: PathSearchState): number {
  const isSettled = direct.stage === "over" && relay.stage === "over";
  return phase === "over" || isSettled ? Infinity : Math.min(...Object.values(timers));
}

/**
 * Whether a path is better than another one of the same search: direct before relayed, near before far, then TCP before UDP,
 * because the system's congestion control costs less than ours, and firewalls keep its sessions for longer.
 */
export function isBetter(
  found: Omit<SearchedPath, "id">,
  other: Omit<SearchedPath, "id">,
): boolean {
  if (found.isRelayed !== other.isRelayed) return !found.isRelayed;
  if (distanceOf(found) !== distanceOf(other)) return distanceOf(found) < distanceOf(other);
  return found.transport === "tcp" && other.transport === "udp";
}

function onEvent(state: PathSearchState, event: PathSearchEvent, nowMs: number): PathSearchStep {
  switch (event.kind) {
    case "start":
      return onStart(state);
    case "answered":
      return search(state);
    case "answer failed":
      return finish(state, [event.error]);
    case "prepared":
      return onPrepared(state, nowMs);
    case "planned":
      return onPlanned(state, event, nowMs);
    case "punched":
      return onPunched(state, event, nowMs);
    case "direct failed":
      return endDirect(state, [], { error: event.error });
    case "udp found":
      return take(state, event.path);
    case "udp confirmed":
      return directUsed(timed(state, { tcpMs: nowMs + TCP_MS }));
    case "udp over":
      return onUdpOver(state);
    case "relay asked for":
      return stay(relayDue(state));
    case "relay found":
      return onRelayFound(state, event.path, nowMs);
    case "relay failed":
      return stay(withRelay(state, { stage: "over", failure: relayFailure(state, event.error) }));
    case "moved":
      return onMoved(state, event, nowMs);
    case "hopeless":
      return onHopeless(state, event.reason);
    case "aborted":
      return onAborted(state);
    case "time":
      return onTime(state, nowMs);
  }
}

/** Without a base socket there is no offer: answer without one. */
function onStart(state: PathSearchState): PathSearchStep {
  const { isDirect, isProxied } = state.settings;
  if (isDirect && !isProxied) return search(state);
  return { state: relayDue(state), actions: [{ kind: "answer" }] };
}

function search(state: PathSearchState): PathSearchStep {
  const actions: PathSearchAction[] = state.settings.isDirect ? [{ kind: "prepare" }] : [];
  return { state: { ...state, phase: "searching" }, actions };
}

function onPrepared(state: PathSearchState, nowMs: number): PathSearchStep {
  return punch(timed(state, { udpMs: nowMs + state.settings.timeoutMs }));
}

function punch(state: PathSearchState): PathSearchStep {
  const { punches } = state.direct;
  return {
    state: withDirect(state, { stage: "punching", punches: punches + 1, path: null }),
    actions: [{ kind: "punch" }],
  };
}

/** If the plan is unlikely to work, or takes many sessions, the relay does not wait for it to fail. */
function onPlanned(
  state: PathSearchState,
  { method, successEstimate }: { readonly method: PunchMethod; readonly successEstimate: number },
  nowMs: number,
): PathSearchStep {
  if (method === "birthday" || successEstimate < LIKELY) return stay(relayDue(state));
  if (state.timers.relayMs !== Infinity) return stay(state);
  return stay(timed(state, { relayMs: nowMs + RELAY_AFTER_MS }));
}

function onPunched(
  state: PathSearchState,
  { path, isHoleKnown }: { readonly path: SearchedPath; readonly isHoleKnown: boolean },
  nowMs: number,
): PathSearchStep {
  const punched = withDirect(state, { stage: "moving", path: path.id });
  const taken = take(punched, path, isHoleKnown);
  // If the path dies at once, the next punch tries UDP again.
  const step = stay(taken.state, [{ kind: "yield udp" }, ...taken.actions]);
  const isWanted = taken.state.moving.has(path.id);
  return isWanted ? step : after(step, (state) => directMoved(state, false, nowMs));
}

/** Moves to a path unless there is a better one. The controlling side decides, and resets its end of one that is not. */
function take(state: PathSearchState, path: SearchedPath, isHoleKnown = false): PathSearchStep {
  const { settings: { role }, best } = state;
  const isWanted = role === "controlled" ||
    !isHoleKnown && (best === null || isBetter(path, best));
  const noted = path.isRelayed ? state : {
    ...state,
    lastDirect: { id: path.id, fate: isWanted ? "open" : "lost" },
  } as const;
  if (!isWanted) return stay(noted, [{ kind: "reset", path }]);
  const moving = new Set(state.moving).add(path.id);
  return stay({ ...noted, best: path, moving, hasFound: true }, [{ kind: "move", path }]);
}

function onMoved(
  state: PathSearchState,
  { path, hasMoved }: { readonly path: SearchedPath; readonly hasMoved: boolean },
  nowMs: number,
): PathSearchStep {
  const { id } = path;
  const { direct, relay, lastDirect } = state;
  const best = !hasMoved && state.best?.id === id ? state.used : state.best; // another one may take its place
  const moved: PathSearchState = {
    ...state,
    best,
    used: hasMoved ? path : state.used,
    moving: new Set([...state.moving].filter((each) => each !== id)),
    hasMoved: state.hasMoved || hasMoved,
    lastDirect: lastDirect?.id === id ? { id, fate: hasMoved ? "used" : "lost" } : lastDirect,
  };
  if (relay.stage === "moving" && relay.path?.id === id) {
    return stay(withRelay(moved, { stage: "over" }));
  }
  const weighed = relay.stage === "weighing" && relay.rival === id
    ? weigh(moved, hasMoved)
    : stay(moved);
  if (direct.stage !== "moving" || direct.path !== id) return weighed;
  return after(weighed, (state) => directMoved(state, hasMoved, nowMs));
}

/** Whether the path that the punch has made carries bytes is known; one that does not has died before it could. */
function directMoved(state: PathSearchState, hasMoved: boolean, nowMs: number): PathSearchStep {
  if (hasMoved || !state.settings.mayFallBack) {
    return after(directUsed(state), (state) => endDirect(state, [{ kind: "stop udp" }]));
  }
  if (state.best?.transport === "udp") return endDirect(state, [{ kind: "stop udp" }]); // which is better
  const { punches } = state.direct;
  const lost = punches === 1 ? timed(state, { lostMs: nowMs + AFTER_LOSS_MS }) : state;
  const due = relayDue(lost);
  return punches < MAX_PUNCHES ? punch(due) : endDirect(due, [{ kind: "stop udp" }]);
}

/** Ends the search for direct paths; with `failure`, UDP may still find one. */
function endDirect(
  state: PathSearchState,
  actions: readonly PathSearchAction[],
  failure: Failure | null = null,
): PathSearchStep {
  if (state.direct.stage === "ending" || state.direct.stage === "over") return stay(state);
  return stay(withDirect(state, { stage: "ending", path: null, failure }), [
    ...actions,
    { kind: "end udp" },
  ]);
}

function onUdpOver(state: PathSearchState): PathSearchStep {
  if (state.direct.stage !== "ending") return stay(state);
  return stay(relayDue(timed(withDirect(state, { stage: "over" }), { udpMs: Infinity })));
}

/** A direct path carries bytes, or its loss would end the connection anyway. */
function directUsed(state: PathSearchState): PathSearchStep {
  const used = { ...state, isDirectUsed: true };
  switch (state.relay.stage) {
    case "opening":
      return stay(used, [{ kind: "stop relay", reason: DIRECT_FOUND }]);
    case "weighing":
      return weigh(used, true);
    default:
      return stay(used);
  }
}

/** A direct path that has not carried bytes for a while does not count. */
function onRelayFound(
  state: PathSearchState,
  path: SearchedPath,
  nowMs: number,
): PathSearchStep {
  const { isAborted, isDirectUsed, lastDirect } = state;
  const found = withRelay(state, { stage: "weighing", path, rival: lastDirect?.id ?? null });
  if (isAborted || isDirectUsed || lastDirect?.fate === "used") return weigh(found, true);
  if (lastDirect?.fate === "open") return stay(timed(found, { weighedMs: nowMs + UNUSED_MS }));
  return weigh(found, false);
}

/** Moves to the relayed path, unless a direct one carries bytes. */
function weigh(weighing: PathSearchState, isDirectUsed: boolean): PathSearchStep {
  const state = timed(weighing, { weighedMs: Infinity });
  const path = state.relay.path!;
  if (isDirectUsed) {
    return stay(withRelay(state, { stage: "over" }), [{ kind: "reset", path }]);
  }
  const taken = take(state, path);
  const stage = taken.state.moving.has(path.id) ? "moving" : "over";
  return stay(withRelay(taken.state, { stage }), taken.actions);
}

/** Why there is no relayed path; nothing if one is needed no more. */
function relayFailure(
  { settings, hopeless, isAborted, isDirectUsed }: PathSearchState,
  error: unknown,
): Failure | null {
  if (isAborted || isDirectUsed) return null;
  if (error === hopeless?.reason) return { error: cannotRelay(messageOf(error), error) };
  const isTooLate = error instanceof DOMException && error.name === "TimeoutError";
  if (!isTooLate) return { error };
  const why = `no connection over a relay in ${settings.timeoutMs / 1000} s`;
  return { error: cannotRelay(why, error) };
}

function cannotRelay(why: string, cause: unknown): UnreachableError {
  return new UnreachableError(`Cannot relay: ${why}`, [], { cause });
}

function onHopeless(state: PathSearchState, reason: Error): PathSearchStep {
  if (state.hopeless !== null) return stay(state);
  const timers = { ...state.timers, lostMs: Infinity, relayMs: Infinity };
  return stay({ ...state, hopeless: { reason }, timers }, [
    { kind: "stop udp" },
    { kind: "stop tcp", reason },
    { kind: "stop relay", reason },
  ]);
}

/** What waits for the connection stops waiting: it completes a move under way by itself. */
function onAborted(state: PathSearchState): PathSearchStep {
  const aborted = { ...state, isAborted: true };
  const stop: PathSearchAction = { kind: "stop udp" };
  const ended = state.direct.stage === "moving"
    ? endDirect(aborted, [stop])
    : stay(aborted, [stop]);
  if (state.relay.stage === "weighing") return after(ended, (state) => weigh(state, true));
  if (state.relay.stage !== "moving") return ended;
  return after(ended, (state) => stay(withRelay(state, { stage: "over" })));
}

function onTime(state: PathSearchState, nowMs: number): PathSearchStep {
  const { relayMs, weighedMs, udpMs, tcpMs, lostMs } = state.timers;
  let step = stay(state);
  if (relayMs <= nowMs) step = after(step, (state) => stay(relayDue(state)));
  if (weighedMs <= nowMs) step = after(step, (state) => weigh(state, false));
  if (udpMs <= nowMs) {
    step = after(step, (state) => stay(timed(state, { udpMs: Infinity }), [{ kind: "stop udp" }]));
  }
  if (tcpMs <= nowMs) {
    const stop: PathSearchAction = { kind: "stop tcp", reason: TCP_IS_LATE };
    step = after(step, (state) => stay(timed(state, { tcpMs: Infinity }), [stop]));
  }
  if (lostMs <= nowMs) step = after(step, (state) => onHopeless(state, lostError()));
  return step;
}

/** Opens a relay if it is due, and ends the search if nothing is left to wait for. */
function concluded(step: PathSearchStep): PathSearchStep {
  const { state, actions } = step;
  const { hopeless, isAborted, isDirectUsed, relay } = state;
  if (state.phase !== "searching") return step;
  if (relay.stage === "waiting" && (isAborted || isDirectUsed || hopeless !== null)) {
    const failure = hopeless === null ? null : relayFailure(state, hopeless.reason);
    return concluded({ state: withRelay(state, { stage: "over", failure }), actions });
  }
  if (relay.stage === "waiting" && relay.isDue) {
    const opening = withRelay(state, { stage: "opening" });
    return stay(opening, [...actions, { kind: "open relay" }]);
  }
  const isSettled = state.direct.stage === "over" && relay.stage === "over";
  if (!isSettled || state.moving.size > 0 && !isAborted) return step;
  const failures = [state.direct.failure, relay.failure];
  const errors = failures.flatMap((each) => each === null ? [] : [each.error]);
  return after(step, (state) => finish(state, errors));
}

function finish(state: PathSearchState, failures: readonly unknown[]): PathSearchStep {
  const { hasFound, hasMoved } = state;
  return stay({ ...state, phase: "over" }, [{ kind: "finish", hasFound, hasMoved, failures }]);
}

function relayDue(state: PathSearchState): PathSearchState {
  return withRelay(timed(state, { relayMs: Infinity }), { isDue: true });
}

function withDirect(
  state: PathSearchState,
  change: Partial<PathSearchState["direct"]>,
): PathSearchState {
  return { ...state, direct: { ...state.direct, ...change } };
}

function withRelay(
  state: PathSearchState,
  change: Partial<PathSearchState["relay"]>,
): PathSearchState {
  return { ...state, relay: { ...state.relay, ...change } };
}

function timed(
  state: PathSearchState,
  change: Partial<PathSearchState["timers"]>,
): PathSearchState {
  return { ...state, timers: { ...state.timers, ...change } };
}

function stay(state: PathSearchState, actions: readonly PathSearchAction[] = []): PathSearchStep {
  return { state, actions };
}

/** Adds what follows from a step. */
function after(
  { state, actions }: PathSearchStep,
  next: (state: PathSearchState) => PathSearchStep,
): PathSearchStep {
  const step = next(state);
  return stay(step.state, [...actions, ...step.actions]);
}

function distanceOf({ kind }: Pick<SearchedPath, "kind">): number {
  return kind === "host" ? 0 : kind === "lan" ? 1 : 2;
}

/** The reason for a search to end, a while after its path was lost. */
function lostError(): NetworkError {
  return new NetworkError("the path was lost before it could be used", "reset");
}

const NO_TIMERS: PathSearchState["timers"] = {
  relayMs: Infinity,
  weighedMs: Infinity,
  udpMs: Infinity,
  tcpMs: Infinity,
  lostMs: Infinity,
};

/** Why the search by TCP ends before its time. */
const TCP_IS_LATE = new DOMException("UDP has found a path", "AbortError");

/** Why the search for a relay does. */
const DIRECT_FOUND = new DOMException("There is a direct path", "AbortError");

/**
 * How long TCP has to find a path that may be better, once there is one over UDP. Chosen by us: two retransmissions of a
 * SYN, or the round trips of a proof over a slow path.
 */
export const TCP_MS = 2000;

/** Chosen by us: a path that dies at once twice in a row does so for a reason. */
export const MAX_PUNCHES = 3;

/** How long the search goes on after that. Chosen by us: a relay takes a few round trips, a punch a second. */
export const AFTER_LOSS_MS = 3000;

/** How long a direct path has to prove its use while a relayed one is ready. Chosen by us: two of the longest round trips. */
export const UNUSED_MS = 600;

/** Chosen by us: with a plan less likely than this, a relay is as likely to be needed as not. */
const LIKELY = 0.5;

/**
 * How long direct paths have before a relay is tried, from the moment there is a plan. Chosen by us: a punch takes one
 * round trip, which is rarely longer, or two if a SYN is lost; and a relay costs its owner something.
 */
export const RELAY_AFTER_MS = 1000;
