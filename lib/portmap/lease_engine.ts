/**
 * The life of a lease as a state machine: when to renew a mapping and when to check it, what to do once it is gone, and
 * what to release in the end. The timing of RFC 6887 §11.2.1 and §8.5 serves all three protocols.
 *
 * Pure: {@linkcode openLease} and {@linkcode stepLease} return the new state and the actions that follow. The driver
 * carries the actions out one at a time. The last of them (`wait`, `check`, `renew` or `race`) leads to the next event:
 *
 * | phase       | what happens                   | next                                                        |
 * | ----------- | ------------------------------ | ----------------------------------------------------------- |
 * | `waiting`   | the lease has expired or is lost | `repairing`                                               |
 * |             | time to renew                  | `renewing`                                                  |
 * |             | time to check                  | `checking`                                                  |
 * |             | announcement, same epoch       | `checking`                                                  |
 * |             | announcement, new epoch        | `restoring`                                                 |
 * | `restoring` | the random delay is over       | `renewing`                                                  |
 * | `checking`  | fine, changed or remade        | `waiting`                                                   |
 * |             | lost                           | `renewing`, or `restoring` if the gateway has restarted     |
 * |             | failed                         | `renewing`                                                  |
 * | `renewing`  | renewed                        | `waiting`                                                   |
 * |             | failed                         | `repairing`                                                 |
 * | `repairing` | another race was won           | `waiting`; listens to the gateway of the winner             |
 * |             | failed                         | `waiting`; tries again after growing delays                 |
 * | any of these three | the lease expires       | the same; the owner is told                                 |
 * | any         | left, released                 | `left`, `released`                                          |
 *
 * What happens within one UPnP request, from reading the table to the grant, is the table of `upnp/mapping_engine.ts`.
 *
 * @module
 */

import { backoff } from "../base/backoff.ts";
import { isEpochConsistent } from "./epoch.ts";
import type { GatewayEpoch, MapperName, MappingGrant } from "./mapper.ts";
import { isPlausibleExternalIp } from "./verdict.ts";

/** What the lease is doing; the table above has the transitions. */
export type LeasePhase =
  | "waiting" // for a time, or an announcement
  | "restoring" // for a random delay, after the gateway has restarted
  | "checking"
  | "renewing"
  | "repairing" // all protocols and gateways are asked again
  | "left"
  | "released";

/** What is known about a lease. */
export interface LeaseState {
  readonly terms: LeaseTerms;
  readonly phase: LeasePhase;
  /** The latest grant; while the mapping is lost, the last one. */
  readonly grant: MappingGrant;
  /** Other grants of the same port, to be released after it. */
  readonly duplicates: readonly MappingGrant[];
  /** Whether the mapping is gone and not yet replaced. */
  readonly isLost: boolean;
  /** How many races have failed since the mapping last worked. */
  readonly failures: number;
  readonly renewAtMs: number;
  readonly checkAtMs: number;
  readonly repairAtMs: number;
  readonly restoreAtMs: number;
  /** When the gateway was last asked anything. */
  readonly lastAskedMs: number;
}

/** What was agreed at the start. */
export interface LeaseTerms {
  /** The lifetime to ask for at each renewal. */
  readonly lifetimeSeconds: number;
  /** How often to check; `Infinity` for never. */
  readonly checkSeconds: number;
}

/** What happened. */
export type LeaseEvent =
  /** The time of a `wait` has come. Too early does no harm. */
  | { readonly kind: "time" }
  /** The lease ends while the gateway is being asked; at any other time `time` says so. */
  | { readonly kind: "expired" }
  /** The gateway announced that it has restarted, or has another external address. */
  | { readonly kind: "announced"; readonly mapper: MapperName; readonly epoch: GatewayEpoch }
  /** The answer to `check`. */
  | { readonly kind: "checked"; readonly finding: LeaseFinding }
  /** The answer to `renew`. */
  | { readonly kind: "renewed"; readonly grant: MappingGrant }
  /** The result of `race`. */
  | { readonly kind: "won"; readonly grant: MappingGrant }
  /** The gateway refused, was silent or could not be reached: the `check`, `renew` or `race` failed. */
  | { readonly kind: "failed" }
  /** A race left other grants of the same port. */
  | { readonly kind: "duplicated"; readonly grants: readonly MappingGrant[] }
  /** Stop renewing the mapping, and leave it open. */
  | { readonly kind: "leave" }
  /** Close the mapping. */
  | { readonly kind: "release" };

/** What checking a mapping showed. */
export type LeaseFinding =
  /** It is there. `grant` holds the gateway's latest answer. */
  | { readonly kind: "fine"; readonly grant: MappingGrant }
  /** Its external address or port has changed. */
  | { readonly kind: "changed"; readonly grant: MappingGrant }
  /** It is gone. */
  | { readonly kind: "lost"; readonly reason: string; readonly hasRestarted: boolean }
  /** It was gone, and the check created it again. */
  | { readonly kind: "remade"; readonly reason: string; readonly grant: MappingGrant };

/** What to do. */
export type LeaseAction =
  | { readonly kind: "wait"; readonly untilMs: number }
  | { readonly kind: "check"; readonly grant: MappingGrant }
  | { readonly kind: "renew"; readonly grant: MappingGrant; readonly lifetimeSeconds: number }
  /** Ask all protocols and gateways again: the one that worked may be gone. */
  | { readonly kind: "race" }
  /** Listen to the announcements of this grant's gateway, and of no other. */
  | { readonly kind: "listen"; readonly grant: MappingGrant }
  | { readonly kind: "report"; readonly news: LeaseNews }
  /** Release a grant that another one of the same gateway has replaced, on another external port. */
  | { readonly kind: "drop"; readonly grant: MappingGrant }
  /** Release the grants in this order. In many routers duplicates are one entry with the first. */
  | { readonly kind: "release"; readonly grants: readonly MappingGrant[] };

/** What happened to a mapping, for its owner. */
export interface LeaseNews {
  readonly event: "mapped" | "renewed" | "changed" | "lost";
  /** Why. Renewals have none. */
  readonly reason?: string;
}

/** The time on the clock of `performance.now()`, and a random number from 0 to 1, so that hosts do not act in step. */
export interface LeaseMoment {
  readonly nowMs: number;
  readonly random: number;
}

/** The state after an event, and what to do about it. */
export interface LeaseStep {
  readonly state: LeaseState;
  readonly actions: readonly LeaseAction[];
}

/** The lease of a fresh grant. */
export function openLease(grant: MappingGrant, terms: LeaseTerms, moment: LeaseMoment): LeaseStep {
  const state: LeaseState = {
    terms,
    phase: "waiting",
    duplicates: [],
    restoreAtMs: Infinity,
    lastAskedMs: -Infinity,
    ...held(grant, terms, moment),
  };
  return wait(state, [{ kind: "listen", grant }]);
}

/** The state and the actions after an event. Answers to questions that the lease did not ask change nothing. */
export function stepLease(state: LeaseState, event: LeaseEvent, moment: LeaseMoment): LeaseStep {
  switch (event.kind) {
    case "time":
      return onTime(state, moment);
    case "expired":
      return isAsking(state) && moment.nowMs >= expiryMs(state.grant)
        ? lose(state, EXPIRED, moment)
        : stay(state);
    case "announced":
      return onAnnounced(state, event, moment);
    case "checked":
      return state.phase === "checking" ? onChecked(state, event.finding, moment) : stay(state);
    case "renewed":
      return state.phase === "renewing" ? onRenewed(state, event.grant, moment) : stay(state);
    case "won":
      return state.phase === "repairing" ? onWon(state, event.grant, moment) : stay(state);
    case "failed":
      return onFailed(state, moment);
    case "duplicated":
      return onDuplicated(state, event.grants);
    case "leave":
      return state.phase === "released" ? stay(state) : stay({ ...state, phase: "left" });
    case "release":
      return onRelease(state);
  }
}

/** When the lease ends, on the clock of `performance.now()`. */
export function expiryMs({ lifetimeSeconds, grantedAtMs }: Lease): number {
  return grantedAtMs + lifetimeSeconds * 1000;
}

/** Whether two grants look the same from outside. An address that the gateway does not report counts as the same. */
export function isSameOutside(before: MappingGrant, after: MappingGrant): boolean {
  return before.external.port === after.external.port &&
    (before.external.ip === after.external.ip || !isPlausibleExternalIp(after.external.ip));
}

/** Why a mapping was lost. */
export const RESTARTED = "the gateway has restarted";

/** How long a gateway keeps a port open, and since when. */
export interface Lease {
  /** `Infinity` if it never expires. */
  readonly lifetimeSeconds: number;
  /** When the answer arrived, on the clock of `performance.now()`. */
  readonly grantedAtMs: number;
}

/**
 * When to renew a lease, on the clock of `performance.now()`: between 1/2 and 5/8 of its lifetime; if that fails,
 * between 3/4 and 13/16, and so on, halving what is left each time (RFC 6887 §11.2.1). `Infinity` if no try is left,
 * because it would be less than 4 s after the last one, or if the lease never expires.
 *
 * @param attempt how many renewals of this lease have failed
 * @param random from 0 to 1
 */
export function renewalMs(lease: Lease, attempt: number, random: number): number {
  const { lifetimeSeconds, grantedAtMs } = lease;
  if (lifetimeSeconds === Infinity) return Infinity;
  const share = 2 ** -(attempt + 1);
  if (attempt > 0 && lifetimeSeconds * share < MIN_INTERVAL_SECONDS) return Infinity;
  return grantedAtMs + lifetimeSeconds * 1000 * (1 - share + random * share / 4);
}

/**
 * How long to wait before the next attempt to repair a mapping.
 *
 * @param failures how many attempts have failed since it last worked; at least 1
 */
export function repairDelayMs(failures: number): number {
  return backoff(REPAIR_BACKOFF, failures);
}

/**
 * How long to wait before restoring a mapping after the gateway has lost all of them: RFC 6887 §8.5, RFC 6886 §3.7.
 *
 * @param random from 0 to 1
 */
export function restartDelayMs(random: number): number {
  return random * MAX_RESTART_DELAY_MS;
}

function onTime(state: LeaseState, moment: LeaseMoment): LeaseStep {
  const { nowMs } = moment;
  if (state.phase !== "waiting" && state.phase !== "restoring") return stay(state);
  if (nowMs < dueMs(state)) return wait(state);
  if (state.phase === "restoring") return renew(state, moment);
  if (!state.isLost && nowMs >= expiryMs(state.grant)) {
    const lost = lose(state, EXPIRED, moment);
    return race(lost.state, moment, lost.actions);
  }
  if (state.isLost || nowMs >= state.repairAtMs) return race(state, moment);
  return nowMs >= state.renewAtMs ? renew(state, moment) : check(state, moment);
}

/**
 * Any host on the link can forge announcements, so they make us ask no more often than a lease may. An announcement
 * leads to a check even if its epoch fits: if the gateway had only just started when it last answered, its clock does
 * not show another restart.
 */
function onAnnounced(
  state: LeaseState,
  { mapper, epoch }: { readonly mapper: MapperName; readonly epoch: GatewayEpoch },
  moment: LeaseMoment,
): LeaseStep {
  if (state.phase === "restoring") return wait(state); // already under way
  if (state.phase !== "waiting") return stay(state);
  if (moment.nowMs < state.lastAskedMs + MIN_INTERVAL_SECONDS * 1000) return wait(state);
  const hasRestarted = mapper === state.grant.mapper && !isEpochConsistent(state.grant, epoch);
  if (!hasRestarted && !state.isLost) return check(state, moment);
  const lost = lose(state, RESTARTED, moment);
  return restore(lost.state, moment, lost.actions);
}

function onChecked(state: LeaseState, finding: LeaseFinding, moment: LeaseMoment): LeaseStep {
  switch (finding.kind) {
    case "fine":
      return wait({ ...state, phase: "waiting", grant: finding.grant });
    case "changed":
      return adopt(state, finding.grant, moment);
    case "remade": {
      const lost = lose(state, finding.reason, moment);
      return adopt(lost.state, finding.grant, moment, lost.actions);
    }
    case "lost": {
      const lost = lose(state, finding.reason, moment);
      const next = finding.hasRestarted ? restore : renew;
      return next(lost.state, moment, lost.actions);
    }
  }
}

function onRenewed(state: LeaseState, grant: MappingGrant, moment: LeaseMoment): LeaseStep {
  const hasRestarted = !isEpochConsistent(state.grant, grant.epoch);
  const before = hasRestarted ? lose(state, RESTARTED, moment) : stay(state);
  return adopt(before.state, grant, moment, before.actions);
}

/** The grant before it may still be open if another protocol or gateway made it: it is released in the end. */
function onWon(state: LeaseState, grant: MappingGrant, moment: LeaseMoment): LeaseStep {
  const { grant: before, duplicates } = state;
  if (isFromSameMapper(before, grant)) {
    return adopt(state, grant, moment, [{ kind: "listen", grant }]);
  }
  const others = duplicates.filter((duplicate) => !isFromSameMapper(duplicate, before));
  const replaced: LeaseState = { ...state, duplicates: [...others, before] };
  return adopt(replaced, grant, moment, [{ kind: "listen", grant }]);
}

function onFailed(state: LeaseState, moment: LeaseMoment): LeaseStep {
  switch (state.phase) {
    case "checking":
      return renew(state, moment);
    case "renewing":
      return race(state, moment);
    case "repairing": {
      const { nowMs, random } = moment;
      const failures = state.failures + 1;
      const renewAtMs = renewalMs(state.grant, failures, random);
      return wait({
        ...state,
        phase: "waiting",
        failures,
        repairAtMs: nowMs + repairDelayMs(failures),
        renewAtMs: renewAtMs > nowMs ? renewAtMs : Infinity,
        checkAtMs: Infinity,
      });
    }
    default:
      return stay(state);
  }
}

function onDuplicated(state: LeaseState, grants: readonly MappingGrant[]): LeaseStep {
  if (state.phase === "released") return { state, actions: [{ kind: "release", grants }] };
  return stay({ ...state, duplicates: [...state.duplicates, ...grants] });
}

function onRelease(state: LeaseState): LeaseStep {
  if (state.phase === "released") return stay(state);
  return {
    state: { ...state, phase: "released", duplicates: [] },
    actions: [{ kind: "release", grants: [state.grant, ...state.duplicates] }],
  };
}

/** Takes a grant in place of the one before, and reports what that means for the owner. */
function adopt(
  state: LeaseState,
  grant: MappingGrant,
  moment: LeaseMoment,
  before: readonly LeaseAction[] = [],
): LeaseStep {
  const news = newsOf(state, grant);
  const dropped: LeaseAction[] = leavesPort(state.grant, grant)
    ? [{ kind: "drop", grant: state.grant }]
    : [];
  const after: LeaseState = { ...state, phase: "waiting", ...held(grant, state.terms, moment) };
  return wait(after, [...before, { kind: "report", news }, ...dropped]);
}

/**
 * Whether the gateway may have both ports open now. By PCP and NAT-PMP, a port of this host has one external port, and the
 * new one has replaced the old.
 */
function leavesPort(before: MappingGrant, after: MappingGrant): boolean {
  return before.mapper === "upnp" && isFromSameMapper(before, after) &&
    before.external.port !== after.external.port;
}

function newsOf({ isLost, grant: before }: LeaseState, after: MappingGrant): LeaseNews {
  if (isLost) return { event: "mapped", reason: "mapped again" };
  const reason = differenceOf(before, after);
  return reason === undefined ? { event: "renewed" } : { event: "changed", reason };
}

/** What a grant resets. */
function held(
  grant: MappingGrant,
  { checkSeconds }: LeaseTerms,
  { nowMs, random }: LeaseMoment,
): Pick<
  LeaseState,
  "grant" | "isLost" | "failures" | "repairAtMs" | "renewAtMs" | "checkAtMs"
> {
  return {
    grant,
    isLost: false,
    failures: 0,
    repairAtMs: Infinity,
    renewAtMs: renewalMs(grant, 0, random),
    checkAtMs: nowMs + checkSeconds * 1000,
  };
}

function lose(state: LeaseState, reason: string, { nowMs }: LeaseMoment): LeaseStep {
  if (state.isLost) return stay(state);
  return {
    state: { ...state, isLost: true, repairAtMs: nowMs },
    actions: [{ kind: "report", news: { event: "lost", reason } }],
  };
}

function check(state: LeaseState, { nowMs }: LeaseMoment): LeaseStep {
  const checkAtMs = nowMs + state.terms.checkSeconds * 1000;
  return {
    state: { ...state, phase: "checking", lastAskedMs: nowMs, checkAtMs },
    actions: [{ kind: "check", grant: state.grant }],
  };
}

function renew(
  state: LeaseState,
  { nowMs }: LeaseMoment,
  before: readonly LeaseAction[] = [],
): LeaseStep {
  const { grant, terms: { lifetimeSeconds } } = state;
  return {
    state: { ...state, phase: "renewing", lastAskedMs: nowMs, restoreAtMs: Infinity },
    actions: [...before, { kind: "renew", grant, lifetimeSeconds }],
  };
}

function race(
  state: LeaseState,
  { nowMs }: LeaseMoment,
  before: readonly LeaseAction[] = [],
): LeaseStep {
  return {
    state: { ...state, phase: "repairing", lastAskedMs: nowMs },
    actions: [...before, { kind: "race" }],
  };
}

function restore(
  state: LeaseState,
  { nowMs, random }: LeaseMoment,
  before: readonly LeaseAction[],
): LeaseStep {
  const restoreAtMs = nowMs + restartDelayMs(random);
  return wait({ ...state, phase: "restoring", restoreAtMs }, before);
}

function wait(state: LeaseState, before: readonly LeaseAction[] = []): LeaseStep {
  return { state, actions: [...before, { kind: "wait", untilMs: dueMs(state) }] };
}

function stay(state: LeaseState): LeaseStep {
  return { state, actions: [] };
}

/** When the next step is due. */
function dueMs(state: LeaseState): number {
  if (state.phase === "restoring") return state.restoreAtMs;
  const lossMs = state.isLost ? Infinity : expiryMs(state.grant);
  return Math.min(state.renewAtMs, state.checkAtMs, state.repairAtMs, lossMs);
}

/** What is different from outside, or in the router; `undefined` if nothing is. */
function differenceOf(before: MappingGrant, after: MappingGrant): string | undefined {
  if (!isSameOutside(before, after)) {
    return before.external.port === after.external.port
      ? `the external address was ${before.external.ip}`
      : `the external port was ${before.external.port}`;
  }
  if (isFromSameMapper(before, after)) return undefined;
  return `${before.mapper} at ${before.gateway} no longer works`;
}

function isFromSameMapper(a: MappingGrant, b: MappingGrant): boolean {
  return a.mapper === b.mapper && a.gateway === b.gateway;
}

function isAsking({ phase }: LeaseState): boolean {
  return phase === "checking" || phase === "renewing" || phase === "repairing";
}

const EXPIRED = "the lease has expired";

/** RFC 6887 §11.2.1. */
const MIN_INTERVAL_SECONDS = 4;

/** RFC 6887 §8.5: otherwise all hosts of a home would ask at once. */
const MAX_RESTART_DELAY_MS = 5000;

/** Chosen by us: a router that returns is noticed within 5 min, and one that does not costs a few packets an hour. */
const REPAIR_BACKOFF = { firstMs: MIN_INTERVAL_SECONDS * 1000, maximumMs: 300_000 };
