/**
 * A punch plan as data: what one side does, and what to expect of it. Each side computes its own plan from the same
 * two descriptions, and the two plans match.
 *
 * @module
 */

import type { PunchMethodName } from "../base/path_kind.ts";
import type { TransportAddress } from "../net/address.ts";

/** How two sides plan to connect: by a method of hole punching, without one, or not at all. */
export type PunchMethod =
  | PunchMethodName
  | "direct" // one side is reachable, and the other dials it
  | "impossible";

/** What one side does. */
export interface PunchPlan {
  /** How the two sides connect. */
  readonly method: PunchMethod;
  /** The sides that accept connections from anywhere, if the method is `direct`. */
  readonly reachable: readonly ("controlling" | "controlled")[];
  /** What this side dials (the check list of RFC 8445 §6.1.2); empty if dialling does not help. */
  readonly dials: readonly CheckListEntry[];
  /** Whether this side listens on its punch port: while it dials if it can, otherwise after the dials have started. */
  readonly listens: boolean;
  /** SYNs that both sides together send for the birthday method; 0 for every other method. */
  readonly birthdaySyns: number;
  /** The chance that the sides connect, 0 to 1. */
  readonly successEstimate: number;
  /** How long it takes from the start of the later side, in round trips between the sides. */
  readonly roundTripsEstimate: number;
  /** In words, such as `port-restricted x symmetric, sequential: predicted`. */
  readonly reason: string;
}

/** Dials that belong together, in the order in which they are made: every target once, then every target again. */
export interface CheckListEntry {
  /** The local port: the punch port, or a fresh port for each dial. */
  readonly from: "punch" | "fresh";
  /**
   * For `fresh`: the local ports of the dials in their order, if the peer counts on them. A dial whose port is taken on
   * this host fails. Without it the system chooses the ports.
   */
  readonly localPorts?: readonly number[];
  /** The addresses to dial. */
  readonly targets: readonly TransportAddress[];
  /** How many sockets dial each target, each from its own local port; 1 for the punch port. */
  readonly perTarget: number;
  /** When the first dial starts, in milliseconds after both descriptions are known. */
  readonly startMs: number;
  /** From one dial to the next, in milliseconds, fractions included; 0 starts all at once. */
  readonly spacingMs: number;
  /**
   * How often each target is dialled. A reset is answered with the next dial, because the other side's SYN may be on
   * its way. 1 if a reset ends the dial.
   */
  readonly maxTries: number;
  /**
   * When sockets that still wait are closed, in milliseconds from `startMs`; for the birthday method that is before the
   * system's first retransmission.
   */
  readonly timeoutMs: number;
  /** When each dial is closed, in milliseconds after it started. Default: together with the entry. */
  readonly dialMs?: number;
  /**
   * Whether this is where the peer dials from, by its own account: STUN servers saw it there, or its NAT gives it that very
   * port. Such a target may be dialled many times while it resets.
   */
  readonly isExpected?: boolean;
}
