/**
 * The connectivity checks of a plan as a state machine: when to dial, what resets and timeouts lead to, when to listen,
 * and when nothing more can come of it. Pure; `checks.ts` owns the sockets and the timer.
 *
 * ```text
 *   waiting --(due)--> dialling --(connected)--> nominating --(settled)--> ended
 *      ^                  |                           |
 *      +------------------+--(reset, ICMP error)      |
 *      +----------------------------------------------+--(broken)
 * ```
 *
 * A socket that waits for an answer is left alone, because the peer's SYN may be on its way to it. A reset is answered
 * with the next SYN at once: two sides that both reset pass each other's filters as soon as their SYNs cross, and
 * redialling without a pause brings that about within two round trips.
 *
 * @module
 */

import type { ConnectionAttempt, NetworkErrorReason } from "../base/errors.ts";
import type { TransportAddress } from "../net/address.ts";
import type { NominationOutcome } from "./nomination_engine.ts";
import type { PunchPlan } from "./plan_types.ts";

/** Everything that is known of the checks. Times are milliseconds of one clock that never goes back. */
export interface ChecksState {
  readonly plan: PunchPlan;
  readonly options: ChecksOptions;
  /** When the first dial was due at the earliest; `null` until the listener is open, if it has to be open first. */
  readonly startedAtMs: number | null;
  /** In the order in which they start. */
  readonly checks: readonly Check[];
  /** One for each entry of `plan.dials`. */
  readonly entries: readonly EntryState[];
  readonly listener: ListenerState;
  /** Accepted connections that the nomination has not settled yet. */
  readonly accepted: number;
  /** When the other side was known to have this side's offer; `null` before. */
  readonly confirmedAtMs: number | null;
  readonly isStopped: boolean;
}

/** What the checks depend on besides the plan. */
export interface ChecksOptions {
  /** The port of the entries that dial from the punch port. */
  readonly punchPort: number;
  /** Whether this side can listen on the punch port while it dials from it. */
  readonly canListenBeside: boolean;
  /** How long to listen if there is nothing to dial. */
  readonly listenMs: number;
}

/** One target, dialled from one local port until it connects or fails for good. */
export interface Check {
  /** Its entry in `plan.dials`. */
  readonly entry: number;
  readonly target: TransportAddress;
  /** 0 for any. */
  readonly localPort: number;
  readonly phase: "waiting" | "dialling" | "nominating" | "ended";
  /** When the next dial is due, while it is waiting. */
  readonly dueMs: number;
  /** Dials so far. */
  readonly tries: number;
  /** How the last dial ended. */
  readonly outcome: ConnectionAttempt["outcome"];
}

/** An entry of the plan under way. */
export interface EntryState {
  /** When the checks that are left are cancelled. */
  readonly endsAtMs: number;
  readonly isCancelled: boolean;
}

/** The listener on the punch port. */
export type ListenerState =
  /** Opens once the dials have left: nothing can dial from the port after that. */
  | { readonly phase: "waiting"; readonly dueMs: number }
  | { readonly phase: "opening" }
  | { readonly phase: "open"; readonly untilMs: number }
  | { readonly phase: "closed" };

/** What happens to the checks. `random` is a number from 0 to 1. */
export type ChecksEvent =
  | { readonly kind: "started" }
  /** The listener was opened, or could not be. */
  | { readonly kind: "listening"; readonly isOpen: boolean }
  | { readonly kind: "accepted" }
  | { readonly kind: "accepted-settled" }
  | { readonly kind: "connected"; readonly check: number }
  | {
    readonly kind: "settled";
    readonly check: number;
    readonly outcome: NominationOutcome;
    readonly random: number;
  }
  | {
    readonly kind: "failed";
    readonly check: number;
    readonly reason: NetworkErrorReason | "cancelled";
    readonly random: number;
  }
  /** The other side is known to have this side's offer. */
  | { readonly kind: "confirmed" }
  /** The NAT opens no more sessions. */
  | { readonly kind: "exhausted" }
  | { readonly kind: "time" }
  | { readonly kind: "stopped" };

/** What the driver has to do. */
export type ChecksAction =
  | { readonly kind: "dial"; readonly check: number }
  /** The check has failed for good. */
  | {
    readonly kind: "end";
    readonly check: number;
    readonly outcome: ConnectionAttempt["outcome"];
  }
  /** Closes the sockets of an entry that still wait for an answer. */
  | { readonly kind: "cancel"; readonly entry: number }
  | { readonly kind: "listen" }
  | { readonly kind: "stop-listening" };

/** The checks before they start. */
export function initialChecksState(plan: PunchPlan, options: ChecksOptions): ChecksState {
  const checks = plan.dials.flatMap((dials, entry) =>
    Array.from({ length: dials.perTarget }, () => dials.targets).flat().map((target, index) => ({
      index,
      entry,
      target,
      localPort: dials.from === "punch" ? options.punchPort : dials.localPorts?.[index] ?? 0,
      dueMs: dials.startMs + index * dials.spacingMs,
    }))
  ).sort((a, b) => a.index - b.index || a.entry - b.entry);
  return {
    plan,
    options,
    startedAtMs: null,
    checks: checks.map(({ index: _, ...check }): Check => (
      { ...check, phase: "waiting", tries: 0, outcome: "abandoned" }
    )),
    entries: plan.dials.map(({ startMs, timeoutMs }) => (
      { endsAtMs: startMs + timeoutMs, isCancelled: false }
    )),
    listener: CLOSED,
    accepted: 0,
    confirmedAtMs: null,
    isStopped: false,
  };
}

/** What an event leads to. */
export function stepChecks(
  state: ChecksState,
  event: ChecksEvent,
  nowMs: number,
): { readonly state: ChecksState; readonly actions: readonly ChecksAction[] } {
  const actions: ChecksAction[] = [];
  const changed = apply(state, event, nowMs, actions);
  return { state: advance(changed, nowMs, actions), actions };
}

/** When to send the next `time` event; `Infinity` if only an event can change anything. */
export function checksWakeAtMs(state: ChecksState): number {
  const { startedAtMs, checks, entries, listener, isStopped } = state;
  if (startedAtMs === null || isFinished(state)) return Infinity;
  let atMs = isStopped || hasUndecided(state) ? Infinity : missAtMs(state);
  for (const { entry, phase, dueMs } of checks) {
    if (phase === "waiting") atMs = Math.min(atMs, dueMs);
    const { isCancelled, endsAtMs } = entries[entry]!;
    if (phase !== "ended" && !isCancelled) atMs = Math.min(atMs, endsAtMs);
  }
  if (listener.phase === "waiting") atMs = Math.min(atMs, listener.dueMs);
  if (listener.phase === "open") atMs = Math.min(atMs, listener.untilMs);
  return atMs;
}

/** Whether all dials have ended, the listener is closed, and every connection is settled. */
export function isFinished({ startedAtMs, checks, listener, accepted }: ChecksState): boolean {
  return startedAtMs !== null && listener.phase === "closed" && accepted === 0 &&
    checks.every(({ phase }) => phase === "ended");
}

/** Whether a failed dial was answered with a RST. */
export function isReset(reason: NetworkErrorReason | "cancelled"): boolean {
  return reason === "refused" || reason === "reset";
}

function apply(
  state: ChecksState,
  event: ChecksEvent,
  nowMs: number,
  actions: ChecksAction[],
): ChecksState {
  switch (event.kind) {
    case "started":
      if (!state.plan.listens || !state.options.canListenBeside) return start(state, nowMs);
      actions.push({ kind: "listen" });
      return { ...state, listener: { phase: "opening" } };
    case "listening": {
      const untilMs = nowMs + listenMs(state);
      const listener: ListenerState = event.isOpen ? { phase: "open", untilMs } : CLOSED;
      return state.startedAtMs === null
        ? { ...start(state, nowMs), listener }
        : { ...state, listener };
    }
    case "accepted":
      return { ...state, accepted: state.accepted + 1 };
    case "accepted-settled":
      return { ...state, accepted: state.accepted - 1 };
    case "connected":
      return withCheck(state, event.check, { phase: "nominating" });
    case "settled":
      return event.outcome === "broken" && mayRetry(state, event.check)
        ? retry(state, event, "failed", nowMs)
        : withCheck(state, event.check, { phase: "ended" });
    case "failed": {
      const outcome = outcomeOf(state, event);
      const isWorthAnother = isReset(event.reason) || TEMPORARY.includes(event.reason);
      if (isWorthAnother && mayRetry(state, event.check)) {
        return retry(state, event, outcome, nowMs);
      }
      actions.push({ kind: "end", check: event.check, outcome });
      return withCheck(state, event.check, { phase: "ended" });
    }
    case "confirmed":
      return { ...state, confirmedAtMs: state.confirmedAtMs ?? nowMs };
    case "exhausted":
      return {
        ...state,
        checks: state.checks.map((each) =>
          each.phase === "waiting" && each.tries === 0 ? { ...each, phase: "ended" } : each
        ),
      };
    case "time":
      return state;
    case "stopped":
      return { ...state, isStopped: true };
  }
}

/** What is due by now: dials, cancellations, and the listener. */
function advance(state: ChecksState, nowMs: number, actions: ChecksAction[]): ChecksState {
  if (state.startedAtMs === null) return state;
  const isStopped = state.isStopped || missAtMs(state) <= nowMs && !hasUndecided(state);
  const entries = state.entries.map((each, entry): EntryState => {
    if (each.isCancelled || !isStopped && nowMs < each.endsAtMs) return each;
    actions.push({ kind: "cancel", entry });
    return { ...each, isCancelled: true };
  });
  const checks = state.checks.map((each, check): Check => {
    if (each.phase !== "waiting") return each;
    if (entries[each.entry]!.isCancelled) {
      const outcome = isStopped ? "abandoned" : each.outcome;
      if (each.tries > 0) actions.push({ kind: "end", check, outcome });
      return { ...each, phase: "ended" };
    }
    // Timers are coarser than the spacing of many dials, so several may be due at once.
    const earlyMs = each.tries === 0 ? TIMER_MS : 0;
    if (each.dueMs > nowMs && each.dueMs - nowMs >= earlyMs) return each;
    actions.push({ kind: "dial", check });
    return { ...each, phase: "dialling", tries: each.tries + 1 };
  });
  const listener = advanceListener(state.listener, isStopped, nowMs, actions);
  return { ...state, isStopped, entries, checks, listener };
}

function advanceListener(
  listener: ListenerState,
  isStopped: boolean,
  nowMs: number,
  actions: ChecksAction[],
): ListenerState {
  switch (listener.phase) {
    case "waiting":
      if (isStopped) return CLOSED;
      if (nowMs < listener.dueMs) return listener;
      actions.push({ kind: "listen" });
      return { phase: "opening" };
    case "open":
      if (!isStopped && nowMs < listener.untilMs) return listener;
      actions.push({ kind: "stop-listening" });
      return CLOSED;
    case "opening":
    case "closed":
      return listener;
  }
}

/** The clock of the plan starts. */
function start(state: ChecksState, nowMs: number): ChecksState {
  const { plan, options, checks, entries } = state;
  const listensAfter = plan.listens && !options.canListenBeside;
  return {
    ...state,
    startedAtMs: nowMs,
    checks: checks.map((each) => ({ ...each, dueMs: nowMs + each.dueMs })),
    entries: entries.map((each) => ({ ...each, endsAtMs: nowMs + each.endsAtMs })),
    listener: listensAfter
      ? { phase: "waiting", dueMs: nowMs + lastStartMs(plan) + AFTER_DIALS_MS }
      : CLOSED,
  };
}

/** Connections are accepted for as long as dials of either side may lead to one. */
function listenMs({ plan: { dials }, options }: ChecksState): number {
  if (dials.length === 0) return options.listenMs;
  return Math.max(...dials.map(({ startMs, timeoutMs }) => startMs + timeoutMs));
}

/**
 * When predicted ports have had their chance: once both sides have dialled, their SYNs have met or never will. Dials of
 * known ports are waited for, because a SYN may still reach them.
 */
function missAtMs({ plan, startedAtMs, confirmedAtMs }: ChecksState): number {
  if (plan.method !== "port-prediction" || startedAtMs === null || confirmedAtMs === null) {
    return Infinity;
  }
  return Math.max(startedAtMs, confirmedAtMs) + lastStartMs(plan) + MISS_MS;
}

/** Whether there are connections that may still become the nominated one. */
function hasUndecided({ checks, accepted }: ChecksState): boolean {
  return accepted > 0 || checks.some(({ phase }) => phase === "nominating");
}

function mayRetry({ plan, checks, entries, isStopped }: ChecksState, index: number): boolean {
  const { entry, tries } = checks[index]!;
  return !isStopped && !entries[entry]!.isCancelled && tries < plan.dials[entry]!.maxTries;
}

function retry(
  state: ChecksState,
  { check, random }: { readonly check: number; readonly random: number },
  outcome: ConnectionAttempt["outcome"],
  nowMs: number,
): ChecksState {
  const dueMs = nowMs + pauseMs(state, check, random, nowMs);
  return withCheck(state, check, { phase: "waiting", dueMs, outcome });
}

/**
 * From one dial of a target to the next. If there may be many, quickly at first, then slowly, the last ones spread over
 * the time that is left; if there may be few, each twice as late as the one before, or nearly so.
 */
function pauseMs(
  { plan, checks, entries }: ChecksState,
  index: number,
  random: number,
  nowMs: number,
): number {
  const { tries, entry } = checks[index]!;
  const { maxTries } = plan.dials[entry]!;
  if (maxTries <= FEW) {
    return FIRST_PAUSE_MS * (1 + random) * (maxTries <= FEW / 2 ? 2 : 1.5) ** (tries - 1);
  }
  if (tries < QUICK_TRIES) return Math.max(TIMER_MS, Math.trunc(random * JITTER_MS));
  if (tries < SLOW_TRIES) return SLOW_MS;
  return Math.max(SLOW_MS, (entries[entry]!.endsAtMs - nowMs) / Math.max(1, maxTries - tries));
}

function outcomeOf(
  { checks, entries, isStopped }: ChecksState,
  { check, reason }: { readonly check: number; readonly reason: NetworkErrorReason | "cancelled" },
): ConnectionAttempt["outcome"] {
  if (isStopped) return "abandoned";
  const { entry, tries, outcome: before } = checks[check]!;
  if (entries[entry]!.isCancelled) return "timed-out";
  if (isReset(reason)) return "refused";
  if (reason === "cancelled" && tries > 1) return before; // the last dial was one too many
  if (reason === "cancelled") return "timed-out";
  return reason === "unreachable" || reason === "timed-out" ? reason : "failed";
}

function withCheck(state: ChecksState, index: number, changes: Partial<Check>): ChecksState {
  return { ...state, checks: state.checks.with(index, { ...state.checks[index]!, ...changes }) };
}

function lastStartMs({ dials }: PunchPlan): number {
  return Math.max(0, ...dials.map(({ startMs }) => startMs));
}

const CLOSED: ListenerState = { phase: "closed" };

/** Failures that may pass: ICMP errors, and the system's own timeout, which may be shorter than the plan's. */
const TEMPORARY: readonly string[] = ["unreachable", "timed-out"];

/** The resolution of timers, in which pauses are counted. */
const TIMER_MS = 1;

/** Enough for two sides that redial in step to drift apart, and small beside any round trip. Chosen by us. */
const JITTER_MS = 3;

/**
 * How often a target is redialled at once, then slowly. Chosen by us: 100 redials cover one second of skew at round
 * trips of 10 ms; after that whatever sends the resets is not the peer.
 */
const QUICK_TRIES = 100;
const SLOW_MS = 50;

/** After that the tries that are left have to last as long as people take to carry an answer. Chosen by us. */
const SLOW_TRIES = 150;

/** What counts as few tries, and their first pause. Chosen by us: 16 last for eight seconds, 8 for two. */
const FEW = 16;
const FIRST_PAUSE_MS = 10;

/**
 * How long predicted dials have once both sides know what to do. Chosen by us: three of the longest round trips; the
 * system retransmits a SYN only later.
 */
const MISS_MS = 900;

/** If listening must wait for the dials, it starts this long after the last of them. Chosen by us: they leave at once. */
const AFTER_DIALS_MS = 20;
