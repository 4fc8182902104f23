/**
 * How to spray: one side opens sockets at ports that nobody knows, the other dials ports in the hope of one of
 * them. All of it within a second, before the system sends any SYN again.
 *
 * @module
 */

import { portBlock } from "../nat/predict.ts";
import { type BirthdaySplit, hitProbability, splitForChance } from "./birthday.ts";
import type { NatProfile } from "./candidates.ts";
import type { PunchLimits } from "./limits.ts";

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
