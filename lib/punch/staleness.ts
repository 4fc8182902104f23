/**
 * Whether what is known of a NAT's ports is still good for a prediction.
 *
 * @module
 */

import type { NatProfile } from "./candidates.ts";
import { dependsOnDestination } from "./nat_profile.ts";
import type { PunchOffer } from "./offer.ts";

/** Whether ports have to be sampled shortly before a punch: on a NAT that counts, others count along. */
export function needsFreshSamples(profile: NatProfile): boolean {
  return dependsOnDestination(profile) && profile.allocation.kind === "sequential";
}

/** Whether an offer has to wait for newer samples. */
export function isStale({ side, sampleAgeMs }: Pick<PunchOffer, "side" | "sampleAgeMs">): boolean {
  return needsFreshSamples(side.profile) && sampleAgeMs > STALE_MS;
}

/** Ours: others behind the NAT make a few mappings a second, and a window of ports takes them in. */
const STALE_MS = 750;
