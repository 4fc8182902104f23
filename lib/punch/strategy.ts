/**
 * How two NATs are best met, and with what chance: the matrix of theory as a decision.
 *
 * | pair, mapping and filtering | technique |
 * |---|---|
 * | one side lets anyone in at a known address | direct |
 * | both addresses known | crossing |
 * | one known address with an address-dependent filter x anything | opening |
 * | one known address x ports that can be predicted | predicting |
 * | ports that can be predicted on both sides | predicting, in pairs |
 * | one known address x random ports | spraying |
 * | random ports x ports that are not known either | impossible |
 *
 * @module
 */

import { portBlock } from "../nat/allocation.ts";
import type { NatProfile } from "./candidates.ts";
import type { PunchLimits } from "./limits.ts";
import {
  dependsOnDestination,
  followsLocalPort,
  isPredictable,
  letsAnyoneIn,
  nameNat,
} from "./nat_profile.ts";

/** How many dials each side makes. */
export interface BirthdaySplit {
  /** On the side whose ports are random. */
  readonly sockets: number;
  /** Of that side, tried by the other. */
  readonly ports: number;
}

/** The chance that at least one of `ports` different ports is one of the `sockets` random ones, 0 to 1. */
export function hitProbability({ sockets, ports }: BirthdaySplit, space: number): number {
  let miss = 1;
  for (let tried = 0; tried < ports; tried++) {
    miss *= Math.max(0, 1 - sockets / (space - tried));
  }
  return 1 - miss;
}

/**
 * The cheapest split that hits with `chance`, or the best within the caps: as many sockets as ports, since the
 * chance goes by their product, and more ports once the sockets have reached their cap, as a port costs no file
 * descriptor on the side of a NAT that is easy on it.
 */
export function splitForChance(
  chance: number,
  space: number,
  caps: BirthdaySplit & { readonly sum: number },
): BirthdaySplit {
  const maxSockets = Math.min(caps.sockets, Math.floor(caps.sum / 2), space);
  for (let sockets = 1; sockets < maxSockets; sockets++) {
    const ports = Math.min(sockets, caps.ports);
    if (hitProbability({ sockets, ports }, space) >= chance) return { sockets, ports };
  }
  const maxPorts = Math.min(caps.ports, caps.sum - maxSockets, space);
  let miss = 1;
  for (let ports = 1; ports <= maxPorts; ports++) {
    miss *= Math.max(0, 1 - maxSockets / (space - ports + 1));
    if (1 - miss >= chance) return { sockets: maxSockets, ports };
  }
  return { sockets: maxSockets, ports: maxPorts };
}

/** A spray, for both sides. */
export interface Spray {
  /** How many dials each side makes. */
  readonly split: BirthdaySplit;
  /** Where the random ports lie. */
  readonly block: readonly [first: number, last: number];
  /** Who dials first. A hit needs the other end still waiting, so the side whose sockets die later. */
  readonly first: "known" | "random" | "both";
  /** From one dial to the next, on the side of the known address and on the random one. */
  readonly spacingMs: { readonly known: number; readonly random: number };
  /** 0 to 1. */
  readonly chance: number;
}

/**
 * The cheapest spray that nearly always hits, or the best within the limits.
 *
 * The random side goes first: its mappings have to be there when the other's SYNs arrive. Where the known side's NAT
 * answers those first SYNs with resets, that side goes first, and its SYNs wait at the other NAT's door instead.
 * Where both NATs reset, nobody can wait: only SYNs that cross on their way pass.
 *
 * @param known the NAT whose address is known
 * @param random the NAT that chooses ports at random
 */
export function planSpray(
  known: NatProfile,
  random: NatProfile,
  { limits, rttMs }: { readonly limits: PunchLimits; readonly rttMs: number },
): Spray {
  const block = portBlock(random.samples, random.allocation.range);
  const space = block[1] - block[0] + 1;
  const inTime = Math.floor(limits.maxSynsPerSecond * SENDING_SHARE * limits.sprayMs / 1000);
  const split = splitForChance(ENOUGH, space, {
    sockets: limits.maxSockets,
    ports: limits.maxSprayedPorts,
    sum: Math.min(limits.maxSyns, inTime),
  });
  const chance = UNDISTURBED * hitProbability(split, space);
  const knownResets = known.unsolicitedSyn === "reset";
  if (!knownResets || random.unsolicitedSyn !== "reset") {
    const spacingMs = 1000 / limits.maxSynsPerSecond;
    return {
      split,
      block,
      first: knownResets ? "known" : "random",
      spacingMs: { known: spacingMs, random: spacingMs },
      chance,
    };
  }
  const burstMs = Math.max(rttMs / 2, split.ports * MIN_SPACING_MS);
  const crossing = split.sockets * shareOfCrossing(rttMs / 2 / burstMs);
  return {
    split,
    block,
    first: "both",
    spacingMs: { known: burstMs / split.ports, random: burstMs / split.sockets },
    chance: UNDISTURBED * UNDISTURBED * hitProbability({ ...split, sockets: crossing }, space),
  };
}

/** Of pairs of SYNs that two sides send within one burst, those that are less than `delay` bursts apart. */
function shareOfCrossing(delay: number): number {
  return delay >= 1 ? 1 : 1 - (1 - delay) ** 2;
}

/** Where more dials cost more than they gain; ours. */
const ENOUGH = 0.99;

/** Of hits, those that neither loss nor a port that was taken spoils; ours. */
const UNDISTURBED = 0.99;

/** Of the time of a spray, in which SYNs are sent; the rest is for the last ones to arrive. Ours. */
const SENDING_SHARE = 0.75;

/** Dials leave a busy system no faster: 1024 of them take 19 to 34 ms. */
const MIN_SPACING_MS = 0.033;

/** The controlling side is 0, the controlled side 1: both sides decide about the same ordered pair. */
export type Party = 0 | 1;

/** What a decision needs to know of one side. */
export interface PartyView {
  /** What its NAT does. */
  readonly profile: NatProfile;
  /** Whether the external IP address is known, and may be dialled by the other side. */
  readonly hasPublicIp: boolean;
  /** Whether an address of the punch port as seen from outside is known, and may be dialled. */
  readonly hasPublicAddress: boolean;
  /** Whether a router forwards a port to the punch port on request. */
  readonly isMapped: boolean;
  /** Whether it can listen on the punch port while it dials from it. */
  readonly canListenBeside: boolean;
}

/** A technique, who plays which part in it, and what may be expected. */
export type Meeting = MeetingPart & {
  /** 0 to 1. */
  readonly success: number;
  readonly roundTrips: number;
  /** In words. */
  readonly reason: string;
};

type MeetingPart =
  | { readonly method: "direct"; readonly reachable: readonly Party[] }
  | { readonly method: "simultaneous-open" }
  | { readonly method: "one-sided-open"; readonly opener: Party }
  /** The ports of these parties are not known yet. */
  | { readonly method: "port-prediction"; readonly predicted: readonly Party[] }
  /** The ports of `random` cannot be known. */
  | { readonly method: "birthday"; readonly random: Party; readonly spray: Spray }
  | { readonly method: "impossible" };

/** What the decision depends on besides the two sides. */
export interface MeetingOptions {
  /** What a spray may cost. */
  readonly limits: PunchLimits;
  /** Between the sides; 50 unless known. */
  readonly rttMs?: number;
}

/** Decides how the controlling (first) and the controlled side (second) meet. */
export function chooseMeeting(
  parties: readonly [PartyView, PartyView],
  options: MeetingOptions,
): Meeting {
  const nomination = choosePunchMethod(parties, options);
  const unknowns = parties.filter(({ profile }) => profile.mapping === "unknown").length;
  const doubt = nomination.method === "direct" ? 1 : CHANCE_OF_CONE ** unknowns;
  const [a, b] = parties.map(({ profile }) => nameNat(profile));
  return {
    ...nomination,
    success: nomination.success * doubt,
    reason: `${a} x ${b}: ${nomination.reason}`,
  };
}

function choosePunchMethod(
  parties: readonly [PartyView, PartyView],
  options: MeetingOptions,
): Meeting {
  const reachable = PARTIES.filter((party) => isReachable(parties[party]));
  if (reachable.length > 0) {
    return { method: "direct", reachable, success: 0.99, roundTrips: 1, reason: "direct" };
  }
  const known = PARTIES.filter((party) => isKnown(parties[party]));
  if (known.length === 2) return crossing(parties);
  const isNowhere = PARTIES.some((party) => !known.includes(party) && !isSomewhere(parties[party]));
  if (isNowhere) return impossible(`an external address is not known; ${HELP}`);

  const opener = [...known, ...PARTIES].find((party) => canOpen(parties[party]));
  if (opener !== undefined) return opening(opener, parties);
  const predicted = PARTIES.filter((party) => !known.includes(party));
  if (predicted.every((party) => isPredictable(parties[party].profile))) {
    return predicting(predicted, parties);
  }
  if (known.length === 1) {
    const [random] = predicted as [Party];
    if (parties[other(random)].profile.mapping === "unknown") {
      return impossible(
        `an address is not known for sure, and the other's ports not at all; ${HELP}`,
      );
    }
    return spraying(random, parties, options);
  }
  return impossible(`neither side's port can be known before it dials; ${HELP}`);
}

function isReachable({ profile, hasPublicAddress, isMapped }: PartyView): boolean {
  return isMapped || hasPublicAddress && letsAnyoneIn(profile) && profile.mapping !== "unknown";
}

function isKnown({ profile, hasPublicAddress }: PartyView): boolean {
  return hasPublicAddress && !dependsOnDestination(profile);
}

/** Whether at least the IP address is known where a port cannot be. */
function isSomewhere({ profile, hasPublicIp }: PartyView): boolean {
  return hasPublicIp && dependsOnDestination(profile);
}

/** Whether one SYN lets the peer in from any port, at an address that the peer can tell. */
function canOpen({ profile, hasPublicAddress }: PartyView): boolean {
  const opens = profile.filtering === "address-dependent" || letsAnyoneIn(profile);
  return opens && profile.mapping !== "unknown" &&
    (dependsOnDestination(profile)
      ? isPredictable(profile) && !profile.onlyForNeighbours
      : hasPublicAddress);
}

function crossing([a, b]: readonly [PartyView, PartyView]): Meeting {
  const resets = [a, b].filter(({ profile }) => profile.unsolicitedSyn === "reset").length;
  return {
    method: "simultaneous-open",
    success: resets === 2 ? 0.98 : 0.99,
    roundTrips: [1, 1.5, 2][resets]!,
    reason: resets === 0 ? "crossing SYNs" : "crossing SYNs, redialled on reset",
  };
}

function opening(opener: Party, parties: readonly [PartyView, PartyView]): Meeting {
  const { profile, canListenBeside } = parties[opener];
  const closedByReset = parties[other(opener)].profile.unsolicitedSyn === "reset";
  const success = dependsOnDestination(profile) ? chanceOfPrediction(profile) : 0.99;
  return {
    method: "one-sided-open",
    opener,
    success: closedByReset && !canListenBeside ? success / 2 : success,
    roundTrips: 1,
    reason: "opened",
  };
}

function predicting(
  predicted: readonly Party[],
  parties: readonly [PartyView, PartyView],
): Meeting {
  const success = predicted.map((party) => chanceOfPrediction(parties[party].profile))
    .reduce((product, chance) => product * chance);
  const exact = predicted.every((party) => followsLocalPort(parties[party].profile));
  const resets = parties.filter(({ profile }) => profile.unsolicitedSyn === "reset").length;
  const inStep = predicted.length === 1 || exact ? 1 : CHANCE_OF_PAIRING / (resets === 2 ? 2 : 1);
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

function spraying(
  random: Party,
  parties: readonly [PartyView, PartyView],
  { limits, rttMs = USUAL_RTT_MS }: MeetingOptions,
): Meeting {
  const known = parties[other(random)].profile;
  const spray = planSpray(known, parties[random].profile, { limits, rttMs });
  const { split, block, chance } = spray;
  if (chance < HOPELESS) {
    return impossible(
      `a spray within the limits would hit less than once in a hundred times; ${HELP}`,
    );
  }
  return {
    method: "birthday",
    random,
    spray,
    success: chance,
    roundTrips: 1 + Math.ceil(spray.spacingMs.known * split.ports / 2 / rttMs),
    reason: `sprayed, ${split.sockets} sockets and ${split.ports} of ${
      block[1] - block[0] + 1
    } ports`,
  };
}

function impossible(reason: string): Meeting {
  return { method: "impossible", success: 0, roundTrips: 0, reason: `impossible: ${reason}` };
}

/** The other one of the two. */
export function other(party: Party): Party {
  return party === 0 ? 1 : 0;
}

const PARTIES: readonly Party[] = [0, 1];

const HELP = "a relay, a port mapped on a router, or IPv6 would help";

/** Two NATs in three map consistently for TCP: 64 % of 286 (Ford, Srisuresh, Kegel 2005), resets counted as failures. */
const CHANCE_OF_CONE = 0.65;

/** With a few new mappings a second by others; a sequence of neighbours breaks with the first of them. */
const CHANCE_OF_SEQUENCE = 0.95;
const CHANCE_OF_NEIGHBOURS = 0.8;

/** Two rows of predicted ports have to be in step; each reset moves them. */
const CHANCE_OF_PAIRING = 0.8;

/** What is not worth the packets; ours. */
const HOPELESS = 0.01;

/** Where it is not known; ours. */
export const USUAL_RTT_MS = 50;
