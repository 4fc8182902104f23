/**
 * What is different when people carry the offers by copy and paste: the sides do not act at the same moment, and what
 * the NAT would do next is out of date before the peer reads it.
 *
 * @module
 */

import type { PunchDescription } from "./candidates.ts";
import { PUNCH_LIMITS, type PunchLimits } from "./limits.ts";
import { dependsOnDestination } from "./nat_profile.ts";
import type { PunchRole } from "./offer.ts";

/**
 * The caps of a punch with manual signaling.
 *
 * @param limits the caps of one with other signaling
 */
export function manualLimits(role: PunchRole, limits: PunchLimits = PUNCH_LIMITS): PunchLimits {
  return {
    ...limits,
    // A birthday attempt must leave both sides within one second.
    maxSockets: 1,
    maxBirthdayPorts: 1,
    timeoutMs: Math.max(limits.timeoutMs, carryingMs(role)),
  };
}

/** How long the peer may start after this side. The controlled side knows both offers first: its answer is carried. */
export function carryingMs(role: PunchRole): number {
  return role === "controlled" ? ANSWER_MS : 0;
}

/** A description without the next ports of the NAT, and without the samples that they would be predicted from. */
export function withoutPredictions(description: PunchDescription): PunchDescription {
  const { profile } = description;
  if (!dependsOnDestination(profile)) {
    return { ...description, profile: { ...profile, samples: [] } };
  }
  if (profile.allocation.kind !== "sequential") return description;
  const allocation = { kind: "unknown", delta: null, range: null } as const;
  return { ...description, profile: { ...profile, allocation, samples: [] } };
}

/**
 * How long a punch with manual signaling may take, in milliseconds. Chosen by us: time to carry an offer and its
 * answer, and to find the person who carries it.
 */
export const MANUAL_TIMEOUT_MS = 600_000;

/** How long people may take to carry the answer. Chosen by us: NATs keep a mapping for four minutes (RFC 5382 REQ-5). */
const ANSWER_MS = 240_000;
