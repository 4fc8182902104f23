/**
 * Chooses the method by which two NATs are punched, and estimates its chance.
 *
 * | pair of NATs | method |
 * |---|---|
 * | one side lets anyone in at a known address | direct |
 * | both external addresses are known | simultaneous open |
 * | the same, and both NATs keep out SYNs that cross their own | one-sided open if a filter allows, else impossible |
 * | a known address with an address-dependent filter x anything | one-sided open |
 * | a known address x predictable ports | port prediction |
 * | predictable ports on both sides | port prediction, in pairs |
 * | a known address x random ports | birthday |
 * | random ports x ports that are not known either | impossible |
 *
 * @module
 */

import { type BirthdayPlan, planBirthday } from "./birthday.ts";
import type { PunchLimits } from "./limits.ts";
import {
  chanceOfAddress,
  dependsOnDestination,
  followsLocalPort,
  isPredictable,
  keepsOutCrossing,
  letsAnyoneIn,
  nameNat,
  type NatProfile,
} from "./nat_profile.ts";

/** A side, by its role: 0 is the controlling side, 1 the controlled side. Both sides decide about the same ordered pair. */
export type Party = 0 | 1;

/** What the choice depends on, of one side. */
export interface PartyView {
  /** Its NAT. */
  readonly profile: NatProfile;
  /** Whether its external IP address is known, and the other side may dial it. */
  readonly hasPublicIp: boolean;
  /** Whether the external address of its punch port is known, and the other side may dial it. */
  readonly hasPublicAddress: boolean;
  /** Whether a router forwards a port to its punch port. */
  readonly isMapped: boolean;
  /** Whether it can listen on the punch port while it dials from it. */
  readonly canListenBeside: boolean;
}

/** The chosen method, the part of each side in it, and what to expect. */
export type MethodChoice = MethodParts & {
  /** The chance that the sides connect, 0 to 1. */
  readonly success: number;
  /** From the start of the later side. */
  readonly roundTrips: number;
  /** In words. */
  readonly reason: string;
};

type MethodParts =
  | { readonly method: "direct"; readonly reachable: readonly Party[] }
  | { readonly method: "simultaneous-open" }
  | { readonly method: "one-sided-open"; readonly opener: Party }
  /** The ports of the `predicted` sides are not known yet. */
  | { readonly method: "port-prediction"; readonly predicted: readonly Party[] }
  /** The ports of the `random` side cannot be known. */
  | { readonly method: "birthday"; readonly random: Party; readonly birthday: BirthdayPlan }
  | { readonly method: "impossible" };

/** What the choice depends on besides the two sides. */
export interface MethodChoiceOptions {
  /** What a birthday attempt may cost. */
  readonly limits: PunchLimits;
  /** A round trip between the sides, in milliseconds. Default: 50. */
  readonly rttMs?: number;
}

/** Chooses how the controlling side (first) and the controlled side (second) connect. */
export function chooseMethod(
  parties: readonly [PartyView, PartyView],
  options: MethodChoiceOptions,
): MethodChoice {
  const choice = chooseForProfiles(parties, options);
  const unknowns = parties.filter(({ profile }) => profile.mapping === "unknown").length;
  const certainty = choice.method === "direct" ? 1 : CHANCE_OF_CONSISTENT_MAPPING ** unknowns;
  const [a, b] = parties.map(({ profile }) => nameNat(profile));
  return {
    ...choice,
    success: choice.success * certainty,
    reason: `${a} x ${b}: ${choice.reason}`,
  };
}

/** The other of the two sides. */
export function other(party: Party): Party {
  return party === 0 ? 1 : 0;
}

function chooseForProfiles(
  parties: readonly [PartyView, PartyView],
  options: MethodChoiceOptions,
): MethodChoice {
  const reachable = PARTIES.filter((party) => isReachable(parties[party]));
  if (reachable.length > 0) {
    return { method: "direct", reachable, success: 0.99, roundTrips: 1, reason: "direct" };
  }
  const known = PARTIES.filter((party) => isKnown(parties[party]));
  if (known.length === 2 && parties.every(({ profile }) => keepsOutCrossing(profile))) {
    const opener = PARTIES.find((party) => canOpen(parties[party]));
    if (opener !== undefined) return oneSidedOpen(opener, parties);
    if (parties.every(({ profile }) => profile.filtering === "address-and-port-dependent")) {
      return impossible("both NATs keep out SYNs that cross their own, which UDP has none of");
    }
  }
  if (known.length === 2) return simultaneousOpen(parties);
  const isMissing = PARTIES.some((party) =>
    !known.includes(party) && !isKnownExceptPort(parties[party])
  );
  if (isMissing) return impossible("an external address is not known");

  const opener = [...known, ...PARTIES].find((party) => canOpen(parties[party]));
  if (opener !== undefined) return oneSidedOpen(opener, parties);
  const predicted = PARTIES.filter((party) => !known.includes(party));
  if (predicted.every((party) => isPredictable(parties[party].profile))) {
    return portPrediction(predicted, parties);
  }
  if (known.length === 1) {
    const [random] = predicted as [Party];
    return parties[other(random)].profile.mapping === "unknown"
      ? impossible("one side's address is uncertain, and the other side's ports are unknown")
      : birthday(random, parties, options);
  }
  return impossible("neither side's port can be known before it dials");
}

function isReachable({ profile, hasPublicAddress, isMapped }: PartyView): boolean {
  return isMapped || hasPublicAddress && letsAnyoneIn(profile) && profile.mapping !== "unknown";
}

function isKnown({ profile, hasPublicAddress }: PartyView): boolean {
  return hasPublicAddress && !dependsOnDestination(profile);
}

/** Whether at least the IP address is known if the port cannot be. */
function isKnownExceptPort({ profile, hasPublicIp }: PartyView): boolean {
  return hasPublicIp && dependsOnDestination(profile);
}

/** Whether one SYN lets the peer in from any of its ports, at an address that the peer can know. */
function canOpen({ profile, hasPublicAddress }: PartyView): boolean {
  const opens = profile.filtering === "address-dependent" || letsAnyoneIn(profile);
  return opens && profile.mapping !== "unknown" &&
    (dependsOnDestination(profile)
      ? isPredictable(profile) && !profile.onlyForNeighbours
      : hasPublicAddress);
}

function simultaneousOpen(parties: readonly [PartyView, PartyView]): MethodChoice {
  const resets = countResets(parties);
  return {
    method: "simultaneous-open",
    success: resets === 2 ? 0.98 : 0.99,
    roundTrips: [1, 1.5, 2][resets]!,
    reason: resets === 0 ? "simultaneous open" : "simultaneous open, redialled on reset",
  };
}

function oneSidedOpen(
  opener: Party,
  parties: readonly [PartyView, PartyView],
): MethodChoice {
  const { profile, canListenBeside } = parties[opener];
  const closedByReset = parties[other(opener)].profile.unsolicitedSyn === "reset";
  const success = chanceOfAddress(profile) *
    (dependsOnDestination(profile) ? chanceOfPrediction(profile) : 0.99) *
    (hasPool(parties[other(opener)].profile) ? CHANCE_OF_SEEN_ADDRESS : 1);
  return {
    method: "one-sided-open",
    opener,
    success: closedByReset && !canListenBeside ? success / 2 : success,
    roundTrips: 1,
    reason: "opened by one side",
  };
}

function portPrediction(
  predicted: readonly Party[],
  parties: readonly [PartyView, PartyView],
): MethodChoice {
  const success = predicted.map((party) => parties[party].profile)
    .map((profile) => chanceOfPrediction(profile) * chanceOfAddress(profile))
    .reduce((product, chance) => product * chance);
  const isExact = predicted.every((party) => followsLocalPort(parties[party].profile));
  const resets = countResets(parties);
  const inStep = predicted.length === 1 || isExact ? 1 : CHANCE_OF_PAIRING / (resets === 2 ? 2 : 1);
  return {
    method: "port-prediction",
    predicted,
    success: success * inStep,
    roundTrips: resets > 0 ? 2 : 1,
    reason: predicted.length === 2 ? "predicted in pairs" : "predicted",
  };
}

function chanceOfPrediction(profile: NatProfile): number {
  if (followsLocalPort(profile)) return 0.99;
  return profile.onlyForNeighbours ? CHANCE_OF_NEIGHBOURS : CHANCE_OF_SEQUENCE;
}

function birthday(
  random: Party,
  parties: readonly [PartyView, PartyView],
  { limits, rttMs = USUAL_RTT_MS }: MethodChoiceOptions,
): MethodChoice {
  const known = parties[other(random)].profile;
  const plan = planBirthday(known, parties[random].profile, { limits, rttMs });
  const { split, block, chance } = plan;
  if (chance < HOPELESS) {
    return impossible(
      "dialling many ports within the limits would hit less than once in 100 tries",
    );
  }
  return {
    method: "birthday",
    random,
    birthday: plan,
    success: chance,
    roundTrips: 1 + Math.ceil(plan.spacingMs.known * split.ports / 2 / rttMs),
    reason: `birthday, ${split.sockets} sockets and ${split.ports} of ${
      block[1] - block[0] + 1
    } ports`,
  };
}

function impossible(why: string): MethodChoice {
  const reason = `impossible: ${why}; ${REMEDY}`;
  return { method: "impossible", success: 0, roundTrips: 0, reason };
}

/** Whether a dial of this side may come from any of several addresses, some of which may not have been seen. */
function hasPool(profile: NatProfile): boolean {
  return chanceOfAddress(profile) < 1;
}

function countResets(parties: readonly PartyView[]): 0 | 1 | 2 {
  return parties.filter(({ profile }) => profile.unsolicitedSyn === "reset").length as 0 | 1 | 2;
}

const PARTIES: readonly Party[] = [0, 1];

const REMEDY = "a relay, a port mapped on a router, or IPv6 would help";

/** Two NATs in three map consistently for TCP: 64 % of 286 (Ford, Srisuresh, Kegel 2005), resets counted as failures. */
const CHANCE_OF_CONSISTENT_MAPPING = 0.65;

/** The filter is opened for all addresses that were seen. Chosen by us: seven mappings show most of a small pool. */
const CHANCE_OF_SEEN_ADDRESS = 0.9;

/** With a few new mappings per second by other hosts; a sequence of neighbours breaks with the first of them. */
const CHANCE_OF_SEQUENCE = 0.95;
const CHANCE_OF_NEIGHBOURS = 0.8;

/** Two rows of predicted ports must be in step, and each reset moves them. */
const CHANCE_OF_PAIRING = 0.8;

/** Chances below this are not worth the packets. Chosen by us. */
const HOPELESS = 0.01;

/** The round trip if it is not known. Chosen by us. */
export const USUAL_RTT_MS = 50;
