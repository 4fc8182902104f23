/**
 * Climbing the fault ladder: from one attempt to map a port, and how it failed, to the next.
 *
 * @module
 */

import type { MappingRequest } from "../mapper.ts";
import { type Fallback, faultRule, type IgdFailure } from "./faults.ts";

/** How to ask for a mapping. */
export interface MappingAttempt {
  readonly action: "AddPortMapping" | "AddAnyPortMapping";
  /** Which of the device's connections. */
  readonly service: number;
  readonly externalPort: number;
  /** 0 stands for ever. */
  readonly leaseSeconds: number;
  readonly description: string;
  /** What led from the first attempt to this one. */
  readonly taken: readonly Fallback[];
}

/** What an attempt may vary. */
export interface FallbackContext {
  readonly request: MappingRequest;
  /** The versions of the device's connections, in the order of their use. */
  readonly serviceVersions: readonly number[];
  /** External ports to fall back to, drawn at random by the caller. */
  readonly otherPorts: readonly number[];
}

/** What to ask for first. */
export function firstAttempt(request: MappingRequest): MappingAttempt {
  const { externalPort, internal, lifetimeSeconds, description } = request;
  return {
    action: "AddPortMapping",
    service: 0,
    externalPort: externalPort ?? internal.port,
    leaseSeconds: toLease(lifetimeSeconds),
    description: description.slice(0, MAX_DESCRIPTION),
    taken: [],
  };
}

/** The next attempt; `undefined` if nothing is left to try. */
export function nextAttempt(
  attempt: MappingAttempt,
  failure: IgdFailure,
  context: FallbackContext,
): MappingAttempt | undefined {
  if (attempt.taken.length >= MAX_STEPS) return undefined;
  for (const step of faultRule(failure).steps) {
    const changed = STEPS[step](attempt, context);
    if (changed === undefined) continue;
    return { ...attempt, ...changed, taken: [...attempt.taken, step] };
  }
  return undefined;
}

type Change = Partial<MappingAttempt>;

/** What each step changes; `undefined` where it does not apply, or would change nothing. */
const STEPS: Readonly<
  Record<Fallback, (attempt: MappingAttempt, context: FallbackContext) => Change | undefined>
> = {
  "retry": (attempt) => once("retry", attempt, {}),

  "plain-action": ({ action }) =>
    action === "AddAnyPortMapping" ? { action: "AddPortMapping" } : undefined,

  "any-port": (attempt, { request, serviceVersions }) => {
    const offered = (serviceVersions[attempt.service] ?? 1) >= 2;
    if (!offered || request.exactExternalPort) return undefined;
    return once("any-port", attempt, { action: "AddAnyPortMapping" });
  },

  "other-port": nextPort,

  "same-port": ({ externalPort }, { request }) => {
    const { internal, exactExternalPort } = request;
    if (exactExternalPort || externalPort === internal.port) return undefined;
    return { externalPort: internal.port };
  },

  "unprivileged-port": (attempt, context) =>
    attempt.externalPort < 1024 ? nextPort(attempt, context) : undefined,

  "permanent-lease": (attempt) =>
    attempt.leaseSeconds > 0 ? once("permanent-lease", attempt, { leaseSeconds: 0 }) : undefined,

  "finite-lease": (attempt) =>
    attempt.leaseSeconds === 0 && !attempt.taken.includes("permanent-lease")
      ? { leaseSeconds: MAX_LEASE_SECONDS }
      : undefined,

  "plain-description": (attempt) => once("plain-description", attempt, { description: PLAIN }),

  "delete-leftover": (attempt) => once("delete-leftover", attempt, {}),

  "next-service": ({ service, taken }, { serviceVersions }) =>
    service + 1 < serviceVersions.length && !taken.includes("other-port")
      ? { service: service + 1 }
      : undefined,
};

function once(step: Fallback, attempt: MappingAttempt, change: Change): Change | undefined {
  return attempt.taken.includes(step) ? undefined : change;
}

function nextPort(
  { taken }: MappingAttempt,
  { request, otherPorts }: FallbackContext,
): Change | undefined {
  const tried =
    taken.filter((step) => step === "other-port" || step === "unprivileged-port").length;
  const externalPort = otherPorts[tried];
  if (externalPort === undefined || request.exactExternalPort) return undefined;
  return { externalPort, action: "AddPortMapping" };
}

function toLease(lifetimeSeconds: number): number {
  if (lifetimeSeconds === Infinity) return 0;
  return Math.min(Math.max(1, Math.ceil(lifetimeSeconds)), MAX_LEASE_SECONDS);
}

/** WANIPConnection:2 §2.3.19: a week. */
const MAX_LEASE_SECONDS = 604_800;

/** Ours: some devices keep 32 characters or fewer, none needs more than this. */
const MAX_DESCRIPTION = 64;
const PLAIN = "punchline";

/** Ours: more than any device is known to take, and an end for one that plays with us. */
const MAX_STEPS = 12;
