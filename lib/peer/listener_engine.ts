/**
 * Decides what the side that a ticket leads to does about one connection request, and which of the searches for one
 * connection runs.
 *
 * | phase              | event                      | what follows                                                           |
 * | ------------------ | -------------------------- | ---------------------------------------------------------------------- |
 * | checking           | not allowed                | rejecting: refused, protocol or unknown                                |
 * |                    | allowed, new connection    | deciding: show the request to the application                          |
 * |                    | allowed, known connection  | searching                                                              |
 * |                    | time                       | over: the other side no longer waits                                   |
 * | deciding           | accepted                   | searching, for the application's `accept()`                            |
 * |                    | refused or ignored         | rejecting, or silent for as long                                       |
 * |                    | time                       | over: the other side no longer waits                                   |
 * | checking, deciding | displaced                  | over, in silence                                                       |
 * | searching          | path                       | `accept()` succeeds; the search goes on                                |
 * |                    | cancelled                  | half a second later, end the search                                    |
 * |                    | cancelled: found nothing   | half a second later, finish the search                                 |
 * |                    | displaced, and cancelled   | end the search, then over                                              |
 * |                    | aborted or displaced       | end the search; if `accept()` waits: rejecting, cancelled or busy      |
 * |                    | ended, stop                | end the search, then over: `accept()` fails if it waits                |
 * |                    | search over, none awaited  | over: `accept()` has succeeded, or a known connection was searched for |
 * |                    | search over, found nothing | rejecting, cancelled, unless the other side has cancelled              |
 * |                    | search over, no room       | rejecting, busy, unless the other side has cancelled                   |
 * |                    | search over, failed        | over: `accept()` fails                                                 |
 * |                    | search over, paths lost    | returning; over if the other side has cancelled or cannot come back    |
 * | rejecting          | request repeated           | the session repeats the rejection                                      |
 * |                    | ended                      | nothing: a failed `accept()` ends its connection                       |
 * |                    | time, displaced, stop      | over                                                                   |
 * | returning          | path                       | over: `accept()` succeeds                                              |
 * |                    | time, cancelled            | over: `accept()` fails                                                 |
 * |                    | aborted, displaced         | over: `accept()` fails                                                 |
 * | any other          | ended, stop                | over: `accept()` fails if it waits                                     |
 *
 * Searching goes from an aborted or displaced `accept()` to rejecting only if the other side can be told, which it cannot
 * with manual signaling. The rows "search over" that follow "none awaited" hold while `accept()` waits.
 *
 * @module
 */

import { NetworkError, UnreachableError } from "../base/errors.ts";
import { lostAtOnceError } from "./dialer_engine.ts";
import type { Rejection } from "./signaling_message.ts";

/** What is known about a request. Times are milliseconds on one clock that never goes back. */
export interface RequestState {
  readonly settings: RequestSettings;
  readonly phase: "checking" | "deciding" | "searching" | "returning" | "rejecting" | "over";
  /** When the phase ends by itself. */
  readonly untilMs: number;
  /** Whether the application waits for `accept()`. */
  readonly isAwaited: boolean;
  /** Why the search is to end, and what to tell the other side. */
  readonly stopped: StopReason | null;
  /** Why the other side takes no part in the search any more: it has found nothing. */
  readonly hopeless: Error | null;
}

interface StopReason {
  readonly reason: unknown;
  readonly tell: "cancelled" | "busy" | null;
}

/** What stays the same for one request. */
export interface RequestSettings {
  /** How long the other side waits for an answer. */
  readonly answerMs: number;
  /**
   * How long `accept()` waits after every path was lost at once: the other side may request the connection again. 0 if it
   * cannot.
   */
  readonly returnMs: number;
  /** Whether the other side can be told that this side has given up. */
  readonly mayCancel: boolean;
}

/** Something happened. */
export type RequestEvent =
  | { readonly kind: "start" }
  | { readonly kind: "checked"; readonly check: RequestCheck }
  | { readonly kind: "accepted" }
  | { readonly kind: "refused"; readonly reason: "refused" | "busy" }
  | { readonly kind: "ignored" }
  /** The connection has moved to a path. */
  | { readonly kind: "path" }
  /** The other side has given up; `hopeless` is the reason if it has found nothing. */
  | { readonly kind: "cancelled"; readonly hopeless: Error | null }
  /** The caller of `accept()` gave up; for another connection, if it is busy. */
  | { readonly kind: "aborted"; readonly reason: unknown; readonly isBusy?: boolean }
  /** Another request takes its place. */
  | { readonly kind: "displaced" }
  /** The connection has ended. */
  | { readonly kind: "ended"; readonly reason: unknown }
  /** The peer is closed, the ticket is revoked, or the request cannot be handled. */
  | { readonly kind: "stop"; readonly reason: unknown }
  /** Nothing of the search goes on any more. A newer search may have replaced it, which is no failure. */
  | { readonly kind: "search ended"; readonly failure: SearchFailure | null }
  | { readonly kind: "time" };

/** Why a search has failed. */
export interface SearchFailure {
  readonly error: unknown;
  /** Whether this process may not open as many files as another connection takes. */
  readonly isShortage?: boolean;
}

/** Whether a request is allowed, and what it asks for. */
export type RequestCheck = "refused" | "wrong-protocol" | "new" | "known" | "unknown" | "busy";

/** Something to do. */
export type RequestAction =
  | { readonly kind: "check" }
  | { readonly kind: "show" }
  | { readonly kind: "start search" }
  | { readonly kind: "end search"; readonly reason: unknown }
  /** Let the search end by itself, with what it has tried. */
  | { readonly kind: "finish search"; readonly reason: Error }
  /** `error`: what the search failed with. */
  | {
    readonly kind: "reject";
    readonly reason: Rejection["reason"];
    readonly error?: UnreachableError;
  }
  /** `accept()` returns the connection. */
  | { readonly kind: "succeed" }
  /** `accept()` fails. */
  | { readonly kind: "fail"; readonly error: unknown }
  /** Forget the request; its session ends. */
  | { readonly kind: "close" };

/** What follows from an event. */
export interface RequestStep {
  readonly state: RequestState;
  readonly actions: readonly RequestAction[];
}

/** The state before the start. */
export function initialRequestState(settings: RequestSettings): RequestState {
  return {
    settings,
    phase: "checking",
    untilMs: Infinity,
    isAwaited: false,
    stopped: null,
    hopeless: null,
  };
}

/** The next state, and what to do now. */
export function stepRequest(state: RequestState, event: RequestEvent, nowMs: number): RequestStep {
  const { phase, settings } = state;
  switch (event.kind) {
    case "start":
      return go({ ...state, untilMs: nowMs + settings.answerMs }, { kind: "check" });
    case "checked":
      return phase === "checking" ? onChecked(state, event.check, nowMs) : go(state);
    case "accepted":
      if (phase !== "deciding") return go(state, { kind: "fail", error: tooLateError() });
      return startSearch({ ...state, isAwaited: true });
    case "refused":
      return phase === "deciding" ? reject(state, event.reason, nowMs) : go(state);
    case "ignored":
      return phase === "deciding" ? go(rejecting(state, nowMs)) : go(state);
    case "path":
      return onPath(state);
    case "cancelled":
      if (phase === "returning") {
        return go(over(state), { kind: "fail", error: cancelledError() }, { kind: "close" });
      }
      if (phase !== "searching") return go(state);
      return go({ ...state, untilMs: nowMs + LAST_WORD_MS, hopeless: event.hopeless });
    case "aborted":
      if (!state.isAwaited) return go(state);
      return stop(state, { reason: event.reason, tell: event.isBusy ? "busy" : "cancelled" });
    case "displaced":
      return phase === "searching" && hasGivenUp(state)
        ? stop(state, { reason: cancelledError(), tell: null })
        : stop(state, { reason: displacedError(), tell: "busy" });
    case "ended": // a failed `accept()` ends its connection, but the other side may not know yet
      if (phase === "rejecting") return go(state);
      return stop(state, { reason: event.reason, tell: null });
    case "stop":
      return stop(state, { reason: event.reason, tell: null });
    case "search ended":
      return phase === "searching" ? onSearchEnded(state, event.failure, nowMs) : go(state);
    case "time":
      return state.untilMs <= nowMs ? onTime({ ...state, untilMs: Infinity }) : go(state);
  }
}

function onChecked(state: RequestState, check: RequestCheck, nowMs: number): RequestStep {
  switch (check) {
    case "refused":
      return reject(state, "refused", nowMs);
    case "wrong-protocol":
      return reject(state, "protocol", nowMs);
    case "unknown":
    case "busy":
      return reject(state, check, nowMs);
    case "known":
      return startSearch(state);
    case "new": {
      const untilMs = nowMs + state.settings.answerMs;
      return go({ ...state, phase: "deciding", untilMs }, { kind: "show" });
    }
  }
}

function startSearch(state: RequestState): RequestStep {
  return go({ ...state, phase: "searching", untilMs: Infinity }, { kind: "start search" });
}

function onPath(state: RequestState): RequestStep {
  if (!state.isAwaited) return go(state);
  const succeeded = { ...state, isAwaited: false };
  return state.phase === "returning"
    ? go(over(succeeded), { kind: "succeed" }, { kind: "close" })
    : go(succeeded, { kind: "succeed" });
}

function stop(state: RequestState, why: StopReason): RequestStep {
  const { reason } = why;
  switch (state.phase) {
    case "over":
      return go(state);
    case "searching": {
      const stopped = state.stopped ?? why;
      return go({ ...state, stopped, untilMs: Infinity }, { kind: "end search", reason });
    }
    case "returning":
      return go(over(state), { kind: "fail", error: reason }, { kind: "close" });
    default:
      return go(over(state), { kind: "close" });
  }
}

function onSearchEnded(
  state: RequestState,
  failure: SearchFailure | null,
  nowMs: number,
): RequestStep {
  const { isAwaited, stopped, settings } = state;
  if (!isAwaited) return go(over(state), { kind: "close" });
  const error = stopped === null ? failure?.error : stopped.reason;
  if (stopped !== null && stopped.tell !== null && settings.mayCancel) {
    return go(
      rejecting({ ...state, isAwaited: false }, nowMs),
      { kind: "reject", reason: stopped.tell },
      { kind: "fail", error },
    );
  }
  const isCancelled = hasGivenUp(state);
  const mayTell = stopped === null && !isCancelled && settings.mayCancel;
  if (mayTell && (failure?.isShortage || error instanceof UnreachableError)) {
    return go(
      rejecting({ ...state, isAwaited: false }, nowMs),
      failure?.isShortage
        ? { kind: "reject", reason: "busy" }
        : { kind: "reject", reason: "cancelled", error: error as UnreachableError },
      { kind: "fail", error },
    );
  }
  if (stopped !== null || failure !== null) {
    return go(over(state), { kind: "fail", error }, { kind: "close" });
  }
  if (settings.returnMs === 0 || isCancelled) {
    const lost = isCancelled ? cancelledError() : lostAtOnceError();
    return go(over(state), { kind: "fail", error: lost }, { kind: "close" });
  }
  const untilMs = nowMs + settings.returnMs;
  return go({ ...state, phase: "returning", untilMs });
}

/** Whether the other side has cancelled the search that runs. */
function hasGivenUp({ hopeless, untilMs }: RequestState): boolean {
  return hopeless !== null || untilMs !== Infinity;
}

function onTime(state: RequestState): RequestStep {
  switch (state.phase) {
    case "searching": {
      if (state.hopeless === null) return stop(state, { reason: cancelledError(), tell: null });
      return go(state, { kind: "finish search", reason: state.hopeless });
    }
    case "returning":
      return go(over(state), { kind: "fail", error: lostAtOnceError() }, { kind: "close" });
    default:
      return go(over(state), { kind: "close" });
  }
}

function reject(state: RequestState, reason: Rejection["reason"], nowMs: number): RequestStep {
  return go(rejecting(state, nowMs), { kind: "reject", reason });
}

/** The request is kept for a while, so that what it gets for an answer is repeated if the answer is lost. */
function rejecting(state: RequestState, nowMs: number): RequestState {
  return { ...state, phase: "rejecting", untilMs: nowMs + REJECTION_MS };
}

function over(state: RequestState): RequestState {
  return { ...state, phase: "over", untilMs: Infinity };
}

function go(state: RequestState, ...actions: RequestAction[]): RequestStep {
  return { state, actions };
}

/** The searches for paths of one connection: one runs at a time, however often the other side requests one. */
export interface SearchQueue {
  /** The request whose search runs. */
  readonly running: number | null;
  /** The request whose search is next. */
  readonly next: number | null;
  /** When the last search was started. */
  readonly startedAtMs: number;
}

/** Something happened. Requests are numbered. */
export type SearchQueueEvent =
  | { readonly kind: "requested"; readonly request: number }
  /** Its search has ended, or was ended before it started. */
  | { readonly kind: "ended"; readonly request: number }
  | { readonly kind: "time" };

/** Something to do. */
export type SearchQueueAction =
  | { readonly kind: "start"; readonly request: number }
  /** A newer request replaces it. */
  | { readonly kind: "replace"; readonly request: number };

/** A queue without searches. */
export const EMPTY_SEARCH_QUEUE: SearchQueue = {
  running: null,
  next: null,
  startedAtMs: -Infinity,
};

/** The next state, and what to do now. */
export function stepSearchQueue(
  queue: SearchQueue,
  event: SearchQueueEvent,
  nowMs: number,
): { readonly state: SearchQueue; readonly actions: readonly SearchQueueAction[] } {
  const replaced: SearchQueueAction[] = [];
  let { running, next } = queue;
  if (event.kind === "requested") {
    for (const request of [running, next]) {
      if (request !== null) replaced.push({ kind: "replace", request });
    }
    next = event.request;
  } else if (event.kind === "ended") {
    if (running === event.request) running = null;
    if (next === event.request) next = null;
  }
  const state = { ...queue, running, next };
  if (next === null || nowMs < searchQueueWakeAtMs(state)) return { state, actions: replaced };
  const started = { running: next, next: null, startedAtMs: nowMs };
  return { state: started, actions: [...replaced, { kind: "start", request: next }] };
}

/** When to start the next search, if nothing happens before. */
export function searchQueueWakeAtMs({ running, next, startedAtMs }: SearchQueue): number {
  return running === null && next !== null ? startedAtMs + MIN_SEARCH_GAP_MS : Infinity;
}

/** A request under way, as far as its place counts. */
export interface PlacedRequest {
  readonly id: string;
  /** The other side's public key. */
  readonly key: string;
  /** Whether it has led to a connection, or asks for a path for one that there is. */
  readonly isProven: boolean;
}

/**
 * Which requests have to go before another of this key is handled. A newcomer displaces the oldest that has proved nothing:
 * of its own key if that has its share, or else of the key with most.
 *
 * @param underWay the oldest first
 * @returns `undefined` if there is no place for it
 */
export function requestsToDisplace(
  underWay: readonly PlacedRequest[],
  key: string,
): readonly string[] | undefined {
  const own = underWay.filter((each) => each.key === key);
  if (own.length >= MAX_REQUESTS_PER_KEY) return oldestUnproven(own);
  if (underWay.length < MAX_REQUESTS) return [];
  const unproven = underWay.filter(({ isProven }) => !isProven);
  const counts = new Map<string, number>();
  for (const each of unproven) counts.set(each.key, (counts.get(each.key) ?? 0) + 1);
  const most = Math.max(...counts.values());
  return oldestUnproven(unproven.filter((each) => counts.get(each.key) === most));
}

function oldestUnproven(requests: readonly PlacedRequest[]): readonly string[] | undefined {
  const oldest = requests.find(({ isProven }) => !isProven);
  return oldest === undefined ? undefined : [oldest.id];
}

/**
 * Whether a key may have another connection, beside its own and those of others.
 *
 * @param isKnown whether it has connected before: some places are for such keys
 * @param max how many connections there may be in all
 */
export function mayHaveConnection(
  { ofKey, ofAll, isKnown }: { ofKey: number; ofAll: number; isKnown: boolean },
  max: number = MAX_CONNECTIONS,
): boolean {
  const maxOfAll = isKnown ? max : Math.ceil(max * (1 - RESERVED_SHARE)); // also for `Infinity`
  return ofKey < MAX_CONNECTIONS_PER_KEY && ofAll < maxOfAll;
}

function cancelledError(): NetworkError {
  return new NetworkError("Cannot connect: the other side has given up", "reset", {
    remedy: "Ask the other side to connect again",
  });
}

function displacedError(): NetworkError {
  return new NetworkError(
    "Cannot accept: others wanted to connect, and this peer had not got through",
    "timed-out",
    { remedy: "Ask the other side to connect again" },
  );
}

function tooLateError(): NetworkError {
  return new NetworkError("Cannot accept: the other side no longer waits", "timed-out", {
    remedy: "Ask the other side to connect again",
  });
}

/** Chosen by us: each holds a handshake and, once it is accepted, the sockets of a punch. */
const MAX_REQUESTS = 1024;

/** Chosen by us: as many as one key may send at once. */
const MAX_REQUESTS_PER_KEY = 256;

/** Chosen by us: each takes a socket, and systems allow a program some thousand. */
export const MAX_CONNECTIONS = 1024;

/** Chosen by us, for keys that have connected before. */
const RESERVED_SHARE = 0.25;

/** Chosen by us: a browser behind a forwarded port opens some dozens. */
const MAX_CONNECTIONS_PER_KEY = 128;

/** Chosen by us: when the other side has given up, this side may be about to find out why by itself. */
const LAST_WORD_MS = 500;

/** How long a rejection is repeated. Chosen by us: a few repetitions of the request. */
const REJECTION_MS = 5000;

/**
 * From one search for a connection to the next. Chosen by us: a connection rarely loses two paths within that time, and
 * each search asks STUN servers, which are other people's.
 */
const MIN_SEARCH_GAP_MS = 500;
