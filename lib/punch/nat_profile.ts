/**
 * NATs as people call them, and what of a profile decides how to meet.
 *
 * @module
 */

import { portBlock } from "../nat/predict.ts";
import type { NatProfile } from "./candidates.ts";

/** Whether the external port is another one for each destination, so that no server can tell it. */
export function dependsOnDestination({ mapping }: Pick<NatProfile, "mapping">): boolean {
  return mapping === "address-dependent" || mapping === "address-and-port-dependent";
}

/** Whether anyone may connect. */
export function letsAnyoneIn({ filtering }: Pick<NatProfile, "filtering">): boolean {
  return filtering === "endpoint-independent" || filtering === "none";
}

/** Whether the ports of new mappings follow from earlier ones, or from the local port. */
export function isPredictable({ allocation, samples }: NatProfile): boolean {
  return followsLocalPort({ allocation }) ||
    allocation.kind === "sequential" && allocation.delta !== null && samples.length > 0;
}

/** Whether the external port follows from the local one, whatever else happens at the NAT. */
export function followsLocalPort({ allocation }: Pick<NatProfile, "allocation">): boolean {
  return allocation.kind === "preserving" ||
    allocation.kind === "offset" && allocation.delta !== null;
}

/**
 * A NAT in a few words: "port-restricted", "symmetric, sequential".
 *
 * @example
 * ```ts
 * import { nameNat } from "./nat_profile.ts";
 * import { assertEquals } from "@std/assert";
 *
 * const name = nameNat({
 *   mapping: "endpoint-independent",
 *   filtering: "address-and-port-dependent",
 *   unsolicitedSyn: "dropped",
 *   allocation: { kind: "preserving", delta: 0, range: null },
 *   onlyForNeighbours: false,
 *   externalIp: "192.0.2.1",
 *   samples: [],
 * });
 * assertEquals(name, "port-restricted");
 * ```
 */
export function nameNat(profile: NatProfile): string {
  const name = dependsOnDestination(profile)
    ? `symmetric${symmetricFilterName(profile)}, ${allocationName(profile)}`
    : namePlain(profile);
  return profile.unsolicitedSyn === "reset" && !letsAnyoneIn(profile) ? `${name} (resets)` : name;
}

function namePlain({ mapping, filtering }: NatProfile): string {
  if (mapping === "unknown") return "unknown NAT";
  const isNat = mapping !== "none";
  switch (filtering) {
    case "none":
    case "endpoint-independent":
      return isNat ? "full cone" : "open";
    case "address-dependent":
      return isNat ? "address-restricted" : "address-restricted firewall";
    case "address-and-port-dependent":
      return isNat ? "port-restricted" : "firewall";
    case "unknown":
      return isNat ? "cone of unknown filtering" : "no NAT, unknown filtering";
  }
}

function symmetricFilterName({ filtering }: NatProfile): string {
  if (filtering === "address-dependent") return " but address-restricted";
  return letsAnyoneIn({ filtering }) ? " but open" : "";
}

function allocationName({ allocation, onlyForNeighbours, samples }: NatProfile): string {
  switch (allocation.kind) {
    case "preserving":
      return "port-preserving";
    case "offset":
      return "offset";
    case "sequential":
      return onlyForNeighbours ? "dependent" : "sequential";
    case "random": {
      const [first, last] = portBlock(samples, allocation.range);
      return last - first < WIDE ? "random in a block" : "random";
    }
    case "unknown":
      return "of unknown ports";
  }
}

/** Half of all ports; ours. */
const WIDE = 32_768;
