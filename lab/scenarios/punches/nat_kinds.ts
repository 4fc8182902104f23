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

/** The short name of a kind. */
export type NatKindName = keyof typeof NAT_KINDS;

/** What a NAT test over TCP reports about a kind, as the suite `verdicts` verifies. */
export function reportOf(kind: NatKind): Partial<FamilyReport> {
  if (kind.place === "public") {
    return { mapping: sure("none"), filtering: sure("none"), unsolicitedSyn: "accepted" };
  }
  const { mapping, filtering, unsolicitedSyn } = kind.behavior;
  return {
    mapping: sure(mapping),
    filtering: sure(filtering),
    unsolicitedSyn: filtering === "endpoint-independent"
      ? "accepted"
      : unsolicitedSyn === "drop"
      ? "dropped"
      : "reset",
  };
}

function sure(behavior: Behavior): FamilyReport["mapping"] {
  return { behavior, confidence: 1, evidence: [] };
}

function behindNat(name: string, behavior: NatBehavior): NatKind {
  return { name, place: "nat", behavior };
}

function symmetric(allocation: string, changes: Partial<NatBehavior>): NatKind {
  return behindNat(`symmetric, ${allocation}`, natBehavior(changes, NAT_BEHAVIORS.symmetric));
}
