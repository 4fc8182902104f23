/**
 * Decides what the side with the ticket does to get its connection, and to keep it. Each search is one connection request
 * and the search for paths that follows; at most one is current.
 *
 * | phase                   | event                        | what follows                                                          |
 * | ----------------------- | ---------------------------- | --------------------------------------------------------------------- |
 * | connecting              | path                         | connected: hand over the connection; the search goes on               |
 * |                         | search over, no path         | over: fail with the reason                                            |
 * |                         | rejected, stop               | end the search, then over: fail with the reason                       |
 * | connected               | path lost                    | reconnecting: a new search in place of the old one, at once or soon   |
 * |                         | path lost before it was used | reconnecting: the search that found it goes on                        |
 * |                         | time, over a relay           | search for a direct path; the waits between these searches double     |
 * |                         | search over                  | arm the next improvement, if the search was for a direct path         |
 * | reconnecting            | search over, with path       | connected                                                             |
 * |                         | search over, no path         | search again after growing waits; over if the peer has rejected it    |
 * |                         | `reconnectMs` are over       | end the search, then over: abandon the connection                     |
 * | connected, reconnecting | stop                         | over: end the search; the connection has ended, or the peer is closed |
 * | any                     | no answer in time            | the search fails                                                      |
 * |                         | rejected                     | end the search                                                        |
 * |                         | the other side found nothing | half a second later, finish the search, if it was answered            |
 *
 * Within a search, the request is repeated until the answer arrives, for `answerMs` at most.
 *
 * @module
 */

import {
  afterAcknowledgement,
  afterRepeating,
  type Repetition,
  startRepetition,
} from "../base/backoff.ts";
import { NetworkError, NoResponseError } from "../base/errors.ts";

/** What a dialer knows. Times are milliseconds on one clock that never goes backwards. */
export interface DialerState {
  readonly settings: DialerSettings;
  readonly phase: "connecting" | "connected" | "reconnecting" | "over";
  /** What carries the connection. */
  readonly path: "none" | "direct" | "relayed";
  /** The current search. */
  readonly search: SearchState | null;
  /** How many searches were started. */
  readonly searches: number;
  /** When to give up reconnecting. */
  readonly reconnectByMs: number;
  readonly retry: {
    /** When to search again. */
    readonly atMs: number;
    /** The wait before the next search, before chance makes it shorter or longer. */
    readonly waitMs: number;
    /** When the last search for any path was started. */
    readonly startedAtMs: number;
  };
  readonly improvement: {
    /** When to search for a direct path. */
    readonly atMs: number;
    /** The wait before that. */
    readonly waitMs: number;
  };
}

/** What stays the same for one connection. */
export interface DialerSettings {
  /** Whether to search for a direct path now and then, while a relay carries the connection. */
  readonly improves: boolean;
  /** The wait before the first request; `Infinity` if the search for paths sends the only one. */
  readonly firstRequestMs: number;
  /** How long to wait for the answer. */
  readonly answerMs: number;
  /** How long to search for another path after one is lost. */
  readonly reconnectMs: number;
  /** The first wait between two attempts to reconnect. */
  readonly retryMs: number;
  /** The first wait between two searches for a direct path. */
  readonly improveMs: number;
}

/** The search under way. */
export interface SearchState {
  readonly id: number;
  readonly wants: "any" | "direct";
  readonly stage: "requesting" | "answered" | "ending";
  /** The request, until it is answered. */
  readonly request: Repetition;
  /** When to give up waiting for the answer. */
  readonly answerByMs: number;
  /** How far the request has come: on its way by a server, in the local network alone, or not at all. */
  readonly sent: "nowhere" | "local network" | "server";
  /** Why servers could not be reached. */
  readonly faults: readonly string[];
  /** Why it ends, unless it found all it could. */
  readonly failure: SearchFailure | null;
  /** The other side has found nothing; `atMs` is when the search here is to finish, `Infinity` once it was told. */
  readonly hopeless: { readonly reason: Error; readonly atMs: number } | null;
}

/** Why a search ends. */
export interface SearchFailure {
  readonly error: unknown;
  /** Whether another search would end in the same way. */
  readonly isFinal: boolean;
}

/** Something happened. Events of a search that is no longer current are ignored. */
export type DialerEvent =
  | { readonly kind: "start" }
  | { readonly kind: "answered"; readonly search: number }
  /** The request went out, by a server or in the local network. */
  | { readonly kind: "sent"; readonly search: number; readonly isServer: boolean }
  /** A way to meet could not be opened. */
  | { readonly kind: "way failed"; readonly search: number; readonly why: string }
  /** The other side rejected the request, or has given up. */
  | { readonly kind: "rejected"; readonly search: number; readonly error: unknown }
  /** The other side has searched for a path, and found none. */
  | { readonly kind: "hopeless"; readonly search: number; readonly reason: Error }
  /** No signaling server can be reached, or no path was found. */
  | { readonly kind: "failed"; readonly search: number; readonly error: unknown }
  /** The search has found all it could. */
  | {
    readonly kind: "finished";
    readonly search: number;
    /** Whether the connection has moved to a path. */
    readonly hasMoved: boolean;
  }
  /** All tasks of the search have ended. `random` is a number from 0 to 1, for the wait before the next. */
  | { readonly kind: "search ended"; readonly search: number; readonly random: number }
  | { readonly kind: "path"; readonly isRelayed: boolean }
  /**
   * The connection lost its path; `wasUsed` if the other side was ever heard over it. `random` is a number from 0 to 1, for
   * the wait before the search.
   */
  | { readonly kind: "path lost"; readonly wasUsed: boolean; readonly random: number }
  /** The caller gave up, the peer is closed, or the connection has ended. */
  | { readonly kind: "stop"; readonly reason: unknown }
  | { readonly kind: "time" };

/** Something to do. */
export type DialerAction =
  | { readonly kind: "start search"; readonly search: number; readonly wants: "any" | "direct" }
  | { readonly kind: "send request" }
  /** Notify the other side that this side has given up, and found nothing if it failed. */
  | { readonly kind: "send cancellation"; readonly error: unknown }
  /** Let the search end by itself, with what it has tried. */
  | { readonly kind: "finish search"; readonly reason: Error }
  | { readonly kind: "end search"; readonly reason: unknown }
  /** What cut the path may have cut the connections to signaling servers. */
  | { readonly kind: "check signaling" }
  | { readonly kind: "succeed" }
  | { readonly kind: "fail"; readonly error: unknown }
  /** End the connection: it gets no other path. */
  | { readonly kind: "abandon"; readonly error: unknown };

/** What follows from an event. */
export interface DialerStep {
  readonly state: DialerState;
  readonly actions: readonly DialerAction[];
}

/** The state before the start. */
export function initialDialerState(settings: DialerSettings): DialerState {
  return {
    settings,
    phase: "connecting",
    path: "none",
    search: null,
    searches: 0,
    reconnectByMs: Infinity,
    retry: { atMs: Infinity, waitMs: 0, startedAtMs: -Infinity },
    improvement: { atMs: Infinity, waitMs: settings.improveMs },
  };
}

/** The next state, and what to do now. */
export function stepDialer(state: DialerState, event: DialerEvent, nowMs: number): DialerStep {
  const isStale = "search" in event && event.search !== state.search?.id;
  if (state.phase === "over" || isStale) return stay(state);
  switch (event.kind) {
    case "start":
      return startSearch(state, "any", nowMs);
    case "answered": {
      const request = afterAcknowledgement(state.search!.request);
      const search = { ...state.search!, request, answerByMs: Infinity };
      const isEnding = search.stage === "ending";
      return stay({ ...state, search: isEnding ? search : { ...search, stage: "answered" } });
    }
    case "sent": {
      const isFar = event.isServer || state.search!.sent === "server";
      const sent = isFar ? "server" : "local network";
      return stay({ ...state, search: { ...state.search!, sent } });
    }
    case "way failed": {
      const faults = [...state.search!.faults, event.why].slice(0, MAX_FAULTS);
      return stay({ ...state, search: { ...state.search!, faults } });
    }
    case "rejected":
      return endSearch(state, { error: event.error, isFinal: true }, { isQuiet: true });
    case "hopeless":
      return onHopeless(state, event.reason, nowMs);
    case "failed":
      return endSearch(state, { error: event.error, isFinal: false });
    case "finished":
      return endSearch(
        state,
        event.hasMoved ? null : { error: lostAtOnceError(), isFinal: false },
        { isQuiet: state.phase === "reconnecting" }, // the next request tells the other side enough
      );
    case "search ended":
      return onSearchEnded(state, event.random, nowMs);
    case "path":
      return onPath({ ...state, path: event.isRelayed ? "relayed" : "direct" }, nowMs);
    case "path lost":
      return onPathLost({ ...state, path: "none" }, event, nowMs);
    case "stop":
      return onStop(state, event.reason);
    case "time":
      return onTime(state, nowMs);
  }
}

/** When the dialer has something to do next, if nothing happens before. */
export function dialerWakeAtMs({ search, ...state }: DialerState): number {
  if (state.phase === "over") return Infinity;
  const { reconnectByMs, retry, improvement } = state;
  const requestAtMs = search?.stage === "requesting" ? search.request.dueMs : Infinity;
  const answerByMs = search?.stage === "requesting" ? search.answerByMs : Infinity;
  const finishAtMs = search?.stage === "answered" ? search.hopeless?.atMs ?? Infinity : Infinity;
  const searchAtMs = Math.min(requestAtMs, answerByMs, finishAtMs);
  return Math.min(reconnectByMs, retry.atMs, improvement.atMs, searchAtMs);
}

/** The error for paths that were found, but lost before they could be used. */
export function lostAtOnceError(): NetworkError {
  return new NetworkError("Cannot connect: the path was lost before it could be used", "reset");
}

function startSearch(state: DialerState, wants: "any" | "direct", nowMs: number): DialerStep {
  const { firstRequestMs, answerMs } = state.settings;
  const id = state.searches + 1;
  const isDue = firstRequestMs === 0;
  const request = startRepetition(REQUEST_REPETITION, nowMs + firstRequestMs);
  const search: SearchState = {
    id,
    wants,
    stage: "requesting",
    request: isDue ? afterRepeating(request, nowMs) : request,
    answerByMs: nowMs + answerMs,
    sent: "nowhere",
    faults: [],
    failure: null,
    hopeless: null,
  };
  const actions: DialerAction[] = [{ kind: "start search", search: id, wants }];
  if (isDue) actions.push({ kind: "send request" });
  return { state: { ...state, search, searches: id }, actions };
}

/** Ends the search; what follows is decided once all its tasks have ended. */
function endSearch(
  state: DialerState,
  failure: SearchFailure | null,
  { isQuiet = false } = {},
): DialerStep {
  const { search } = state;
  if (search === null) return stay(state);
  if (search.stage === "ending") {
    // A reason that ends all searches replaces the reason that ended this one.
    return stay(failure?.isFinal ? { ...state, search: { ...search, failure } } : state);
  }
  const cancels = failure !== null && !isQuiet;
  return {
    state: { ...state, search: { ...search, stage: "ending", failure } },
    actions: [
      ...cancels ? cancellation(state, failure.error) : [],
      { kind: "end search", reason: failure?.error },
    ],
  };
}

/** Once the other side has answered it searches as well: notify it, unless the search has found a path. */
function cancellation({ search, path }: DialerState, error: unknown): DialerAction[] {
  const isDue = search?.stage === "answered" && search.hopeless === null && path === "none";
  return isDue ? [{ kind: "send cancellation", error }] : [];
}

/** The other side no longer takes part in the search. This side's may be about to end with a better reason. */
function onHopeless(state: DialerState, reason: Error, nowMs: number): DialerStep {
  if (state.search?.stage !== "answered" || state.search.hopeless !== null) return stay(state);
  const hopeless = { reason, atMs: nowMs + LAST_WORD_MS };
  return stay({ ...state, search: { ...state.search, hopeless } });
}

function onSearchEnded(ended: DialerState, random: number, nowMs: number): DialerStep {
  const { wants, failure } = ended.search!;
  const state = { ...rearmed(ended, wants, nowMs), search: null };
  if (state.phase === "connecting") {
    return over(state, [{ kind: "fail", error: failure?.error }]);
  }
  if (state.phase === "connected") return stay(state);
  if (state.path !== "none") return stay(connected(state));
  if (failure?.isFinal) return over(state, [{ kind: "abandon", error: failure.error }]);
  return planRetry(state, random, nowMs);
}

function onPath(state: DialerState, nowMs: number): DialerStep {
  if (state.phase === "reconnecting" && state.search === null) return stay(connected(state));
  if (state.phase !== "connecting") return stay(state);
  const { improves, improveMs } = state.settings;
  const improvement = { atMs: improves ? nowMs + improveMs : Infinity, waitMs: improveMs };
  return { state: { ...state, phase: "connected", improvement }, actions: [{ kind: "succeed" }] };
}

function onPathLost(
  state: DialerState,
  { wasUsed, random }: { readonly wasUsed: boolean; readonly random: number },
  nowMs: number,
): DialerStep {
  const check: DialerAction = { kind: "check signaling" };
  if (state.phase !== "connected") return { state, actions: [check] };
  const { reconnectMs, retryMs } = state.settings;
  // The search that found the path goes on, and has the next one sooner than a new search would.
  if (!wasUsed && state.search?.stage === "answered" && state.search.wants === "any") {
    const reconnectByMs = nowMs + reconnectMs;
    return { state: { ...state, phase: "reconnecting", reconnectByMs }, actions: [check] };
  }
  // At once, unless each path is lost as soon as it is found.
  const isRare = nowMs - state.retry.startedAtMs >= MAX_RETRY_FACTOR * retryMs;
  const retry = { ...state.retry, waitMs: isRare ? 0 : state.retry.waitMs };
  const planned = planRetry(
    {
      ...rearmed(state, state.search?.wants, nowMs),
      phase: "reconnecting",
      search: null,
      reconnectByMs: nowMs + reconnectMs,
      retry,
    },
    random,
    nowMs,
  );
  const replaced: DialerAction[] = state.search === null
    ? []
    : [{ kind: "end search", reason: new DOMException("The path is lost", "AbortError") }];
  return { state: planned.state, actions: [check, ...replaced, ...planned.actions] };
}

function onStop(state: DialerState, reason: unknown): DialerStep {
  if (state.phase === "connecting") return endSearch(state, { error: reason, isFinal: true });
  const { search } = state;
  if (search === null || search.stage === "ending") return over(state, []);
  return over(state, [...cancellation(state, reason), { kind: "end search", reason }]);
}

/** Does one thing that is due. */
function onTime(state: DialerState, nowMs: number): DialerStep {
  const { search, retry, improvement, settings } = state;
  if (state.reconnectByMs <= nowMs) {
    const remedy = "Check the connections of both sides to the network, and connect again";
    const seconds = settings.reconnectMs / 1000;
    const error = new NoResponseError(`no path was found in ${seconds} s`, { remedy });
    if (search === null) return over(state, [{ kind: "abandon", error }]);
    return endSearch({ ...state, reconnectByMs: Infinity }, { error, isFinal: true });
  }
  if (search?.stage === "requesting" && search.answerByMs <= nowMs) {
    return endSearch(state, { error: noAnswerError(search, settings), isFinal: false });
  }
  if (search?.stage === "requesting" && search.request.dueMs <= nowMs) {
    const repeated = { ...search, request: afterRepeating(search.request, nowMs) };
    return { state: { ...state, search: repeated }, actions: [{ kind: "send request" }] };
  }
  if (search?.hopeless && search.hopeless.atMs <= nowMs) {
    const { reason } = search.hopeless;
    const told = { ...search, hopeless: { reason, atMs: Infinity } };
    return { state: { ...state, search: told }, actions: [{ kind: "finish search", reason }] };
  }
  if (retry.atMs <= nowMs) return startRetry(state, nowMs);
  if (improvement.atMs <= nowMs) return improve(state, nowMs);
  return stay(state);
}

/** Others may have lost their paths at the same moment, so the pause is a matter of chance. */
function planRetry(state: DialerState, random: number, nowMs: number): DialerStep {
  const pauseMs = state.retry.waitMs * (0.5 + random);
  if (pauseMs === 0) return startRetry(state, nowMs);
  return stay({ ...state, retry: { ...state.retry, atMs: nowMs + pauseMs } });
}

function startRetry(state: DialerState, nowMs: number): DialerStep {
  const { retryMs } = state.settings;
  const waitMs = Math.min(Math.max(retryMs, 2 * state.retry.waitMs), MAX_RETRY_FACTOR * retryMs);
  const retry = { atMs: Infinity, waitMs, startedAtMs: nowMs };
  return startSearch({ ...state, retry }, "any", nowMs);
}

/** Networks change, and a punch that missed may hit: look for a direct path again, unless a search is under way. */
function improve(state: DialerState, nowMs: number): DialerStep {
  const { improveMs } = state.settings;
  const isRelayed = state.path === "relayed";
  const longerMs = Math.min(2 * state.improvement.waitMs, MAX_IMPROVE_FACTOR * improveMs);
  const waitMs = isRelayed ? longerMs : improveMs;
  if (!isRelayed || state.search !== null) {
    return stay({ ...state, improvement: { atMs: nowMs + waitMs, waitMs } });
  }
  return startSearch({ ...state, improvement: { atMs: Infinity, waitMs } }, "direct", nowMs);
}

/** After a search for a direct path, there is a wait before the next. */
function rearmed(
  state: DialerState,
  ended: SearchState["wants"] | undefined,
  nowMs: number,
): DialerState {
  if (ended !== "direct") return state;
  const { waitMs } = state.improvement;
  return { ...state, improvement: { atMs: nowMs + waitMs, waitMs } };
}

function connected(state: DialerState): DialerState {
  const retry = { ...state.retry, atMs: Infinity };
  return { ...state, phase: "connected", reconnectByMs: Infinity, retry };
}

function over(state: DialerState, actions: readonly DialerAction[]): DialerStep {
  return { state: { ...state, phase: "over", search: null }, actions };
}

/** That the peer is offline can be said only if the request went out by a server. */
function noAnswerError(
  { sent, faults }: SearchState,
  { answerMs }: DialerSettings,
): NoResponseError | NetworkError {
  const time = `${answerMs / 1000} s`;
  if (sent === "server") {
    return new NoResponseError(
      `Cannot connect: no answer in ${time}; the peer may be offline, or its ticket may have changed`,
      { remedy: STILL_THERE },
    );
  }
  const why = faults.length === 0 ? "" : `: ${[...new Set(faults)].join("; ")}`;
  const what = sent === "nowhere"
    ? `no way to meet the peer opened in ${time}${why}`
    : `no answer from this local network in ${time}, and no server could be reached to ask elsewhere${why}`;
  return new NetworkError(`Cannot connect: ${what}`, "unreachable", { remedy: CHECK_NETWORK });
}

function stay(state: DialerState): DialerStep {
  return { state, actions: [] };
}

const STILL_THERE =
  "Check that the peer still listens on the other machine, and use the ticket that it shows now";

const CHECK_NETWORK =
  "Check this machine's connection to the internet; `punchline nat-test` tells what stands in the way";

/** Chosen by us: more reasons are not read. */
const MAX_FAULTS = 8;

/** Chosen by us: a few round trips over most signaling servers. */
export const REQUEST_INTERVAL_MS = 1000;

/**
 * How long a search goes on after the other side's has failed. Chosen by us: both sides tend to fail at the same time, and
 * each knows best why.
 */
const LAST_WORD_MS = 500;

const REQUEST_REPETITION = {
  firstWaitMs: REQUEST_INTERVAL_MS,
  maximumWaitMs: REQUEST_INTERVAL_MS,
  minimumGapMs: 0,
};

/** Waits between two attempts to reconnect grow up to this many times `retryMs`. */
const MAX_RETRY_FACTOR = 10;

/** Waits between two searches for a direct path grow up to this many times `improveMs`. */
const MAX_IMPROVE_FACTOR = 16;
