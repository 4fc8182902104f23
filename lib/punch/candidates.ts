/**
 * What two peers tell each other before they punch: their addresses and what their NATs do with TCP.
 *
 * @module
 */

import type { Allocation, Behavior, UnsolicitedSyn } from "../nat/behavior.ts";
import type { TransportAddress } from "../net/address.ts";

/** An address where a peer may be met. */
export interface Candidate {
  /**
   * `host`: an interface's own; `mapped`: opened by a router on request; `reflexive`: what a server sees of the
   * punch port.
   */
  readonly kind: "host" | "mapped" | "reflexive";
  /** Where to dial. */
  readonly address: TransportAddress;
}

/** One side's NAT, as far as TCP is concerned. Every part may be unknown. */
export interface NatProfile {
  /** Whether the external port depends on the destination. */
  readonly mapping: Behavior;
  /** From whom SYNs are let in. */
  readonly filtering: Behavior;
  /** What becomes of those that are not. */
  readonly unsolicitedSyn: UnsolicitedSyn;
  /** How external ports are chosen. */
  readonly allocation: Allocation;
  /** Whether `allocation.delta` holds between neighbouring local ports only. */
  readonly onlyForNeighbours: boolean;
  /** The external IP address; `null` where no server answered. */
  readonly externalIp: string | null;
  /**
   * New mappings made just before the profile was sent, oldest first: local port and external port of each. What
   * prediction goes by.
   */
  readonly samples: readonly PortPair[];
}

/** A local port and the external port that a NAT gave it. */
export interface PortPair {
  /** Where the packets came from. */
  readonly localPort: number;
  /** Where they seemed to come from, outside. */
  readonly externalPort: number;
}

/** All that one side says of itself. */
export interface PunchSide {
  /** Its NAT. */
  readonly profile: NatProfile;
  /** Where it may be met. */
  readonly candidates: readonly Candidate[];
  /** The local port that the side dials from, and listens on where it can. */
  readonly punchPort: number;
  /** Whether it can listen on the punch port while it dials from it. */
  readonly canListenBeside: boolean;
}
