/**
 * The fallbacks: from one attempt to map a port, and how it failed, to the next attempt.
 *
 * @module
 */

import { isSystemPort } from "../../net/address.ts";
import type { MappingRequest } from "../mapper.ts";
import { type Fallback, faultRule, type IgdFailure } from "./faults.ts";

/** One way to ask for a mapping. */
export interface AddMappingAttempt {
  readonly action: "AddPortMapping" | "AddAnyPortMapping";
  /** The index of the connection in the device's list. */
  readonly service: number;
  readonly externalPort: number;
  /** 0 stands for a permanent lease. */
  readonly leaseSeconds: number;
  readonly description: string;
  /** Whether the device's table showed that nothing has the port; `false` if it did not show anything. */
  readonly isFree: boolean;
  /** The fallbacks that led from the first attempt to this one. */
  readonly taken: readonly Fallback[];
}

/** What an attempt may vary. */
export interface FallbackContext {
  readonly request: MappingRequest;
  /** The versions of the device's connections, in the order in which to use them. */
  readonly serviceVersions: readonly number[];
  /** External ports to fall back to. The caller draws them at random. */
  readonly otherPorts: readonly number[];
}

/** What to ask for first. */
export function firstAttempt(request: MappingRequest): AddMappingAttempt {
  const { externalPort, internal, lifetimeSeconds, description } = request;
  return {
    action: "AddPortMapping",
    service: 0,
    externalPort: externalPort ?? internal.port,
    leaseSeconds: leaseSecondsFor(lifetimeSeconds),
    description: description.slice(0, MAX_DESCRIPTION),
    isFree: false,
    taken: [],
  };
}

/** The next attempt; `undefined` if there is nothing left to try. */
export function nextAttempt(
  attempt: AddMappingAttempt,
  failure: IgdFailure,
  context: FallbackContext,
): AddMappingAttempt | undefined {
  if (attempt.taken.length >= MAX_FALLBACKS) return undefined;
  for (const fallback of faultRule(failure).fallbacks) {
    const changed = FALLBACKS[fallback](attempt, context);
    if (changed === undefined) continue;
    return { ...attempt, ...changed, taken: [...attempt.taken, fallback] };
  }
  return undefined;
}

/** The lease to ask for; 0 for a permanent one. */
export function leaseSecondsFor(lifetimeSeconds: number): number {
  if (lifetimeSeconds === Infinity) return 0;
  return Math.min(Math.max(1, Math.ceil(lifetimeSeconds)), MAX_LEASE_SECONDS);
}

type Change = Partial<AddMappingAttempt>;

/** What each fallback changes; `undefined` if it does not apply, or would change nothing. */
const FALLBACKS: Readonly<
  Record<Fallback, (attempt: AddMappingAttempt, context: FallbackContext) => Change | undefined>
> = {
  "retry": (attempt) => once("retry", attempt, {}),

  "plain-action": ({ action }) =>
    action === "AddAnyPortMapping" ? { action: "AddPortMapping" } : undefined,

  "any-port": (attempt, { request, serviceVersions }) => {
    const isOffered = (serviceVersions[attempt.service] ?? 1) >= 2;
    if (!isOffered || request.exactExternalPort) return undefined;
    return once("any-port", attempt, { action: "AddAnyPortMapping" });
  },

  "other-port": otherPort,

  "same-port": ({ externalPort }, { request }) => {
    const { internal, exactExternalPort } = request;
    if (exactExternalPort || externalPort === internal.port) return undefined;
    return { externalPort: internal.port };
  },

  "unprivileged-port": (attempt, context) =>
    isSystemPort(attempt.externalPort) ? otherPort(attempt, context) : undefined,

  "permanent-lease": (attempt) =>
    attempt.leaseSeconds > 0 ? once("permanent-lease", attempt, { leaseSeconds: 0 }) : undefined,

  "shorter-lease": ({ leaseSeconds, taken }) => {
    if (taken.includes("permanent-lease")) return undefined;
    const shorter = SHORTER_LEASES_SECONDS.find((seconds) => seconds < leaseSeconds);
    return shorter === undefined ? undefined : { leaseSeconds: shorter };
  },

  "finite-lease": (attempt) =>
    attempt.leaseSeconds === 0
      ? once("finite-lease", attempt, { leaseSeconds: MAX_LEASE_SECONDS })
      : undefined,

  "plain-description": (attempt) => once("plain-description", attempt, { description: PLAIN }),

  // Of the same description, some devices allow only one mapping. The external port distinguishes this one from others.
  "other-description": (attempt, { request }) => {
    if (!attempt.isFree) return undefined;
    const what = ` ${request.protocol} ${attempt.externalPort}`;
    const description = attempt.description.slice(0, MAX_DESCRIPTION - what.length) + what;
    return once("other-description", attempt, { description });
  },

  "next-service": ({ service, taken }, { serviceVersions }) =>
    service + 1 < serviceVersions.length && !taken.includes("other-port")
      ? { service: service + 1 }
      : undefined,
};

function once(fallback: Fallback, attempt: AddMappingAttempt, change: Change): Change | undefined {
  return attempt.taken.includes(fallback) ? undefined : change;
}

function otherPort(
  { taken }: AddMappingAttempt,
  { request, otherPorts }: FallbackContext,
): Change | undefined {
  const isOtherPort = (each: Fallback) => each === "other-port" || each === "unprivileged-port";
  const externalPort = otherPorts[taken.filter(isOtherPort).length];
  if (externalPort === undefined || request.exactExternalPort) return undefined;
  return { externalPort, action: "AddPortMapping", isFree: false };
}

/** WANIPConnection:2 §2.3.19: a week. */
const MAX_LEASE_SECONDS = 604_800;

/** Chosen by us: some devices grant no more than ten minutes; few grant less than two. */
const SHORTER_LEASES_SECONDS = [600, 120];

/** Chosen by us: some devices keep 32 characters or fewer, and none is known to need more than this. */
const MAX_DESCRIPTION = 64;
const PLAIN = "punchline";

/** Chosen by us: more than any device is known to need, and an end for a hostile one. */
const MAX_FALLBACKS = 12;
