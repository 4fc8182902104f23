/**
 * What may be expected of two NATs, for people.
 *
 * @module
 */

import type { NatProfile } from "./candidates.ts";
import { PUNCH_LIMITS } from "./limits.ts";
import { dependsOnDestination, nameNat, NAT_KINDS } from "./nat_profile.ts";
import type { PunchMethod } from "./plan_types.ts";
import { chooseMeeting, type PartyView } from "./strategy.ts";

/** What may be expected of a pair of NATs. */
export interface PairExpectation {
  /** What people call the two. */
  readonly names: readonly [string, string];
  /** How they meet. */
  readonly method: PunchMethod;
  /** 0 to 1. */
  readonly success: number;
  /** From the later side's start. */
  readonly roundTrips: number;
  /** "port-restricted x symmetric, sequential: predicted, about 95 %". */
  readonly text: string;
}

/**
 * How two hosts behind such NATs meet, and how likely; hosts that listen on the port that they dial from, on
 * different networks, with addresses that are known as far as their NATs allow.
 *
 * @param rttMs between the two; 50 unless given
 *
 * @example
 * ```ts
 * import { explainPair } from "./explain.ts";
 * import { NAT_KINDS } from "./nat_profile.ts";
 * import { assertEquals } from "@std/assert";
 *
 * const [, , , portRestricted, , , , , sequential] = NAT_KINDS;
 * assertEquals(
 *   explainPair(portRestricted!, sequential!).text,
 *   "port-restricted x symmetric, sequential: predicted, about 95 %",
 * );
 * ```
 */
export function explainPair(
  a: NatProfile,
  b: NatProfile,
  options: { readonly rttMs?: number } = {},
): PairExpectation {
  const nomination = chooseMeeting([view(a), view(b)], { limits: PUNCH_LIMITS, ...options });
  const { method, success, roundTrips, reason } = nomination;
  const percent = `about ${Math.round(100 * success)} %`;
  return {
    names: [nameNat(a), nameNat(b)],
    method,
    success,
    roundTrips,
    text: method === "impossible" ? reason : `${reason}, ${percent}`,
  };
}

/** Every kind with every kind. */
export function explainMatrix(kinds: readonly NatProfile[] = NAT_KINDS): PairExpectation[][] {
  return kinds.map((a) => kinds.map((b) => explainPair(a, b)));
}

function view(profile: NatProfile): PartyView {
  return {
    profile,
    hasPublicIp: true,
    hasPublicAddress: !dependsOnDestination(profile),
    isMapped: false,
    canListenBeside: true,
  };
}
