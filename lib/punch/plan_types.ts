/**
 * A plan to punch, as data: what one side does, and what may be expected of it. Both sides compute plans that
 * match, each from the same two descriptions.
 *
 * @module
 */

import { PATH_KINDS, type PathKind, type PunchMethodName } from "../base/path_kind.ts";
import { ipFamily, ipScope, sameTransportAddress, type TransportAddress } from "../net/address.ts";
import {
  type Candidate,
  type DialContext,
  dialContext,
  type PunchDescription,
} from "./candidates.ts";

/** How two sides plan to connect: by a method of hole punching, without one, or not at all. */
export type PunchMethod =
  | PunchMethodName
  | "direct" // one side is reachable; the other dials it
  | "impossible";

/** The kinds of path that a punch finds: all but relays. */
export type DirectPathKind = Exclude<PathKind, "relay">;

/** Every kind of path that a punch finds. */
export const DIRECT_PATH_KINDS: readonly DirectPathKind[] = PATH_KINDS.filter((kind) =>
  kind !== "relay"
);

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

/** What this side says of itself if it goes by these ways alone. */
export function withPathKinds(
  side: PunchDescription,
  pathKinds: ReadonlySet<DirectPathKind>,
): PunchDescription {
  return { ...side, candidates: side.candidates.filter((each) => isOffered(each, pathKinds)) };
}

/** The plan without the targets that other ways lead to. */
export function planWithPathKinds(
  plan: PunchPlan,
  sides: { readonly me: PunchDescription; readonly peer: PunchDescription },
  pathKinds: ReadonlySet<DirectPathKind>,
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
 * const context = { me: side, peer: side, method: "simultaneous-open" } as const;
 * assertEquals(pathKindOf({ ip: "192.168.1.2", port: 4000 }, context), "lan");
 * assertEquals(pathKindOf({ ip: "192.0.2.1", port: 4000 }, context), "punch-tcp");
 * ```
 */
export function pathKindOf(
  target: TransportAddress,
  { me, peer, method }: {
    readonly me: PunchDescription;
    readonly peer: PunchDescription;
    readonly method: PunchMethod;
  },
): DirectPathKind {
  const isMapped = peer.candidates.some(({ kind, address }) =>
    kind === "mapped" && sameTransportAddress(address, target)
  );
  if (isMapped) return "mapped";
  if (isOnHost(target.ip, dialContext(me, peer))) return "host";
  if (isLocal(target.ip)) return "lan";
  if (ipFamily(target.ip) === 6) return "ipv6";
  return method === "direct" ? "direct" : "punch-tcp";
}

/** The method that a path of this kind came about by; `null` if no filter had to be punched. */
export function methodOf(kind: PathKind, method: PunchMethod): PunchMethodName | null {
  return kind === "punch-tcp" && method !== "direct" && method !== "impossible" ? method : null;
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
function isOffered({ kind, address }: Candidate, pathKinds: ReadonlySet<DirectPathKind>): boolean {
  if (kind === "mapped") return pathKinds.has("mapped");
  if (kind === "reflexive") return pathKinds.has("direct") || pathKinds.has("punch-tcp");
  if (pathKinds.has("host")) return true;
  if (isLocal(address.ip)) return pathKinds.has("lan");
  return pathKinds.has(ipFamily(address.ip) === 6 ? "ipv6" : "direct") ||
    pathKinds.has("punch-tcp");
}
