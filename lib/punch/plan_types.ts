/**
 * A plan to punch, as data: what one side does, and what may be expected of it. Both sides compute plans that
 * match, each from the same two descriptions.
 *
 * @module
 */

import { ipFamily, ipScope, sameTransportAddress, type TransportAddress } from "../net/address.ts";
import {
  type Candidate,
  type DialContext,
  dialContext,
  type PunchDescription,
} from "./candidates.ts";

/** How two sides are to meet. */
export type PunchMethod =
  | "direct" // one side is reachable; the other dials it
  | "crossing" // both dial the other's known address: simultaneous open
  | "opening" // one side opens its filter with a SYN and listens; the other dials from wherever
  | "predicting" // crossing, with several candidates for a port that is not known yet
  | "spraying" // many sockets on one side, many ports on the other: the birthday paradox
  | "impossible";

/** What one side does. */
export interface PunchPlan {
  /** How the two are to meet. */
  readonly method: PunchMethod;
  /** Who may be dialled by anybody, if the technique is `direct`. */
  readonly reachable: readonly ("controlling" | "controlled")[];
  /** What this side dials; none where that is of no use. */
  readonly dials: readonly CheckListEntry[];
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
export interface CheckListEntry {
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
  readonly timeoutMs: number;
}

/** A way to a peer; {@linkcode PATH_KINDS} has all of them. */
export type PathKind = (typeof PATH_KINDS)[number];

/** All ways. */
export const PATH_KINDS = [
  "host", // on the same machine
  "lan", // private addresses
  "ipv6", // public addresses, which nobody translates
  "direct", // a public address that anybody may dial
  "mapped", // a port that a router forwards on request
  "punch", // through the filters of both sides
] as const;

/** What this side says of itself if it goes by these ways alone. */
export function withPathKinds(
  side: PunchDescription,
  pathKinds: ReadonlySet<PathKind>,
): PunchDescription {
  return { ...side, candidates: side.candidates.filter((each) => isOffered(each, pathKinds)) };
}

/** The plan without the targets that other ways lead to. */
export function planWithPathKinds(
  plan: PunchPlan,
  sides: { readonly me: PunchDescription; readonly peer: PunchDescription },
  pathKinds: ReadonlySet<PathKind>,
): PunchPlan {
  const isWanted = (target: TransportAddress) =>
    pathKinds.has(pathKindOf(target, { ...sides, method: plan.method }));
  const dials = plan.dials.map((group): CheckListEntry => ({
    ...group,
    targets: group.targets.filter(isWanted),
  }));
  return { ...plan, dials: dials.filter(({ targets }) => targets.length > 0) };
}

/**
 * The way that an address of the peer belongs to, whether it was dialled or dialled us.
 *
 * @example
 * ```ts
 * import type { PunchDescription } from "./candidates.ts";
 * import { pathKindOf } from "./plan_types.ts";
 * import { assertEquals } from "@std/assert";
 *
 * const profile: PunchDescription["profile"] = {
 *   mapping: "unknown",
 *   filtering: "unknown",
 *   unsolicitedSyn: "unknown",
 *   allocation: { kind: "unknown", delta: null, range: null },
 *   onlyForNeighbours: false,
 *   externalIp: null,
 *   samples: [],
 * };
 * const side = { profile, candidates: [], punchPort: 4000, canListenBeside: true };
 * const context = { me: side, peer: side, technique: "crossing" } as const;
 * assertEquals(pathKindOf({ ip: "192.168.1.2", port: 4000 }, context), "lan");
 * assertEquals(pathKindOf({ ip: "192.0.2.1", port: 4000 }, context), "punch");
 * ```
 */
export function pathKindOf(
  target: TransportAddress,
  { me, peer, method }: {
    readonly me: PunchDescription;
    readonly peer: PunchDescription;
    readonly method: PunchMethod;
  },
): PathKind {
  const isMapped = peer.candidates.some(({ kind, address }) =>
    kind === "mapped" && sameTransportAddress(address, target)
  );
  if (isMapped) return "mapped";
  if (isOnHost(target.ip, dialContext(me, peer))) return "host";
  if (isLocal(target.ip)) return "lan";
  if (ipFamily(target.ip) === 6) return "ipv6";
  return method === "direct" ? "direct" : "punch";
}

/** What a record calls a way: that through filters by its technique. */
export function strategyOf(way: PathKind, method: PunchMethod): string {
  return way === "punch" ? method : way;
}

function isOnHost(ip: string, { isSameHost, ownIps }: DialContext): boolean {
  return ipScope(ip) === "loopback" || isSameHost && ownIps.includes(ip);
}

/** Carriers' shared addresses too: who can be dialled there is behind the same NAT. */
function isLocal(ip: string): boolean {
  const scope = ipScope(ip);
  return scope === "private" || scope === "link-local" || scope === "shared";
}

/** The same address may be of use for several ways; which one it is, is only known with the peer's. */
function isOffered({ kind, address }: Candidate, pathKinds: ReadonlySet<PathKind>): boolean {
  if (kind === "mapped") return pathKinds.has("mapped");
  if (kind === "reflexive") return pathKinds.has("direct") || pathKinds.has("punch");
  if (pathKinds.has("host")) return true;
  if (isLocal(address.ip)) return pathKinds.has("lan");
  return pathKinds.has(ipFamily(address.ip) === 6 ? "ipv6" : "direct") || pathKinds.has("punch");
}
