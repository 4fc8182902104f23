/**
 * By which way a punch reaches its peer: what people want to know of it, allow or rule out.
 *
 * @module
 */

import { ipFamily, ipScope, sameTransportAddress, type TransportAddress } from "../net/address.ts";
import type { Candidate, PunchSide } from "./candidates.ts";
import { type DialContext, dialContext } from "./diallable.ts";
import type { DialGroup, PunchPlan, Technique } from "./plan_types.ts";

/** A way to a peer; {@linkcode PUNCH_WAYS} has all of them. */
export type PunchWay = (typeof PUNCH_WAYS)[number];

/** All ways. */
export const PUNCH_WAYS = [
  "host", // on the same machine
  "lan", // private addresses
  "ipv6", // public addresses, which nobody translates
  "direct", // a public address that anybody may dial
  "mapped", // a port that a router forwards on request
  "punch", // through the filters of both sides
] as const;

/** What this side says of itself if it goes by these ways alone. */
export function withWays(side: PunchSide, ways: ReadonlySet<PunchWay>): PunchSide {
  return { ...side, candidates: side.candidates.filter((each) => isOffered(each, ways)) };
}

/** The plan without the targets that other ways lead to. */
export function planWithWays(
  plan: PunchPlan,
  sides: { readonly me: PunchSide; readonly peer: PunchSide },
  ways: ReadonlySet<PunchWay>,
): PunchPlan {
  const isWanted = (target: TransportAddress) =>
    ways.has(wayTo(target, { ...sides, technique: plan.technique }));
  const dials = plan.dials.map((group): DialGroup => ({
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
 * import type { PunchSide } from "./candidates.ts";
 * import { wayTo } from "./way.ts";
 * import { assertEquals } from "@std/assert";
 *
 * const profile: PunchSide["profile"] = {
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
 * assertEquals(wayTo({ ip: "192.168.1.2", port: 4000 }, context), "lan");
 * assertEquals(wayTo({ ip: "192.0.2.1", port: 4000 }, context), "punch");
 * ```
 */
export function wayTo(
  target: TransportAddress,
  { me, peer, technique }: {
    readonly me: PunchSide;
    readonly peer: PunchSide;
    readonly technique: Technique;
  },
): PunchWay {
  const isMapped = peer.candidates.some(({ kind, address }) =>
    kind === "mapped" && sameTransportAddress(address, target)
  );
  if (isMapped) return "mapped";
  if (isOnHost(target.ip, dialContext(me, peer))) return "host";
  if (isLocal(target.ip)) return "lan";
  if (ipFamily(target.ip) === 6) return "ipv6";
  return technique === "direct" ? "direct" : "punch";
}

/** What a record calls a way: that through filters by its technique. */
export function strategyOf(way: PunchWay, technique: Technique): string {
  return way === "punch" ? technique : way;
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
function isOffered({ kind, address }: Candidate, ways: ReadonlySet<PunchWay>): boolean {
  if (kind === "mapped") return ways.has("mapped");
  if (kind === "reflexive") return ways.has("direct") || ways.has("punch");
  if (ways.has("host")) return true;
  if (isLocal(address.ip)) return ways.has("lan");
  return ways.has(ipFamily(address.ip) === 6 ? "ipv6" : "direct") || ways.has("punch");
}
