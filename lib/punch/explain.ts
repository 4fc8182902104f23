/**
 * What to expect of a pair of NATs, in words for people.
 *
 * @module
 */

import { PUNCH_LIMITS } from "./limits.ts";
import { dependsOnDestination, nameNat, NAT_KINDS, type NatProfile } from "./nat_profile.ts";
import type { PunchMethod } from "./plan_types.ts";
import { chooseMethod, type PartyView } from "./strategy.ts";

/** What to expect of a pair of NATs. */
export interface PairExpectation {
  /** What people call the two NATs. */
  readonly names: readonly [string, string];
  /** How the two hosts connect. */
  readonly method: PunchMethod;
  /** The chance that they connect, 0 to 1. */
  readonly success: number;
  /** How long it takes from the start of the later side, in round trips between the two. */
  readonly roundTrips: number;
  /** In one line, such as `port-restricted x symmetric, sequential: predicted, about 95 %`. */
  readonly text: string;
}

/**
 * How two hosts behind these NATs connect by TCP, and how likely it is. It assumes that the hosts are on different
 * networks, can listen on the port that they dial from, and know their external addresses as far as their NATs allow.
 *
 * @param options.rttMs a round trip between the two hosts. Default: 50
 *
 * @example
 * ```ts
 * import { explainPair } from "./explain.ts";
 * import { nameNat, NAT_KINDS } from "./nat_profile.ts";
 * import { assertEquals } from "@std/assert";
 *
 * const nat = (name: string) => NAT_KINDS.find((each) => nameNat(each) === name)!;
 * const { method, text } = explainPair(nat("port-restricted"), nat("symmetric, sequential"));
 * assertEquals(method, "port-prediction");
 * assertEquals(text, "port-restricted x symmetric, sequential: predicted, about 95 %");
 * ```
 */
export function explainPair(
  a: NatProfile,
  b: NatProfile,
  options: { readonly rttMs?: number } = {},
): PairExpectation {
  const { rttMs } = options;
  const choice = chooseMethod([view(a), view(b)], { limits: PUNCH_LIMITS, rttMs });
  const { method, success, roundTrips, reason } = choice;
  return {
    names: [nameNat(a), nameNat(b)],
    method,
    success,
    roundTrips,
    text: method === "impossible" ? reason : `${reason}, about ${Math.round(100 * success)} %`,
  };
}

/**
 * What to expect of every kind of NAT with every kind: a row for each first NAT, a column for each second one.
 *
 * @param kinds the NATs to pair. Default: {@linkcode NAT_KINDS}
 */
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
