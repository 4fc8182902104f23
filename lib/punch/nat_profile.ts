/**
 * What is known about a side's NAT, what it means for a punch, and the NAT's common name.
 *
 * @module
 */

import { portBlock } from "../nat/allocation.ts";
import type { Behavior, PortAllocation, UnsolicitedSyn } from "../nat/behavior.ts";

/** How one side's NAT handles TCP. Every part may be unknown. */
export interface NatProfile {
  /** Whether the external port depends on the destination (RFC 4787 §4.1). */
  readonly mapping: Behavior;
  /** Which SYNs from outside the NAT lets in (RFC 4787 §5). */
  readonly filtering: Behavior;
  /** What happens to the SYNs that it does not let in. */
  readonly unsolicitedSyn: UnsolicitedSyn;
  /** What happens to a SYN that crosses one from inside to the same peer; left out if it is not known. */
  readonly crossingSyn?: UnsolicitedSyn;
  /** How the NAT chooses external ports. */
  readonly allocation: PortAllocation;
  /** Whether `allocation.delta` holds only between neighbouring local ports. */
  readonly onlyForNeighbours: boolean;
  /** The external IP address; `null` if no server answered. */
  readonly externalIp: string | null;
  /** The external addresses that mappings were seen at, if there are several: mappings do not share one (RFC 4787 §4.1). */
  readonly externalIps?: readonly string[];
  /** At how many sessions of one punch the NAT was seen to open no more; left out if it never was. */
  readonly sessionLimit?: number;
  /** Mappings made just before the profile was sent, oldest first; port prediction starts from them. */
  readonly samples: readonly PortPair[];
}

/** A local port and the external port that a NAT gave it. */
export interface PortPair {
  /** The port that the packets were sent from. */
  readonly localPort: number;
  /** The port that they seemed to come from, seen from outside. */
  readonly externalPort: number;
}

/** Whether each destination sees another external port, so that no server can tell the peer which one it will see. */
export function dependsOnDestination({ mapping }: Pick<NatProfile, "mapping">): boolean {
  return mapping === "address-dependent" || mapping === "address-and-port-dependent";
}

/** Whether anyone may connect from outside. */
export function letsAnyoneIn({ filtering }: Pick<NatProfile, "filtering">): boolean {
  return filtering === "endpoint-independent" || filtering === "none";
}

/** The chance that a mapping which is not known has the address that is, 0 to 1: a NAT with a pool draws one at random. */
export function chanceOfAddress(profile: Pick<NatProfile, "mapping" | "externalIps">): number {
  return dependsOnDestination(profile) ? 1 / Math.max(1, profile.externalIps?.length ?? 1) : 1;
}

/** Whether a SYN that crosses one from inside is kept out, so that two such sides cannot open simultaneously. */
export function keepsOutCrossing({ crossingSyn }: Pick<NatProfile, "crossingSyn">): boolean {
  return crossingSyn === "dropped" || crossingSyn === "reset";
}

/**
 * Whether the side that is ready first should let its SYN cross the other side's: then both are connected after a round
 * trip. A SYN that is early is dropped at the other NAT, and the other side's alone opens the connection, which this side
 * has half a round trip later. But it must be early if it opens the way for that one: where the NAT here resets, or only
 * the other one keeps out what crosses.
 *
 * SYNs cross if the dials are no further apart than a packet takes between the sides. One that is later than that would be
 * lost to the side that waits: its NAT does not let the other one in. A side that expects the other one to be as far from
 * the server as itself is never that late, because no two ways to a place differ by more than the way between their ends.
 */
export function shouldCross(local: NatProfile, remote: NatProfile): boolean {
  if (local.unsolicitedSyn === "reset") return false;
  return keepsOutCrossing(local) || !keepsOutCrossing(remote);
}

/** Whether the external ports of new mappings follow from the local port or from earlier mappings. */
export function isPredictable({ allocation, samples }: NatProfile): boolean {
  return followsLocalPort({ allocation }) ||
    allocation.kind === "sequential" && allocation.delta !== null && samples.length > 0;
}

/** Whether the external port follows from the local port, whatever else happens at the NAT. */
export function followsLocalPort({ allocation }: Pick<NatProfile, "allocation">): boolean {
  return allocation.kind === "preserving" ||
    allocation.kind === "offset" && allocation.delta !== null;
}

/** Whether ports must be sampled shortly before a punch: on a NAT that counts, other hosts move the counter. */
export function needsFreshSamples(profile: NatProfile): boolean {
  return dependsOnDestination(profile) && profile.allocation.kind === "sequential";
}

/**
 * The name of a NAT in a few words, such as "port-restricted" or "symmetric, sequential".
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
  const pool = profile.externalIps?.length ?? 1;
  const notes = [
    ...pool > 1 ? [`a pool of ${pool} addresses`] : [],
    ...profile.unsolicitedSyn === "reset" && !letsAnyoneIn(profile) ? ["resets"] : [],
    ...keepsOutCrossing(profile) ? ["keeps out crossing SYNs"] : [],
  ];
  return notes.length > 0 ? `${name} (${notes.join(", ")})` : name;
}

/** One profile of each kind of NAT that {@linkcode nameNat} tells apart. */
export const NAT_KINDS: readonly NatProfile[] = [
  kind({ mapping: "none", filtering: "none", unsolicitedSyn: "accepted" }),
  kind({ filtering: "endpoint-independent", unsolicitedSyn: "accepted" }),
  kind({ filtering: "address-dependent" }),
  kind({}),
  kind({ unsolicitedSyn: "reset" }),
  kind({ mapping: "none" }),
  symmetric({ allocation: { kind: "preserving", delta: 0, range: null } }),
  symmetric({ allocation: { kind: "offset", delta: 100, range: null } }),
  symmetric({
    allocation: { kind: "sequential", delta: 1, range: [30_000, 30_004] },
    samples: sample(30_000, 30_001, 30_002, 30_003, 30_004),
  }),
  symmetric({
    allocation: { kind: "sequential", delta: 1, range: [30_000, 30_004] },
    onlyForNeighbours: true,
    samples: sample(30_000, 30_001, 30_002, 30_003, 30_004),
  }),
  symmetric({
    allocation: { kind: "random", delta: null, range: [20_100, 20_900] },
    samples: sample(20_300, 20_900, 20_100, 20_700, 20_500),
  }),
  symmetric({
    allocation: { kind: "random", delta: null, range: [2_000, 62_000] },
    samples: sample(62_000, 17_000, 2_000, 47_000, 32_000),
  }),
  kind({ mapping: "unknown", filtering: "unknown", unsolicitedSyn: "unknown" }),
];

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

function kind(changes: Partial<NatProfile>): NatProfile {
  return {
    mapping: "endpoint-independent",
    filtering: "address-and-port-dependent",
    unsolicitedSyn: "dropped",
    allocation: { kind: "preserving", delta: 0, range: null },
    onlyForNeighbours: false,
    externalIp: "192.0.2.1",
    samples: [],
    ...changes,
  };
}

function symmetric(changes: Partial<NatProfile>): NatProfile {
  return kind({ mapping: "address-and-port-dependent", ...changes });
}

/** Mappings of consecutive local ports. */
function sample(...externalPorts: readonly number[]): PortPair[] {
  return externalPorts.map((externalPort, index) => ({ localPort: 50_000 + index, externalPort }));
}

/** The span of ports from which allocation counts as random over all ports. Chosen by us: half of all ports. */
const WIDE = 32_768;
