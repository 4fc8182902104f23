/**
 * What two peers tell each other before they punch: their addresses and what their NATs do with TCP.
 *
 * @module
 */

import type { TransportAddress } from "../net/address.ts";
import type { Allocation, Behavior, UnsolicitedSyn } from "../nat/behavior.ts";

/** An address where a peer may be met. */
export interface Candidate {
  /**
   * `host`: an interface's own; `mapped`: opened by a router on request; `reflexive`: what a server sees of the
   * punch port.
   */
  readonly kind: "host" | "mapped" | "reflexive";
  readonly address: TransportAddress;
}

/** One side's NAT, as far as TCP is concerned. Every part may be unknown. */
export interface NatProfile {
  readonly mapping: Behavior;
  readonly filtering: Behavior;
  readonly unsolicitedSyn: UnsolicitedSyn;
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
  readonly localPort: number;
  readonly externalPort: number;
}

/** All that one side says of itself. */
export interface PunchSide {
  readonly profile: NatProfile;
  readonly candidates: readonly Candidate[];
  /** The local port that the side dials from, and listens on where it can. */
  readonly punchPort: number;
  /** Whether it can listen on the punch port while it dials from it. */
  readonly canListenBeside: boolean;
}
