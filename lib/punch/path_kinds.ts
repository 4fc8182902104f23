/**
 * Which kind of path an address belongs to, descriptions and plans that are restricted to some kinds, and how an
 * application names them.
 *
 * @module
 */

import { PATH_KINDS, type PathKind, type PunchMethodName } from "../base/path_kind.ts";
import { ipFamily, ipScope, sameTransportAddress, type TransportAddress } from "../net/address.ts";
import {
  type Candidate,
  type DialContext,
  dialContext,
  type DialFacts,
  type PunchDescription,
} from "./candidates.ts";
import { letsAnyoneIn } from "./nat_profile.ts";
import type { CheckListEntry, PunchMethod, PunchPlan } from "./plan_types.ts";

/** A kind of path that a punch can find: any but `"relay"`. */
export type DirectPathKind = Exclude<PathKind, "relay">;

/** Every kind of path that a punch can find. */
export const DIRECT_PATH_KINDS: readonly DirectPathKind[] = PATH_KINDS.filter((kind) =>
  kind !== "relay"
);

/** What `strategies` takes: a kind of path, or `"punch"` for hole punching over every transport. */
export type Strategy = PathKind | "punch";

/** Everything that `strategies` takes. */
export const STRATEGIES: readonly Strategy[] = [...PATH_KINDS, "punch"];

/** The kinds of path that strategies stand for. */
export function pathKindsOf(strategies: readonly Strategy[]): ReadonlySet<PathKind> {
  return new Set(
    strategies.flatMap((each) => each === "punch" ? ["punch-tcp", "punch-udp"] as const : [each]),
  );
}

/**
 * Reads the name of a strategy.
 *
 * @throws {TypeError} if there is no strategy of that name
 */
export function parseStrategy(name: string): Strategy {
  const found = STRATEGIES.find((strategy) => strategy === name);
  if (found !== undefined) return found;
  throw new TypeError(
    `Cannot connect by ${JSON.stringify(name)}: strategies are ${STRATEGIES.join(", ")}`,
  );
}

/** The kinds of path that a punch by UDP looks for, named as those of a punch by TCP: this file knows one punch only. */
export function asTcpKinds(pathKinds: ReadonlySet<DirectPathKind>): ReadonlySet<DirectPathKind> {
  const shared = [...pathKinds].filter((kind) => kind !== "punch-tcp" && kind !== "punch-udp");
  return new Set(pathKinds.has("punch-udp") ? [...shared, "punch-tcp"] : shared);
}

/** The name of a kind of path over UDP. */
export function asUdpKind(kind: DirectPathKind): DirectPathKind {
  return kind === "punch-tcp" ? "punch-udp" : kind;
}

/** Both descriptions and the method that was planned from them. */
export interface PathContext {
  /** This side. */
  readonly local: PunchDescription;
  /** The peer. */
  readonly remote: PunchDescription;
  /** How the two sides connect. */
  readonly method: PunchMethod;
  /** What this side knows by itself. Default: nothing. */
  readonly facts?: DialFacts;
}

/**
 * The kind of path to an address of the peer.
 *
 * @example
 * ```ts
 * import type { PunchDescription } from "./candidates.ts";
 * import { pathKindOf } from "./path_kinds.ts";
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
 * const context = { local: side, remote: side, method: "simultaneous-open" } as const;
 * assertEquals(pathKindOf({ ip: "192.168.1.2", port: 4000 }, context), "lan");
 * assertEquals(pathKindOf({ ip: "192.0.2.1", port: 4000 }, context), "punch-tcp");
 * ```
 */
export function pathKindOf(
  target: TransportAddress,
  { local, remote, method, facts }: PathContext,
): DirectPathKind {
  const isMapped = remote.candidates.some(({ kind, address }) =>
    kind === "mapped" && sameTransportAddress(address, target)
  );
  if (isMapped) return "mapped";
  if (isOnHost(target.ip, dialContext(local, remote, facts))) return "host";
  if (isLocal(target.ip)) return "lan";
  if (ipFamily(target.ip) === 6) return "ipv6";
  return method === "direct" ? "direct" : "punch-tcp";
}

/** The kind of path that a connection from the peer came by: the peer may have dialled the port that a router forwards. */
export function acceptedKindOf(source: TransportAddress, context: PathContext): DirectPathKind {
  const kind = pathKindOf(source, context);
  const { profile, candidates } = context.local;
  const isMapped = candidates.some((candidate) => candidate.kind === "mapped");
  return kind === "direct" && isMapped && !letsAnyoneIn(profile) ? "mapped" : kind;
}

/** The method that a path of a kind came about by; `null` if no filter had to be punched. */
export function methodOf(kind: PathKind, method: PunchMethod): PunchMethodName | null {
  const isPunch = kind === "punch-tcp" || kind === "punch-udp";
  return isPunch && method !== "direct" && method !== "impossible" ? method : null;
}

/** The description without the candidates that serve only other kinds of path. */
export function withPathKinds(
  description: PunchDescription,
  pathKinds: ReadonlySet<DirectPathKind>,
): PunchDescription {
  const candidates = description.candidates.filter((each) => isOffered(each, pathKinds));
  return { ...description, candidates };
}

/** The plan without the targets that belong to other kinds of path. */
export function planWithPathKinds(
  plan: PunchPlan,
  context: PathContext,
  pathKinds: ReadonlySet<DirectPathKind>,
): PunchPlan {
  const dials = plan.dials.map((entry): CheckListEntry => ({
    ...entry,
    targets: entry.targets.filter((target) => pathKinds.has(pathKindOf(target, context))),
  }));
  return { ...plan, dials: dials.filter(({ targets }) => targets.length > 0) };
}

function isOnHost(ip: string, { isSameHost, ownIps }: DialContext): boolean {
  return ipScope(ip) === "loopback" || isSameHost && ownIps.includes(ip);
}

/** Includes carriers' shared addresses: a peer that can be dialled at one is behind the same NAT. */
function isLocal(ip: string): boolean {
  const scope = ipScope(ip);
  return scope === "private" || scope === "link-local" || scope === "shared";
}

/** One address may serve several kinds of path; which one it is depends on the peer's addresses. */
function isOffered(
  { kind, address }: Candidate,
  pathKinds: ReadonlySet<DirectPathKind>,
): boolean {
  if (kind === "mapped") return pathKinds.has("mapped");
  if (kind === "reflexive") return pathKinds.has("direct") || pathKinds.has("punch-tcp");
  if (pathKinds.has("host")) return true;
  if (isLocal(address.ip)) return pathKinds.has("lan");
  const kindOfPublic = ipFamily(address.ip) === 6 ? "ipv6" : "direct";
  return pathKinds.has(kindOfPublic) || pathKinds.has("punch-tcp");
}
