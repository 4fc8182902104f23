/**
 * What two peers tell each other before they punch: their addresses and what their NATs do with TCP.
 *
 * @module
 */

import type { Behavior, PortAllocation, UnsolicitedSyn } from "../nat/behavior.ts";
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
  readonly allocation: PortAllocation;
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
export interface PunchDescription {
  /** Its NAT. */
  readonly profile: NatProfile;
  /** Where it may be met. */
  readonly candidates: readonly Candidate[];
  /** The local port that the side dials from, and listens on where it can. */
  readonly punchPort: number;
  /** Whether it can listen on the punch port while it dials from it. */
  readonly canListenBeside: boolean;
}

/** What decides whether an address of the peer may be dialled. */
export interface DialContext {
  /** The addresses of our own interfaces, canonical. */
  readonly ownIps: readonly string[];
  /** Whether both sides have the same external IP address: then they are behind the same NAT, or on one host. */
  readonly sharesExternalIp: boolean;
  /** Whether the peer names the very same interfaces besides: then it is on this host. */
  readonly isSameHost: boolean;
  /** The port that the peer says it listens on and dials from; its interfaces are dialled at no other. */
  readonly peerPunchPort: number;
  /** Where the peer's NAT gives it other ports. */
  readonly peerExternalIp: string | null;
}

/** What both descriptions show. */
export function dialContext(me: PunchDescription, peer: PunchDescription): DialContext {
  const [ownIps, peerIps] = [hostIps(me), hostIps(peer)];
  const sharesExternalIp = me.profile.externalIp === peer.profile.externalIp;
  return {
    ownIps,
    sharesExternalIp: sharesExternalIp && me.profile.externalIp !== null,
    isSameHost: sharesExternalIp && ownIps.length > 0 && ownIps.join() === peerIps.join(),
    peerPunchPort: peer.punchPort,
    peerExternalIp: peer.profile.externalIp,
  };
}

/**
 * Whether a peer may make us dial this address.
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

/** Why the address is not dialled, in words that follow "Cannot dial ...:"; `null` if it may be. */
export function whyNotAllowed(address: TransportAddress, context: DialContext): string | null {
  const { ip, port } = address;
  if (!(Number.isInteger(port) && port >= 1 && port <= 65535)) return "there is no such port";
  if (METADATA_IPS.includes(withoutZone(ip))) return "it is a metadata server's address";
  if (embedsIpv4(ip)) return "it stands for another address";
  // Not our own addresses: a port of ours that is dialled from itself would even answer.
  if (context.ownIps.includes(ip) && !context.isSameHost) return "it is an address of this host";
  const scope = ipScope(ip);
  switch (scope) {
    case "global":
    case "documentation": // routed nowhere, except in laboratories
      return null;
    case "private":
    case "shared":
      if (context.isSameHost) return whyNotPort(address, context);
      if (!context.sharesExternalIp && !isOnOwnSubnet(ip, context.ownIps)) {
        return "it is private, and on no network of this host";
      }
      if (isBroadcast(ip, context.ownIps)) return "it is a broadcast address";
      return whyNotPort(address, context);
    case "link-local":
      if (!context.ownIps.some((own) => zoneOf(own) !== "" && zoneOf(own) === zoneOf(ip))) {
        return "it is link-local, and not in a zone of this host";
      }
      return whyNotPort(address, context);
    case "loopback":
      return context.isSameHost ? whyNotPort(address, context) : "it is loopback, of another host";
    case "unspecified":
    case "multicast":
    case "reserved":
    case "translation":
      return `it is ${scope === "translation" ? "for translation" : scope}`;
  }
}

/** The peer's addresses of interfaces that may be dialled, at most so many. */
export function allowedHosts(
  me: PunchDescription,
  peer: PunchDescription,
  maxTargets: number,
): TransportAddress[] {
  const context = dialContext(me, peer);
  return allowedTargets(peer, "host", context).slice(0, maxTargets);
}

/** The peer's candidates of one kind that may be dialled, each once. */
export function allowedTargets(
  peer: PunchDescription,
  kind: PunchDescription["candidates"][number]["kind"],
  context: DialContext,
): TransportAddress[] {
  const addresses = peer.candidates.filter((candidate) => candidate.kind === kind)
    .map(({ address }) => address).filter((address) => isAllowedTarget(address, context));
  return addresses.filter((address, index) =>
    addresses.findIndex((other) => sameTransportAddress(other, address)) === index
  );
}

/** A peer dials from a port of its own choice, so it has no reason to name a system port, or any but that one. */
function whyNotPort({ ip, port }: TransportAddress, context: DialContext): string | null {
  if (port < FIRST_USER_PORT) return "it is a system port on a private network";
  if (context.sharesExternalIp && ip === context.peerExternalIp) return null;
  return port === context.peerPunchPort ? null : "it is not the port that the peer dials from";
}

function hostIps({ candidates }: PunchDescription): string[] {
  const ips = candidates.filter(({ kind }) => kind === "host").map(({ address }) => address.ip);
  return [...new Set(ips)].sort();
}

/** Masks are not known where interfaces are: the usual ones are taken, which err on the safe side. */
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

/** IPv4-mapped (RFC 4291 §2.5.5.2) and 6to4 (RFC 3056) addresses lead to IPv4 past the rules for it. */
function embedsIpv4(ip: string): boolean {
  const bytes = ipToBytes(ip);
  if (bytes.length === 4) return false;
  return formatIp(bytes).startsWith("::ffff:") || (bytes[0] === 0x20 && bytes[1] === 0x02);
}

/** RFC 6335 §6: the ports below are the system's. */
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
