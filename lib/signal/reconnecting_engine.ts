/**
 * When a reconnecting connection is opened, and what it subscribes to, as a state machine. Pure; `open.ts` owns
 * the connections and the timer.
 *
 * ```text
 *          lost               due, or checked
 *   open ───────▶ waiting ─────────────────────▶ opening
 *    ▲               ▲                            │   │
 *    │               └────────── failed ──────────┘   │
 *    └───────────────────────── opened ───────────────┘
 * ```
 *
 * Every phase ends in `closed` once the connection is disposed.
 *
 * @module
 */

import { type Backoff, backoff } from "../base/backoff.ts";

/** A reconnecting connection between two events. All times are milliseconds of one clock that never goes backwards. */
export interface ReconnectingState {
  readonly phase: ReconnectingPhase;
  /** How many attempts in a row have failed, or led to a connection that did not last. */
  readonly failures: number;
  /** Every topic that has a listener. */
  readonly topics: ReadonlyMap<string, TopicState>;
}

/** Whether there is a connection, or when there will be one. */
export type ReconnectingPhase =
  /** `checkedMs` is when it was checked last, if it was. */
  | { readonly kind: "open"; readonly sinceMs: number; readonly checkedMs?: number }
  | { readonly kind: "waiting"; readonly untilMs: number }
  /** While a message waits, the attempt has time until `untilMs`; `isHurried` if it is given up for a new one. */
  | {
    readonly kind: "opening";
    readonly sinceMs: number;
    readonly untilMs?: number;
    readonly isHurried?: boolean;
  }
  | { readonly kind: "closed" };

/** Where the subscription to a topic stands. */
export type TopicState =
  /** There is no connection; the next one subscribes to it. */
  | { readonly kind: "pending" }
  /** Not confirmed yet. `isRenewal` if no caller waits for the outcome, so that a refusal has to be retried. */
  | { readonly kind: "subscribing"; readonly isRenewal: boolean; readonly failures: number }
  | { readonly kind: "subscribed" }
  /** A renewal was refused. */
  | { readonly kind: "refused"; readonly failures: number; readonly retryAtMs: number };

/**
 * What happened. `random` is a number from 0 up to 1: clients that lost a server at the same time must not all come
 * back at the same time.
 */
export type ReconnectingEvent =
  | { readonly kind: "opened" }
  /** The open connection has ended. */
  | { readonly kind: "lost"; readonly reason: string; readonly random: number }
  /** An attempt to open a connection has failed. */
  | { readonly kind: "failed"; readonly reason: string; readonly random: number }
  /** The time of {@linkcode reconnectingWakeAtMs} has come. */
  | { readonly kind: "time" }
  /** The application suspects that the network has changed. */
  | { readonly kind: "check" }
  /** A message waits for the connection. `patienceMs`: how long an attempt takes at most where all is well. */
  | { readonly kind: "wanted"; readonly patienceMs: number }
  /** A topic has got its first listener. */
  | { readonly kind: "subscribe"; readonly topic: string }
  /** A topic has lost its last listener. */
  | { readonly kind: "unsubscribe"; readonly topic: string }
  | { readonly kind: "subscribed"; readonly topic: string }
  | {
    readonly kind: "subscription-failed";
    readonly topic: string;
    readonly reason: string;
    /** `false` if the connection failed rather than the server refused. */
    readonly isRefusal: boolean;
    readonly random: number;
  }
  | { readonly kind: "disposed" };

/** What to do next. Waiting is not among these: {@linkcode reconnectingWakeAtMs} returns until when. */
export type ReconnectingAction =
  /** Open a connection; `opened` or `failed` follows. */
  | { readonly kind: "open" }
  /** Give up the attempt under way; `failed` follows. */
  | { readonly kind: "hurry" }
  /** Ask the open connection whether it is alive. */
  | { readonly kind: "check" }
  /** Subscribe; `subscribed` or `subscription-failed` follows, unless the connection is lost before. */
  | { readonly kind: "subscribe"; readonly topic: string }
  /** Give up a subscription, confirmed or not. */
  | { readonly kind: "unsubscribe"; readonly topic: string }
  | { readonly kind: "log"; readonly level: "debug" | "warn"; readonly message: string };

/** A state, and what to do on entering it, in this order. */
export interface ReconnectingStep {
  readonly state: ReconnectingState;
  readonly actions: readonly ReconnectingAction[];
}

/** The state while the first connection is being opened. */
export const INITIAL_RECONNECTING_STATE: ReconnectingState = {
  phase: { kind: "opening", sinceMs: -Infinity },
  failures: 0,
  topics: new Map(),
};

/**
 * The step that an event leads to.
 *
 * @example
 * ```ts
 * import { INITIAL_RECONNECTING_STATE, stepReconnecting } from "./reconnecting_engine.ts";
 * import { assertEquals } from "@std/assert";
 *
 * const open = stepReconnecting(INITIAL_RECONNECTING_STATE, { kind: "opened" }, 0).state;
 * const lost = { kind: "lost", reason: "reset", random: 0.5 } as const;
 * const { state } = stepReconnecting(open, lost, 1000);
 * assertEquals(state.phase, { kind: "waiting", untilMs: 1500 });
 * ```
 */
export function stepReconnecting(
  state: ReconnectingState,
  event: ReconnectingEvent,
  nowMs: number,
): ReconnectingStep {
  if (state.phase.kind === "closed") return stay(state);
  switch (event.kind) {
    case "opened":
      return opened(state, nowMs);
    case "lost":
      return lost(state, event, nowMs);
    case "failed":
      return failed(state, event, nowMs);
    case "time":
      return due(state, nowMs);
    case "check":
      return check(state, nowMs);
    case "wanted":
      return wanted(state, event.patienceMs, nowMs);
    case "subscribe":
      return subscribe(state, event.topic);
    case "unsubscribe":
      return unsubscribe(state, event.topic);
    case "subscribed":
      return subscribed(state, event.topic);
    case "subscription-failed":
      return subscriptionFailed(state, event, nowMs);
    case "disposed":
      return stay({ phase: { kind: "closed" }, failures: 0, topics: new Map() });
  }
}

/** When to send the next `time` event; `Infinity` if only another event can change anything. */
export function reconnectingWakeAtMs({ phase, topics }: ReconnectingState): number {
  if (phase.kind === "waiting") return phase.untilMs;
  if (phase.kind === "opening" && !phase.isHurried) return phase.untilMs ?? Infinity;
  if (phase.kind !== "open") return Infinity;
  return Math.min(Infinity, ...[...topics.values()].map(retryAtMs));
}

/** Subscribes to everything that has listeners. */
function opened(state: ReconnectingState, nowMs: number): ReconnectingStep {
  const topics = [...state.topics.keys()];
  return {
    state: {
      phase: { kind: "open", sinceMs: nowMs },
      failures: state.failures,
      topics: new Map(topics.map((topic) => [topic, renewing(0)])),
    },
    actions: topics.map((topic) => ({ kind: "subscribe", topic })),
  };
}

/**
 * A server that accepts clients only to drop them is not asked twice a second. A connection that was lost to a change of
 * this host's network is opened again at once: other clients have not lost theirs.
 */
function lost(
  state: ReconnectingState,
  { reason, random }: Extract<ReconnectingEvent, { kind: "lost" }>,
  nowMs: number,
): ReconnectingStep {
  const { phase, topics } = state;
  const wasSteady = phase.kind === "open" && nowMs - phase.sinceMs >= STEADY_MS;
  const failures = wasSteady ? 1 : state.failures + 1;
  const pending = [...topics.keys()].map((topic) => [topic, { kind: "pending" }] as const);
  const log = { kind: "log", level: "warn", message: `connection lost: ${reason}` } as const;
  const checkedMs = phase.kind === "open" ? phase.checkedMs ?? -Infinity : -Infinity;
  const wasChecked = nowMs - checkedMs <= CHECK_MS;
  if (wasChecked && failures === 1) {
    const again = open({ ...state, failures, topics: new Map(pending) }, nowMs);
    return { state: again.state, actions: [log, ...again.actions] };
  }
  return {
    state: { ...waiting(failures, random, nowMs), topics: new Map(pending) },
    actions: [log],
  };
}

function failed(
  state: ReconnectingState,
  { reason, random }: Extract<ReconnectingEvent, { kind: "failed" }>,
  nowMs: number,
): ReconnectingStep {
  const { phase, failures, topics } = state;
  if (phase.kind === "opening" && phase.isHurried) return open(state, nowMs);
  return {
    state: { ...waiting(failures + 1, random, nowMs), topics },
    actions: [{ kind: "log", level: "debug", message: `cannot reconnect: ${reason}` }],
  };
}

function due(state: ReconnectingState, nowMs: number): ReconnectingStep {
  const { phase } = state;
  if (phase.kind === "waiting" && phase.untilMs <= nowMs) return open(state, nowMs);
  if (phase.kind === "opening") return hurry(state, nowMs);
  if (phase.kind !== "open") return stay(state);
  const actions: ReconnectingAction[] = [];
  const topics = new Map(state.topics);
  for (const [topic, subscription] of topics) {
    if (subscription.kind !== "refused" || subscription.retryAtMs > nowMs) continue;
    topics.set(topic, renewing(subscription.failures));
    actions.push({ kind: "subscribe", topic });
  }
  return { state: { ...state, topics }, actions };
}

/** Cuts the wait short. */
function check(state: ReconnectingState, nowMs: number): ReconnectingStep {
  const { phase } = state;
  if (phase.kind === "waiting") return open(state, nowMs);
  if (phase.kind !== "open") return stay(state);
  return {
    state: { ...state, phase: { ...phase, checkedMs: nowMs } },
    actions: [{ kind: "check" }],
  };
}

/**
 * While messages wait there is an attempt every few seconds, and none that takes long is waited for: the system sends a SYN
 * that was lost in an outage again later and later, up to eight seconds after the outage is over.
 */
function wanted(state: ReconnectingState, patienceMs: number, nowMs: number): ReconnectingStep {
  const { phase } = state;
  const waitMs = Math.max(WANTED_MS, patienceMs);
  if (phase.kind === "waiting" && phase.untilMs > nowMs + waitMs) {
    return stay({ ...state, phase: { kind: "waiting", untilMs: nowMs + waitMs } });
  }
  if (phase.kind !== "opening" || phase.untilMs !== undefined) return stay(state);
  return hurry({ ...state, phase: { ...phase, untilMs: phase.sinceMs + waitMs } }, nowMs);
}

/** Gives up an attempt whose time is over. */
function hurry(state: ReconnectingState, nowMs: number): ReconnectingStep {
  const { phase } = state;
  if (phase.kind !== "opening" || phase.isHurried) return stay(state);
  if (phase.untilMs === undefined || phase.untilMs > nowMs) return stay(state);
  const hurried = { ...state, phase: { ...phase, isHurried: true } };
  return { state: hurried, actions: [{ kind: "hurry" }] };
}

function subscribe(state: ReconnectingState, topic: string): ReconnectingStep {
  if (state.phase.kind !== "open") return stay(withTopic(state, topic, { kind: "pending" }));
  const subscribing = { kind: "subscribing", isRenewal: false, failures: 0 } as const;
  return { state: withTopic(state, topic, subscribing), actions: [{ kind: "subscribe", topic }] };
}

function subscribed(state: ReconnectingState, topic: string): ReconnectingStep {
  if (!state.topics.has(topic)) return stay(state); // its last listener has left
  return stay(withTopic(state, topic, { kind: "subscribed" }));
}

function unsubscribe(state: ReconnectingState, topic: string): ReconnectingStep {
  const topics = new Map(state.topics);
  topics.delete(topic);
  const actions = state.phase.kind === "open" ? [{ kind: "unsubscribe", topic } as const] : [];
  return { state: { ...state, topics }, actions };
}

/**
 * A caller that waits for a subscription gets the refusal, and takes the topic back. No caller waits for a renewal, so
 * the engine repeats it. A subscription that failed with its connection is renewed with the next one.
 */
function subscriptionFailed(
  state: ReconnectingState,
  { topic, reason, isRefusal, random }: Extract<
    ReconnectingEvent,
    { kind: "subscription-failed" }
  >,
  nowMs: number,
): ReconnectingStep {
  const subscription = state.topics.get(topic);
  if (subscription?.kind !== "subscribing" || !isRefusal || !subscription.isRenewal) {
    return stay(state);
  }
  const failures = subscription.failures + 1;
  const retryAtMs = nowMs + waitMs(failures, random);
  return {
    state: withTopic(state, topic, { kind: "refused", failures, retryAtMs }),
    actions: [{ kind: "log", level: "warn", message: `cannot resubscribe: ${reason}` }],
  };
}

function open(state: ReconnectingState, nowMs: number): ReconnectingStep {
  const phase = { kind: "opening", sinceMs: nowMs } as const;
  return { state: { ...state, phase }, actions: [{ kind: "open" }] };
}

function stay(state: ReconnectingState): ReconnectingStep {
  return { state, actions: [] };
}

function waiting(
  failures: number,
  random: number,
  nowMs: number,
): Pick<ReconnectingState, "phase" | "failures"> {
  return { phase: { kind: "waiting", untilMs: nowMs + waitMs(failures, random) }, failures };
}

function waitMs(failures: number, random: number): number {
  return backoff(BACKOFF, failures) * (0.5 + random);
}

function renewing(failures: number): TopicState {
  return { kind: "subscribing", isRenewal: true, failures };
}

function retryAtMs(subscription: TopicState): number {
  return subscription.kind === "refused" ? subscription.retryAtMs : Infinity;
}

function withTopic(
  state: ReconnectingState,
  topic: string,
  subscription: TopicState,
): ReconnectingState {
  return { ...state, topics: new Map(state.topics).set(topic, subscription) };
}

/** Chosen by us: soon after a hiccup, and hardly a load on a server that is down for hours. */
const BACKOFF: Backoff = { firstMs: 500, maximumMs: 60_000 };

/** How long the answer to a check may take. Chosen by us: a little longer than any client waits for it. */
const CHECK_MS = 3000;

/** From one attempt to the next while messages wait. Chosen by us: the system has sent a second SYN by then. */
const WANTED_MS = 2000;

/** How long a connection has to last for the next one to be opened as soon as after a first failure. Chosen by us. */
const STEADY_MS = 30_000;
