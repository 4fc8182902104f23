/**
 * The birthday method: one side opens many sockets behind a NAT that chooses ports at random, the other dials many of
 * those ports, and the chance that one pair fits grows with the product of both numbers.
 *
 * @module
 */

import { portBlock } from "../nat/allocation.ts";
import type { PunchLimits } from "./limits.ts";
import { chanceOfAddress, keepsOutCrossing, type NatProfile } from "./nat_profile.ts";

/** How many dials each side makes. */
export interface BirthdaySplit {
  /** Sockets on the side whose ports are random. */
  readonly sockets: number;
  /** Ports of that side that the other side dials. */
  readonly ports: number;
}

/** A birthday attempt, for both sides. */
export interface BirthdayPlan {
  /** How many dials each side makes. */
  readonly split: BirthdaySplit;
  /** The range of the random ports. */
  readonly block: readonly [first: number, last: number];
  /** The side that dials first. A hit needs the other end to be still waiting, so the sockets that last longer go first. */
  readonly first: "known" | "random" | "both";
  /** From one dial to the next, on the side of the known address and on the random side, in milliseconds. */
  readonly spacingMs: { readonly known: number; readonly random: number };
  /** The chance of a hit, 0 to 1. */
  readonly chance: number;
}

/**
 * The cheapest birthday attempt that nearly always hits, or the best one within the limits.
 *
 * The random side goes first, because its mappings must exist when the other side's SYNs arrive. If the known side's
 * NAT answers those first SYNs with resets, the known side goes first, and its SYNs wait at the random side's NAT. If
 * both NATs reset, neither side can wait: only SYNs that cross on their way get through. The same holds if the known NAT
 * resets early SYNs and keeps out those that cross its own.
 *
 * A NAT with a pool of addresses gives only some of the sockets the address at which their ports are dialled.
 *
 * @param known the NAT whose external address is known
 * @param random the NAT that chooses ports at random
 */
export function planBirthday(
  known: NatProfile,
  random: NatProfile,
  { limits, rttMs }: { readonly limits: PunchLimits; readonly rttMs: number },
): BirthdayPlan {
  const block = portBlock(random.samples, random.allocation.range);
  const space = block[1] - block[0] + 1;
  const inTime = Math.floor(limits.maxSynsPerSecond * SENDING_SHARE * limits.birthdayMs / 1000);
  const split = splitForChance(ENOUGH, space, {
    sockets: Math.min(limits.maxSockets, shareOf(random)),
    ports: Math.min(limits.maxBirthdayPorts, shareOf(known)),
    sum: Math.min(limits.maxSyns, inTime),
  });
  const atAddress = split.sockets * chanceOfAddress(random);
  const chance = UNDISTURBED * hitProbability({ ...split, sockets: atAddress }, space);
  const knownResets = known.unsolicitedSyn === "reset";
  const mayGoFirst = random.unsolicitedSyn !== "reset" && !keepsOutCrossing(known);
  if (!knownResets || mayGoFirst) {
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
  const crossing = atAddress * shareOfCrossing(rttMs / 2 / burstMs);
  return {
    split,
    block,
    first: "both",
    spacingMs: { known: burstMs / split.ports, random: burstMs / split.sockets },
    chance: UNDISTURBED * UNDISTURBED * hitProbability({ ...split, sockets: crossing }, space),
  };
}

/** The chance that at least one of `ports` distinct ports is one of the `sockets` random ports, 0 to 1. */
export function hitProbability({ sockets, ports }: BirthdaySplit, space: number): number {
  let miss = 1;
  for (let tried = 0; tried < ports; tried++) {
    miss *= Math.max(0, 1 - sockets / (space - tried));
  }
  return 1 - miss;
}

/**
 * The cheapest split that hits with a probability of `chance`, or the best one within the caps: as many sockets as
 * ports, because the chance depends on their product, and more ports once the sockets have reached their cap, because a
 * port costs no file descriptor.
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

/** How many sessions a punch may take of a NAT that was seen to be full. */
function shareOf({ sessionLimit = Infinity }: NatProfile): number {
  return Math.floor(SESSION_SHARE * sessionLimit);
}

/** The share of pairs of SYNs, sent by two sides within one burst, that are less than `delay` bursts apart. */
function shareOfCrossing(delay: number): number {
  return delay >= 1 ? 1 : 1 - (1 - delay) ** 2;
}

/** Chosen by us: the rest is for everything else that runs through the NAT. */
const SESSION_SHARE = 0.5;

/** The chance beyond which more dials cost more than they gain. Chosen by us. */
const ENOUGH = 0.99;

/** The share of hits that neither packet loss nor a taken port spoils. Chosen by us. */
const UNDISTURBED = 0.99;

/** The share of the attempt's time in which SYNs are sent; the rest lets the last ones arrive. Chosen by us. */
const SENDING_SHARE = 0.75;

/** Dials do not leave a busy system any faster: 1024 of them take 19 to 34 ms (measured). */
const MIN_SPACING_MS = 0.033;
