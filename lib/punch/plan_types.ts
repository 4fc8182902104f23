/**
 * A plan to punch, as data: what one side does, and what may be expected of it. Both sides compute plans that
 * match, each from the same two descriptions.
 *
 * @module
 */

import type { TransportAddress } from "../net/address.ts";

/** How two sides are to meet. */
export type Technique =
  | "direct" // one side is reachable; the other dials it
  | "crossing" // both dial the other's known address: simultaneous open
  | "opening" // one side opens its filter with a SYN and listens; the other dials from wherever
  | "predicting" // crossing, with several candidates for a port that is not known yet
  | "spraying" // many sockets on one side, many ports on the other: the birthday paradox
  | "impossible";

/** What one side does. */
export interface PunchPlan {
  /** How the two are to meet. */
  readonly technique: Technique;
  /** Who may be dialled by anybody, if the technique is `direct`. */
  readonly reachable: readonly ("controlling" | "controlled")[];
  /** What this side dials; none where that is of no use. */
  readonly dials: readonly DialGroup[];
  /** Whether this side listens on its punch port: beside the dials where it can, after them otherwise. */
  readonly listens: boolean;
  /** SYNs of a spray that both sides send together; 0 for any other technique. */
  readonly sprayedSyns: number;
  /** Chance that a connection comes about, 0 to 1. */
  readonly successEstimate: number;
  /** From the later side's start, in round trips between the two sides. */
  readonly roundTripsEstimate: number;
  /** In words: "port-restricted x symmetric, sequential: predicted". */
  readonly reason: string;
}

/** Dials that belong together, in the order in which they are made: all targets once, then all again. */
export interface DialGroup {
  /** `punch`: the punch port; `fresh`: another local port for each dial. */
  readonly from: "punch" | "fresh";
  /**
   * For `fresh`: the local ports of the dials, one each and in their order, where the peer counts on them. A dial
   * whose port is taken on this host is left out. Any ports will do where this is left out.
   */
  readonly localPorts?: readonly number[];
  /** Whom to dial. */
  readonly targets: readonly TransportAddress[];
  /** Sockets for each target, each from a local port of its own; 1 for the punch port. */
  readonly perTarget: number;
  /** When the group starts, from the moment when both descriptions are known. */
  readonly startMs: number;
  /** From one dial of the group to the next, fractions included; 0 for all at once. */
  readonly spacingMs: number;
  /**
   * How often each target is dialled: again at once when the answer is a reset, as the other side's SYN may be on
   * its way. 1 where resets end the dial.
   */
  readonly maxTries: number;
  /**
   * When sockets that are still waiting are given up, from the start of the group; before the system's first
   * retransmission for a spray.
   */
  readonly giveUpMs: number;
}
