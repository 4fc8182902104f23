/**
 * What each side tells the other before a punch, and which of the addresses in it may be dialled.
 *
 * @module
 */

import {
  formatIp,
  formatTransportAddress,
  ipFamily,
  type IpScope,
  ipScope,
  ipToBytes,
  isMetadataIp,
  isSystemPort,
  type Nat64Prefix,
  sameTransportAddress,
  type TransportAddress,
  unwrapIp,
  whyNotPublic,
  withoutZone,
  zoneOf,
} from "../net/address.ts";
import type { NatProfile } from "./nat_profile.ts";

/** An address at which a peer may be reached (RFC 8445 §5.1.1). */
export interface Candidate {
  /**
   * `host`: the address of an interface; `mapped`: forwarded by a router on request; `reflexive`: the punch port as a
   * STUN server sees it.
   */
  readonly kind: "host" | "mapped" | "reflexive";
  /** The address to dial. */
  readonly address: TransportAddress;
}

/** All that one side tells about itself. */
export interface PunchDescription {
  /** Its NAT. */
  readonly profile: NatProfile;
  /** The addresses at which it may be reached. */
  readonly candidates: readonly Candidate[];
  /** The local port that it dials from, and listens on if it can. */
  readonly punchPort: number;
  /** Whether it can listen on the punch port while it dials from it. */
  readonly canListenBeside: boolean;
  /** Whether it has a relay opened before many sockets take the NAT's sessions; if both sides do, both wait for it. */
  readonly relaysFirst?: boolean;
  /**
   * Whether it is about to learn what SYNs from outside get, or what `udpFollows` says; another description follows, without
   * this.
   */
  readonly isLearning?: boolean;
  /** Whether servers have not answered over UDP yet, and may still do; a description for UDP follows then. */
  readonly udpFollows?: boolean;
}

/** What this host knows by itself, whatever the peer says. */
export interface DialFacts {
  /** Whether the peer has proved over loopback that it is on this host. */
  readonly isSameHost: boolean;
  /** Addresses of this host, besides those of the interfaces that it offers. */
  readonly ownIps: readonly string[];
  /** The NAT64 prefixes of this host's network. */
  readonly nat64Prefixes: readonly Nat64Prefix[];
}

/** The facts of a host that knows nothing. */
export const NO_FACTS: DialFacts = { isSameHost: false, ownIps: [], nat64Prefixes: [] };

/** What decides whether an address of the peer is an allowed target. */
export interface DialContext extends DialFacts {
  /** Whether STUN servers saw both sides at the same IP address, as far as the peer says: behind the same NAT. */
  readonly sharesExternalIp: boolean;
  /** The IP addresses that STUN servers saw this side at, and those that routers forward ports of. */
  readonly ownExternalIps: readonly string[];
  /** The external addresses that lead back to this side: its mapped ports, and its punch port as STUN servers see it. */
  readonly ownExternal: readonly TransportAddress[];
  /** The port that the peer says it dials from; in private networks no other port is dialled. */
  readonly peerPunchPort: number;
}

/** The context that follows from the descriptions of both sides, and from what this side knows by itself. */
export function dialContext(
  local: PunchDescription,
  remote: PunchDescription,
  facts: DialFacts = NO_FACTS,
): DialContext {
  const { externalIp } = local.profile;
  const ownExternal = local.candidates.filter(({ kind }) => kind !== "host")
    .map(({ address }) => address);
  const externalIps = ownExternal.map(({ ip }) => ip);
  return {
    ...facts,
    ownIps: [...new Set([...hostIps(local), ...facts.ownIps])],
    sharesExternalIp: externalIp !== null && externalIp === remote.profile.externalIp,
    ownExternalIps: externalIp === null ? externalIps : [externalIp, ...externalIps],
    ownExternal,
    peerPunchPort: remote.punchPort,
  };
}

/**
 * Whether the peer says that it is on this host: it names the same interfaces, or some of them and no others, as a program
 * does that may not read them. Servers may have answered one of them alone, which asked before the rate of this host was
 * used up. It still has to prove that.
 */
export function claimsSameHost(local: PunchDescription, remote: PunchDescription): boolean {
  const [ownIps, peerIps] = [hostIps(local), hostIps(remote)];
  const [ownIp, peerIp] = [local.profile.externalIp, remote.profile.externalIp];
  if (ownIp !== null && peerIp !== null && ownIp !== peerIp) return false;
  return ownIps.length > 0 && peerIps.length > 0 &&
    (areAmong(ownIps, peerIps) || areAmong(peerIps, ownIps));
}

/** Every host has loopback addresses, named or not. */
function areAmong(ips: readonly string[], others: readonly string[]): boolean {
  return ips.every((ip) => ipScope(ip) === "loopback" || others.includes(ip));
}

/**
 * Whether a peer may make this host dial an address.
 *
 * @example
 * ```ts
 * import { dialContext, isAllowedTarget, type PunchDescription } from "./candidates.ts";
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
 * const context = dialContext(side, side);
 * assertEquals(isAllowedTarget({ ip: "192.0.2.1", port: 4000 }, context), true);
 * assertEquals(isAllowedTarget({ ip: "192.0.2.1", port: 25 }, context), false);
 * assertEquals(isAllowedTarget({ ip: "169.254.169.254", port: 4000 }, context), false);
 * ```
 */
export function isAllowedTarget(address: TransportAddress, context: DialContext): boolean {
  return whyNotAllowed(address, context) === null;
}

/** Why an address is not an allowed target, in words that follow "Cannot dial ...:"; `null` if it is one. */
export function whyNotAllowed(address: TransportAddress, context: DialContext): string | null {
  const { ip, port } = address;
  if (!(Number.isInteger(port) && port >= 1 && port <= 65535)) return "the port is invalid";
  if (embedsIpv4(ip)) return "it embeds an IPv4 address";
  const unwrapped = unwrapIp(ip, context.nat64Prefixes);
  if (isMetadataIp(unwrapped)) return "it is a cloud metadata address";
  // A user or a ticket may name a system port, but a peer dials from a port that its system chose.
  if (isSystemPort(port)) return "it is a system port";
  return whyNotIp(unwrapped, port, context);
}

function whyNotIp(ip: string, port: number, context: DialContext): string | null {
  // A port that dials itself would even answer.
  if (context.ownIps.some((own) => withoutZone(own) === withoutZone(ip))) {
    return context.isSameHost ? whyNotPort(port, context) : "it is an address of this host";
  }
  const scope = ipScope(ip);
  if (scope === "loopback") {
    return context.isSameHost ? whyNotPort(port, context) : "it is loopback on another host";
  }
  // Through the NAT and back to another host behind it. What the NAT forwards to this host is not dialled.
  if (context.ownExternalIps.includes(ip) && isUnicast(scope)) {
    const leadsBack = context.ownExternal.some((own) => own.ip === ip && own.port === port);
    return leadsBack ? "it leads back to this host" : null;
  }
  switch (scope) {
    case "global":
    case "documentation": // not routed, except in labs
      return ipFamily(ip) === 6 && isOnOwnSubnet(ip, context.ownIps)
        ? whyNotPort(port, context)
        : null;
    case "private":
    case "shared":
      if (!context.sharesExternalIp && !isOnOwnSubnet(ip, context.ownIps)) {
        return "it is private, but on no network of this host";
      }
      if (isBroadcast(ip, context.ownIps)) return "it is a broadcast address";
      return whyNotPort(port, context);
    case "link-local":
      if (!context.ownIps.some((own) => zoneOf(own) !== "" && zoneOf(own) === zoneOf(ip))) {
        return "it is link-local, but on no link of this host";
      }
      return whyNotPort(port, context);
    case "translation":
      return "it is reserved for address translation";
    case "unspecified":
    case "multicast":
    case "reserved":
      return `it is ${scope}`;
  }
}

/** Why a relay that the peer names is not dialled; `null` if it may be: it has to be on the internet. */
export function whyNotRelay(
  { ip, port }: TransportAddress,
  prefixes: readonly Nat64Prefix[] = [],
): string | null {
  if (isSystemPort(port)) return "it is a system port";
  if (embedsIpv4(ip)) return "it embeds an IPv4 address";
  const why = whyNotPublic(ip, prefixes);
  return why === null ? null : `it is ${why}`;
}

/** The addresses of the peer's interfaces that may be dialled, at most `maxTargets` of them. */
export function allowedHosts(
  remote: PunchDescription,
  context: DialContext,
  maxTargets: number,
): TransportAddress[] {
  return allowedTargets(remote, "host", context).slice(0, maxTargets);
}

/** The addresses of the peer's candidates of one kind that may be dialled, without duplicates. */
export function allowedTargets(
  remote: PunchDescription,
  kind: Candidate["kind"],
  context: DialContext,
): TransportAddress[] {
  const addresses = remote.candidates.filter((candidate) => candidate.kind === kind)
    .map(({ address }) => address).filter((address) => isAllowedTarget(address, context));
  return addresses.filter((address, index) =>
    addresses.findIndex((other) => sameTransportAddress(other, address)) === index
  );
}

/** The IP addresses of the interfaces that a side offers, without duplicates. */
export function hostIps({ candidates }: Pick<PunchDescription, "candidates">): string[] {
  const ips = candidates.filter(({ kind }) => kind === "host").map(({ address }) => address.ip);
  return [...new Set(ips)].sort();
}

/** The addresses of a side that a host on the internet may see, without duplicates. */
export function publicIps({ profile, candidates }: PunchDescription): string[] {
  const ips = [profile.externalIp ?? [], ...candidates.map(({ address }) => address.ip)].flat();
  return [...new Set(ips)].filter((ip) => ["global", "documentation"].includes(ipScope(ip)));
}

/** The address that this host dials from, as far as it is known; `null` if it has several, or the system chooses the port. */
export function localAddressTowards(
  ip: string,
  port: number,
  local: Pick<PunchDescription, "candidates">,
): string | null {
  const isLoopback = ipScope(ip) === "loopback";
  const own = isLoopback ? [ip] : hostIps(local).filter((each) => ipFamily(each) === ipFamily(ip));
  return port === 0 || own.length !== 1 ? null : formatTransportAddress({ ip: own[0]!, port });
}

/** A peer listens on the port that it dials from, so it has no reason to name another port nearby. */
function whyNotPort(port: number, context: DialContext): string | null {
  return port === context.peerPunchPort ? null : "it is not the port that the peer dials from";
}

function isUnicast(scope: IpScope): boolean {
  return scope === "global" || scope === "documentation" || scope === "private" ||
    scope === "shared";
}

/** The netmasks of interfaces are not known here, so the usual ones are assumed; they err on the safe side. */
function isOnOwnSubnet(ip: string, ownIps: readonly string[]): boolean {
  return ownIps.some((own) => ipFamily(own) === ipFamily(ip) && prefixOf(own) === prefixOf(ip));
}

function prefixOf(ip: string): string {
  const bytes = ipToBytes(ip);
  return bytes.subarray(0, bytes.length === 4 ? 3 : 8).join();
}

function isBroadcast(ip: string, ownIps: readonly string[]): boolean {
  const bytes = ipToBytes(ip);
  return bytes.length === 4 && isOnOwnSubnet(ip, ownIps) && (bytes[3] === 0 || bytes[3] === 255);
}

/** IPv4-mapped (RFC 4291 §2.5.5.2) and 6to4 (RFC 3056) addresses would bypass the rules for IPv4. */
function embedsIpv4(ip: string): boolean {
  const bytes = ipToBytes(ip);
  if (bytes.length === 4) return false;
  return formatIp(bytes).startsWith("::ffff:") || (bytes[0] === 0x20 && bytes[1] === 0x02);
}
