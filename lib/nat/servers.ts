/**
 * STUN servers: what a server's answers show about it, and the public servers that a NAT test uses by default.
 *
 * @module
 */

import {
  formatTransportAddress,
  ipFamily,
  type IpScope,
  ipScope,
  isIp,
  isSystemPort,
  type Nat64Prefix,
  parseHostPort,
  parseIp,
  sameTransportAddress,
  synthesizeIp,
  type TransportAddress,
  unwrapIp,
} from "../net/address.ts";
import { bindingReply, type Probe } from "./probe.ts";

/** What a server's answers show about it. */
export interface ServerAssessment {
  readonly primary: TransportAddress;
  readonly answered: boolean;
  /** OTHER-ADDRESS (A2:P2), if it can be used for the tests of RFC 5780. */
  readonly alternate?: TransportAddress;
  readonly isRfc3489: boolean;
  /** Why there is no alternate address although the server answered. */
  readonly fault?: string;
}

/** Assesses a server by the answers from its primary address. */
export function assessServer(
  primary: TransportAddress,
  probes: readonly Probe[],
): ServerAssessment {
  const replies = probes.flatMap((probe) =>
    sameTransportAddress(probe.to, primary) ? bindingReply(probe) ?? [] : []
  );
  const server = {
    primary,
    answered: replies.length > 0,
    isRfc3489: replies.some(({ isRfc3489 }) => isRfc3489),
  };
  const told = replies.find(({ other }) => other !== undefined)?.other;
  if (!server.answered) return server;
  const name = formatTransportAddress(primary);
  const withFault = (problem: string) => ({ ...server, fault: `${name} ${problem}` });
  if (isInconsistent(primary, probes)) {
    return withFault(
      "reports two external addresses for one local port, or one for two local ports",
    );
  }
  if (told === undefined) {
    return withFault("reports no alternate address: it does not support RFC 5780");
  }
  const other = formatTransportAddress(told);
  if (replies.some((reply) => reply.other && !sameTransportAddress(reply.other, told))) {
    return withFault(`reports different alternate addresses, ${other} among them`);
  }
  const alternate = asReached(told, primary);
  if (alternate.ip === primary.ip || alternate.port === primary.port) {
    return withFault(`reports the alternate address ${other}: it must differ in address and port`);
  }
  // A server must not make this host send to other kinds of places, such as a device on its own LAN.
  if (
    alternate.port === 0 || ipFamily(alternate.ip) !== ipFamily(primary.ip) ||
    scopeOf(alternate, told) !== scopeOf(primary, told)
  ) {
    return withFault(`reports the alternate address ${other}: not the same kind of address`);
  }
  // A server at a system port may have its other port there too.
  if (isSystemPort(alternate.port) && !isSystemPort(primary.port)) {
    return withFault(`reports the alternate address ${other}: a port of another service`);
  }
  return { ...server, alternate };
}

/**
 * The alternate address of a server as this host reaches it: a server behind a NAT64 names its IPv4 address, which has the
 * prefix of the primary one there (RFC 6052 §2.2). Prefixes of other lengths than 96 bits are rare, and not known here.
 */
function asReached(told: TransportAddress, primary: TransportAddress): TransportAddress {
  if (ipFamily(told.ip) === ipFamily(primary.ip) || ipFamily(told.ip) === 6) return told;
  return { ip: synthesizeIp(told.ip, prefixOf(primary)), port: told.port };
}

/** What kind of address it is; behind a NAT64, what kind of IPv4 address. */
function scopeOf({ ip }: TransportAddress, told: TransportAddress): IpScope {
  const isTranslated = ipFamily(ip) === 6 && ipFamily(told.ip) === 4;
  return ipScope(isTranslated ? unwrapIp(ip, [prefixOf({ ip })]) : ip);
}

function prefixOf({ ip }: Pick<TransportAddress, "ip">): Nat64Prefix {
  return { ip, bits: 96 };
}

/**
 * Whether a server's answers contradict each other: different external addresses for one local port, or the same one
 * for two local ports, although all requests went to one address. A NAT that drops mappings within a second looks the
 * same. Such answers prove nothing in either case.
 */
export function isInconsistent(to: TransportAddress, probes: readonly Probe[]): boolean {
  const mappedOf = new Map<string, string>();
  const socketOf = new Map<string, string>();
  for (const { socket, reply, to: asked } of probes) {
    if (reply?.kind !== "success" || !sameTransportAddress(asked, to)) continue;
    const mapped = formatTransportAddress(reply.mapped);
    if ((mappedOf.get(socket) ?? mapped) !== mapped) return true;
    if ((socketOf.get(mapped) ?? socket) !== socket) return true;
    mappedOf.set(socket, mapped);
    socketOf.set(mapped, socket);
  }
  return false;
}

/** The other three transport addresses of a server that has two IP addresses and two ports; otherwise empty. */
export function alternatesOf({ primary, alternate }: ServerAssessment): TransportAddress[] {
  if (alternate === undefined) return [];
  return [
    alternate,
    { ip: alternate.ip, port: primary.port },
    { ip: primary.ip, port: alternate.port },
  ];
}

/**
 * Reads a server that is asked over UDP or TCP without encryption: `HOST[:PORT]`, or a URI of RFC 7064 as ICE configurations
 * write it, `stun:HOST[:PORT]`. The default port is 3478.
 *
 * @throws {TypeError} if it is neither, or asks for TLS
 */
export function parseServer(text: string): { host: string; port: number } {
  if (/^stuns:/i.test(text)) {
    throw new TypeError(
      `Cannot use STUN server ${JSON.stringify(text)}: TLS is not used here; write stun:`,
    );
  }
  return parseHostPort(
    text.replace(/^stun:([^?]*)(?:\?transport=(?:udp|tcp))?$/i, "$1"),
    STUN_PORT,
  );
}

/** As {@linkcode parseServer}, as `HOST:PORT`. */
export function plainServer(text: string): string {
  const { host, port } = parseServer(text);
  return isIp(host) ? formatTransportAddress({ ip: parseIp(host), port }) : `${host}:${port}`;
}

/**
 * Chooses public servers for one test: two that support RFC 5780, so that filtering can be tested, and one by another
 * operator that is likely to be up. Other people run them, so each test asks only a few, with a few dozen packets.
 *
 * @param random as `Math.random`
 */
export function chooseServers(random: () => number): string[] {
  return [...sample(TWO_ADDRESS_SERVERS, 2, random), ...sample(ONE_ADDRESS_SERVERS, 1, random)];
}

function sample<T>(items: readonly T[], count: number, random: () => number): T[] {
  const left = [...items];
  return Array.from(
    { length: count },
    () => left.splice(Math.floor(random() * left.length), 1)[0]!,
  );
}

/**
 * Public servers with two addresses (RFC 5780) over UDP and TCP, from the published lists of August 2026. A test finds
 * out at run time what each server really does.
 */
export const TWO_ADDRESS_SERVERS: readonly string[] = [
  "stun.fitauto.ru:3478",
  "stun.m-online.net:3478",
  "stun.mixvoip.com:3478",
  "stun.sip.us:3478",
  "stun.siptrunk.com:3478",
  "stun.voipia.net:3478",
  "stun.dus.net:3478",
  "stun.voipgate.com:3478",
  "stun.pure-ip.com:3478",
  "stun.nextcloud.com:3478",
  "stun.radiojar.com:3478",
  "stun.axialys.net:3478",
  "stun.vomessen.de:3478",
];

/** Public servers of large operators, with one address: combined with another server they show the mapping, little else. */
export const ONE_ADDRESS_SERVERS: readonly string[] = [
  "stun.l.google.com:19302",
  "stun.cloudflare.com:3478",
];

/** RFC 8489 §18.5. */
const STUN_PORT = 3478;
