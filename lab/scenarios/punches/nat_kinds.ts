/**
 * The kinds of NAT that punches are tested with.
 *
 * @module
 */

import type { Behavior, FamilyReport } from "../../../lib/nat/behavior.ts";
import { NAT_BEHAVIORS, type NatBehavior, natBehavior } from "../../model/nat_behavior.ts";

/** What a host is behind. */
export interface NatKind {
  /** For people, in one line. */
  readonly name: string;
  /** Where the host is: behind a NAT, behind a firewall without translation, or on the public internet. */
  readonly place: "nat" | "firewall" | "public";
  /** Unused for public hosts. */
  readonly behavior: NatBehavior;
}

/** All kinds by short name, from the easiest to the hardest. */
export const NAT_KINDS = {
  public: { name: "public host", place: "public", behavior: NAT_BEHAVIORS.firewall },
  firewall: { name: "firewall, no NAT", place: "firewall", behavior: NAT_BEHAVIORS.firewall },
  fullCone: behindNat("full cone", NAT_BEHAVIORS.fullCone),
  addressRestricted: behindNat("address-restricted", NAT_BEHAVIORS.addressRestricted),
  portRestricted: behindNat("port-restricted", NAT_BEHAVIORS.portRestricted),
  resetting: behindNat("port-restricted, resets", natBehavior({ unsolicitedSyn: "reset" })),
  closing: behindNat(
    "port-restricted, resets and closes",
    natBehavior({ unsolicitedSyn: "reset", resetEndsMapping: true }),
  ),
  preserving: behindNat("symmetric, port-preserving", NAT_BEHAVIORS.symmetricPreserving),
  sequential: symmetric("sequential +1", { allocation: { kind: "sequential", delta: 1 } }),
  descending: symmetric("sequential −1", { allocation: { kind: "sequential", delta: -1 } }),
  byTwos: symmetric("sequential +2", { allocation: { kind: "sequential", delta: 2 } }),
  byThrees: symmetric("sequential +3", { allocation: { kind: "sequential", delta: 3 } }),
  block: symmetric("random in a block of 1024", { portRange: [20_000, 21_023] }),
  random: symmetric("random", {}),
} as const satisfies Record<string, NatKind>;

/** Kinds that break a rule of RFC 5382 or share few resources, by short name. */
export const ODD_KINDS = {
  crossingDropped: behindNat("port-restricted, drops crossing SYNs", odd({ crossedSyn: "drop" })),
  crossingReset: behindNat("port-restricted, resets crossing SYNs", odd({ crossedSyn: "reset" })),
  strict: behindNat("port-restricted, no simultaneous open", odd({ crossedSyn: "strict" })),
  crossingCone: behindNat(
    "full cone, drops crossing SYNs",
    natBehavior({ crossedSyn: "drop" }, NAT_BEHAVIORS.fullCone),
  ),
  crossingAddress: behindNat(
    "address-restricted, drops crossing SYNs",
    natBehavior({ crossedSyn: "drop" }, NAT_BEHAVIORS.addressRestricted),
  ),
  pooled: behindNat("port-restricted, pool", odd({ pooling: "arbitrary" })),
  pooledSequential: symmetric("sequential +1, pool", {
    allocation: { kind: "sequential", delta: 1 },
    pooling: "arbitrary",
  }),
  pooledRandom: symmetric("random, pool", { pooling: "arbitrary" }),
  refusing: behindNat(
    "port-restricted, ICMP errors",
    odd({ unsolicitedSyn: "icmp", unsolicitedUdp: "icmp" }),
  ),
  refusingRandom: symmetric("random, ICMP errors", {
    unsolicitedSyn: "icmp",
    unsolicitedUdp: "icmp",
  }),
  parity: symmetric("random, of the same parity", { portParity: true }),
  few: behindNat("port-restricted, 64 sessions", odd({ maxSessions: 64 })),
  fewCone: behindNat(
    "full cone, 64 sessions",
    natBehavior({ maxSessions: 64 }, NAT_BEHAVIORS.fullCone),
  ),
  fewRandom: symmetric("random, 64 sessions", { maxSessions: 64 }),
} as const satisfies Record<string, NatKind>;

/** The short name of a kind. */
export type NatKindName = keyof typeof NAT_KINDS | keyof typeof ODD_KINDS;

/** A kind by its short name. */
export function natKind(name: NatKindName): NatKind {
  return { ...NAT_KINDS, ...ODD_KINDS }[name];
}

/** The external addresses of the NATs at both ends: a NAT with paired pooling uses the first. */
export const POOLS = {
  a: [1, 2, 3, 4].map((host) => `198.51.100.${100 + host}`),
  b: [1, 2, 3, 4].map((host) => `198.51.100.${110 + host}`),
} as const;

/** What a NAT test over TCP reports about a kind, as the suite `verdicts` verifies. */
export function reportOf(kind: NatKind): Partial<FamilyReport> {
  if (kind.place === "public") {
    return {
      mapping: sure("none"),
      filtering: sure("none"),
      unsolicitedSyn: "accepted",
      crossingSyn: "accepted",
    };
  }
  const { mapping, filtering, unsolicitedSyn, crossedSyn } = kind.behavior;
  return {
    mapping: sure(mapping),
    filtering: sure(filtering),
    unsolicitedSyn: filtering === "endpoint-independent"
      ? "accepted"
      : unsolicitedSyn === "drop"
      ? "dropped"
      : "reset", // an ICMP error ends a dial as a RST does
    crossingSyn: mapping === "address-and-port-dependent"
      ? "unknown"
      : crossedSyn === "accept"
      ? "accepted"
      : "dropped",
  };
}

function sure(behavior: Behavior): FamilyReport["mapping"] {
  return { behavior, confidence: 1, evidence: [] };
}

function behindNat(name: string, behavior: NatBehavior): NatKind {
  return { name, place: "nat", behavior };
}

function odd(changes: Partial<NatBehavior>): NatBehavior {
  return natBehavior(changes, NAT_BEHAVIORS.portRestricted);
}

function symmetric(allocation: string, changes: Partial<NatBehavior>): NatKind {
  return behindNat(`symmetric, ${allocation}`, natBehavior(changes, NAT_BEHAVIORS.symmetric));
}
