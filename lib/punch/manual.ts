/**
 * What is different where people carry the offers: nothing happens at the same moment on both sides, and what was true
 * of a NAT's next ports is not any more.
 *
 * @module
 */

import type { PunchDescription } from "./candidates.ts";
import { PUNCH_LIMITS, type PunchLimits } from "./limits.ts";
import { dependsOnDestination } from "./nat_profile.ts";
import type { PunchRole } from "./offer.ts";

/**
 * The caps of a punch by hand. The controlled side is the one that answers: it knows both offers first, and waits for as
 * long as its answer is carried.
 */
export function manualLimits(role: PunchRole): PunchLimits {
  return {
    ...PUNCH_LIMITS,
    ...NO_SPRAY,
    maxTries: role === "controlled" ? PATIENT_TRIES : PUNCH_LIMITS.maxTries,
    timeoutMs: role === "controlled" ? ANSWER_MS : PUNCH_LIMITS.timeoutMs,
  };
}

/** What a side says of itself: not which ports come next. */
export function withoutPredictions(side: PunchDescription): PunchDescription {
  const { profile } = side;
  if (!dependsOnDestination(profile) || profile.allocation.kind !== "sequential") return side;
  const allocation = { kind: "unknown", delta: null, range: null } as const;
  return { ...side, profile: { ...profile, allocation, samples: [] } };
}

/** How long people may take for the answer. Ours; NATs keep what opens them for four minutes (RFC 5382 REQ-5). */
const ANSWER_MS = 240_000;

/** For an offer and its answer: somebody has to be asked, perhaps. Ours. */
export const MANUAL_MS = 600_000;

/** A NAT that resets is asked again all the time, quickly at first, then once a second. */
const PATIENT_TRIES = PUNCH_LIMITS.maxTries + ANSWER_MS / 1000;

/** A spray has to leave both sides within a second. */
const NO_SPRAY = { maxSockets: 1, maxSprayedPorts: 1 };
