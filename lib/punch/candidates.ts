/**
 * What each side tells the other before a punch, and which of the addresses in it may be dialled.
 *
 * @module
 */

import {
  formatIp,
  ipFamily,
  ipScope,
  ipToBytes,
  sameTransportAddress,
  type TransportAddress,
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
}

/** What decides whether an address of the peer is an allowed target. */
export interface DialContext {
  /** The addresses of this host's interfaces, canonical, with the zones of link-local ones. */
  readonly ownIps: readonly string[];
  /** Whether both sides have the same external IP address: they are behind the same NAT, or on one host. */
  readonly sharesExternalIp: boolean;
  /** Whether the peer also names the very same interfaces: it is on this host. */
  readonly isSameHost: boolean;
  /** The port that the peer says it dials from; its interfaces are dialled at no other port. */
  readonly peerPunchPort: number;
  /** The external IP address of the peer, where its NAT may give it other ports. */
  readonly peerExternalIp: string | null;
}

/** The context that follows from the descriptions of both sides. */
export function dialContext(local: PunchDescription, remote: PunchDescription): DialContext {
  const [ownIps, peerIps] = [hostIps(local), hostIps(remote)];
  const sharesExternalIp = local.profile.externalIp === remote.profile.externalIp;
  return {
    ownIps,
    sharesExternalIp: sharesExternalIp && local.profile.externalIp !== null,
    isSameHost: sharesExternalIp && ownIps.length > 0 && ownIps.join() === peerIps.join(),
    peerPunchPort: remote.punchPort,
    peerExternalIp: remote.profile.externalIp,
  };
}

/**
 * Whether a peer may make this host dial an address.
 *
 * @example
 * ```ts
 * import { isAllowedTarget } from "./candidates.ts";
 * import { assertEquals } from "@std/assert";
 *
 * const context = { ownIps: [], sharesExternalIp: false, isSameHost: false, peerPunchPort: 4000, peerExternalIp: null };
 * assertEquals(isAllowedTarget({ ip: "192.0.2.1", port: 80 }, context), true);
 * assertEquals(isAllowedTarget({ ip: "169.254.169.254", port: 80 }, context), false);
 * ```
 */
export function isAllowedTarget(address: TransportAddress, context: DialContext): boolean {
  return whyNotAllowed(address, context) === null;
}

/** Whether a peer of which nothing is known may make this host dial an address: only addresses on the internet. */
export function isAllowedOnInternet(address: TransportAddress): boolean {
  return isAllowedTarget(address, NOTHING_KNOWN);
}

/** Why an address is not an allowed target, in words that follow "Cannot dial ...:"; `null` if it is one. */
export function whyNotAllowed(address: TransportAddress, context: DialContext): string | null {
  const { ip, port } = address;
  if (!(Number.isInteger(port) && port >= 1 && port <= 65535)) return "the port is invalid";
  if (METADATA_IPS.includes(withoutZone(ip))) return "it is a cloud metadata address";
  if (embedsIpv4(ip)) return "it embeds an IPv4 address";
  // This host's own addresses are out: a port that dials itself would even answer.
  if (context.ownIps.includes(ip) && !context.isSameHost) return "it is an address of this host";
  const scope = ipScope(ip);
  switch (scope) {
    case "global":
    case "documentation": // not routed, except in labs
      return null;
    case "private":
    case "shared":
      if (context.isSameHost) return whyNotPort(address, context);
      if (!context.sharesExternalIp && !isOnOwnSubnet(ip, context.ownIps)) {
        return "it is private, but on no network of this host";
      }
      if (isBroadcast(ip, context.ownIps)) return "it is a broadcast address";
      return whyNotPort(address, context);
    case "link-local":
      if (!context.ownIps.some((own) => zoneOf(own) !== "" && zoneOf(own) === zoneOf(ip))) {
        return "it is link-local, but on no link of this host";
      }
      return whyNotPort(address, context);
    case "loopback":
      return context.isSameHost ? whyNotPort(address, context) : "it is loopback on another host";
    case "translation":
      return "it is reserved for address translation";
    case "unspecified":
    case "multicast":
    case "reserved":
      return `it is ${scope}`;
  }
}

/** The addresses of the peer's interfaces that may be dialled, at most `maxTargets` of them. */
export function allowedHosts(
  local: PunchDescription,
  remote: PunchDescription,
  maxTargets: number,
): TransportAddress[] {
  return allowedTargets(remote, "host", dialContext(local, remote)).slice(0, maxTargets);
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

/** A peer dials from a port that it chose itself, so it has no reason to name a system port or any other port. */
function whyNotPort({ ip, port }: TransportAddress, context: DialContext): string | null {
  if (port < FIRST_USER_PORT) return "it is a system port on a private network";
  if (context.sharesExternalIp && ip === context.peerExternalIp) return null;
  return port === context.peerPunchPort ? null : "it is not the port that the peer dials from";
}

function hostIps({ candidates }: PunchDescription): string[] {
  const ips = candidates.filter(({ kind }) => kind === "host").map(({ address }) => address.ip);
  return [...new Set(ips)].sort();
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

/** The context of {@linkcode isAllowedOnInternet}. */
const NOTHING_KNOWN: DialContext = {
  ownIps: [],
  sharesExternalIp: false,
  isSameHost: false,
  peerPunchPort: 0,
  peerExternalIp: null,
};

/** RFC 6335 §6: system ports end below. */
const FIRST_USER_PORT = 1024;

/** Where clouds hand out credentials: AWS, GCP, Azure, Alibaba and Oracle. */
const METADATA_IPS: readonly string[] = [
  "169.254.169.254",
  "169.254.170.2",
  "fd00:ec2::254",
  "fd20:ce::254",
  "100.100.100.200",
  "168.63.129.16",
  "192.0.0.192",
];
