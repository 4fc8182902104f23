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
 * |                         | path lost while it stalled   | reconnecting: the search beside it goes on                            |
 * |                         | path slow                    | search for the better one; after a relay, wait twice as long          |
 * |                         | path stalled                 | a new search beside the path, in place of any other, at once or soon; |
 * |                         |                              | one for the relay that is better than the path goes on                |
 * |                         | path resumed                 | end that search                                                       |
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

import { afterAcknowledgement, afterRepeating, startRepetition } from "../base/backoff.ts";
import { NetworkError, NoResponseError } from "../base/errors.ts";
import type {
  DialerAction,
  DialerEvent,
  DialerSettings,
  DialerState,
  DialerStep,
  SearchFailure,
  SearchState,
} from "./dialer_types.ts";
import type { Route } from "./path_choice_engine.ts";

/** The state before the start. */
export function initialDialerState(settings: DialerSettings): DialerState {
  return {
    settings,
    phase: "connecting",
    path: "none",
    isStalled: false,
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
      return stay({
        ...freshened(state, nowMs),
        search: isEnding ? search : { ...search, stage: "answered" },
      });
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
    case "path stalled":
      return onPathStalled(state, event.random, nowMs);
    case "path resumed":
      return onPathResumed(state);
    case "path slow":
      return onPathSlow(state, event.other, nowMs);
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

/** What the request for a search says: the dialer decides which of the paths it takes part in. */
export function requestedPaths(wants: SearchState["wants"]): "any" | "direct" {
  return wants === "any" || wants === "relay" ? "any" : "direct";
}

/** The error for paths that were found, but lost before they could be used. */
export function lostAtOnceError(): NetworkError {
  return new NetworkError("Cannot connect: the path was lost before it could be used", "reset");
}

function startSearch(state: DialerState, wants: SearchState["wants"], nowMs: number): DialerStep {
  const { firstRequestMs, answerMs } = state.settings;
  const id = state.searches + 1;
  const isDue = firstRequestMs === 0 || wants === "relay"; // which needs no offer
  // What cut the path may have cut the other side's signaling, which is back within a moment.
  const isAgain = state.phase !== "connecting" && wants === "any";
  const request = isAgain
    ? startRepetition(REPEATED_REQUEST, nowMs + Math.min(firstRequestMs, REPEATED_AFTER_MS))
    : startRepetition(REQUEST_REPETITION, nowMs + firstRequestMs);
  const search: SearchState = {
    id,
    wants,
    isBeside: state.phase === "connected" && wants === "any",
    stage: "requesting",
    request: isDue ? afterRepeating(request, nowMs) : request,
    answerByMs: nowMs + answerMs,
    sent: "nowhere",
    faults: [],
    failure: null,
    hopeless: null,
  };
  const actions: DialerAction[] = [];
  if (state.search !== null && state.search.stage !== "ending") {
    const reason = new DOMException("Another search takes its place", "AbortError");
    actions.push({ kind: "end search", reason });
  }
  actions.push({ kind: "start search", search: id, wants });
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
  if (state.phase === "connected") {
    return state.isStalled && !failure?.isFinal ? planRetry(state, random, nowMs) : stay(state);
  }
  if (state.path !== "none") return stay(connected(state));
  if (failure?.isFinal) return over(state, [{ kind: "abandon", error: failure.error }]);
  return planRetry(state, random, nowMs);
}

function onPath(before: DialerState, nowMs: number): DialerStep {
  const search = before.search === null ? null : { ...before.search, isBeside: false };
  const state = { ...before, isStalled: false, search };
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
  const { reconnectMs } = state.settings;
  const lost = {
    ...state,
    phase: "reconnecting",
    isStalled: false,
    reconnectByMs: nowMs + reconnectMs,
  } as const;
  // The search that found the path goes on, and has the next one sooner than a new search would; so does one beside it.
  const { search } = state;
  const hasFound = !wasUsed && search?.stage === "answered" && search.wants === "any";
  const isBeside = search?.isBeside === true && search.stage !== "ending";
  if (hasFound || isBeside) return { state: lost, actions: [check] };
  return searchAgain(lost, random, nowMs, "The path is lost");
}

/** The path may be dead: search beside it, until one of the two carries the connection. */
function onPathStalled(state: DialerState, random: number, nowMs: number): DialerStep {
  const { phase, search, settings } = state;
  if (!settings.reconnects || phase === "connecting") return stay(state);
  const stalled = { ...state, isStalled: phase === "connected" };
  const isLeft = search?.wants === "relay" && state.path === "direct";
  const isSought = search !== null && search.stage !== "ending" &&
    (search.isBeside || isLeft || phase === "reconnecting");
  if (!isSought && phase === "connected") {
    return searchAgain(stalled, random, nowMs, "The path has stalled");
  }
  if (search === null) return startRetry(state, nowMs); // the other side is there again
  if (search.stage !== "requesting") return stay(stalled);
  const request = afterRepeating(search.request, nowMs);
  return {
    state: { ...stalled, search: { ...search, request } },
    actions: [{ kind: "send request" }],
  };
}

/** Another direct path is better; or the relay, until a direct path is tried again. */
function onPathSlow(state: DialerState, other: Route, nowMs: number): DialerStep {
  const { phase, path, search, settings } = state;
  // A search for a direct path has found this one, and one for any would find one like it first.
  const isReplaced = search === null || search.wants === "direct" ||
    other === "relay" && (search.wants !== "relay" || search.stage === "ending");
  const isFree = phase === "connected" && path === "direct" && isReplaced;
  if (!isFree || !settings.improves) return stay(state);
  const waitMs = longerWait(state);
  const improvement = other === "relay"
    ? { atMs: nowMs + waitMs, waitMs }
    : rearmed(state, search?.wants, nowMs).improvement;
  const retry = { ...state.retry, atMs: Infinity }; // if the path has stalled, this is the search beside it
  return startSearch({ ...state, improvement, retry }, other, nowMs);
}

/** The search beside it has found nothing yet: it is of no use any more, and the other side's neither. */
function onPathResumed(state: DialerState): DialerStep {
  const resumed = { ...state, isStalled: false, retry: { ...state.retry, atMs: Infinity } };
  const { search } = resumed;
  if (state.phase !== "connected" || !search?.isBeside || search.stage === "ending") {
    return stay(state.phase === "connected" ? resumed : state);
  }
  const reason = new DOMException("The path answers again", "AbortError");
  const isTold = search.stage === "answered" && search.hopeless === null;
  return {
    state: { ...resumed, search: { ...search, stage: "ending", failure: null } },
    actions: [
      ...isTold ? [{ kind: "send cancellation", error: reason } as const] : [],
      { kind: "end search", reason },
    ],
  };
}

/** Searches in place of any search under way: at once, unless the last one has only just begun. */
function searchAgain(
  state: DialerState,
  random: number,
  nowMs: number,
  why: string,
): DialerStep {
  const isRare = nowMs - state.retry.startedAtMs >= MAX_RETRY_FACTOR * state.settings.retryMs;
  const retry = { ...state.retry, waitMs: isRare ? 0 : state.retry.waitMs };
  const searched = { ...rearmed(state, state.search?.wants, nowMs), search: null, retry };
  const planned = planRetry(searched, random, nowMs);
  const replaced: DialerAction[] = state.search === null
    ? []
    : [{ kind: "end search", reason: new DOMException(why, "AbortError") }];
  return {
    state: planned.state,
    actions: [{ kind: "check signaling" }, ...replaced, ...planned.actions],
  };
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
    const rested = { ...retry, waitMs: 0 }; // it has taken long enough, and an outage may end any moment
    const error = noAnswerError(search, settings);
    return endSearch({ ...state, retry: rested }, { error, isFinal: false });
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
  return startSearch({ ...rearmed(state, state.search?.wants, nowMs), retry }, "any", nowMs);
}

/** What it has offered may stem from an outage that is over now: if it finds nothing, the next search follows at once. */
function freshened(state: DialerState, nowMs: number): DialerState {
  const isNeeded = state.phase === "reconnecting" || state.search?.isBeside === true;
  const isOld = isNeeded && nowMs - state.retry.startedAtMs >= OLD_OFFER_MS;
  return isOld ? { ...state, retry: { ...state.retry, waitMs: 0 } } : state;
}

/** Networks change, and a punch that missed may hit: look for a direct path again, unless a search is under way. */
function improve(state: DialerState, nowMs: number): DialerStep {
  const isRelayed = state.path === "relayed";
  const waitMs = isRelayed ? longerWait(state) : state.settings.improveMs;
  if (!isRelayed || state.search !== null) {
    return stay({ ...state, improvement: { atMs: nowMs + waitMs, waitMs } });
  }
  return startSearch({ ...state, improvement: { atMs: Infinity, waitMs } }, "direct", nowMs);
}

function longerWait({ improvement, settings }: DialerState): number {
  return Math.min(2 * improvement.waitMs, MAX_IMPROVE_FACTOR * settings.improveMs);
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

/** The same for a connection that needs another path. Chosen by us: the other side's signaling may be opening again. */
const REPEATED_REQUEST = {
  firstWaitMs: 250,
  maximumWaitMs: REQUEST_INTERVAL_MS,
  minimumGapMs: 0,
};

/** Chosen by us: by then the first offer is on its way, with the request. */
const REPEATED_AFTER_MS = 500;

/** Chosen by us: STUN servers that are reached at all have answered by then. */
const OLD_OFFER_MS = 3000;

/** Waits between two attempts to reconnect grow up to this many times `retryMs`. */
const MAX_RETRY_FACTOR = 10;

/** Waits between two searches for a direct path grow up to this many times `improveMs`. */
const MAX_IMPROVE_FACTOR = 16;
