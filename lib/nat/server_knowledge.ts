/**
 * What a test knows of a STUN server, and why it may not count.
 *
 * @module
 */

import {
  formatTransportAddress,
  ipFamily,
  ipScope,
  sameTransportAddress,
  type TransportAddress,
} from "../net/address.ts";
import { bindingReply, type Probe } from "./probe.ts";

/** A server as its answers show it. */
export interface ServerKnowledge {
  readonly primary: TransportAddress;
  readonly answered: boolean;
  /** OTHER-ADDRESS (A2:P2), if it is fit for the tests of RFC 5780. */
  readonly alternate?: TransportAddress;
  readonly isRfc3489: boolean;
  /** Why there is no alternate, though the server answered. */
  readonly fault?: string;
}

/** Reads a server from the answers that it gave from its primary address. */
export function learnServer(
  primary: TransportAddress,
  probes: readonly Probe[],
): ServerKnowledge {
  const replies = probes.flatMap((probe) =>
    sameTransportAddress(probe.to, primary) ? bindingReply(probe) ?? [] : []
  );
  const known = {
    primary,
    answered: replies.length > 0,
    isRfc3489: replies.some(({ isRfc3489 }) => isRfc3489),
  };
  const alternate = replies.find(({ other }) => other !== undefined)?.other;
  if (!known.answered) return known;
  const name = formatTransportAddress(primary);
  if (isFickle(primary, probes)) {
    return { ...known, fault: `${name} sees one local port at two places, or two at one` };
  }
  if (alternate === undefined) {
    return { ...known, fault: `${name} names no alternate address: it does not serve RFC 5780` };
  }
  const other = formatTransportAddress(alternate);
  if (replies.some((reply) => reply.other && !sameTransportAddress(reply.other, alternate))) {
    return { ...known, fault: `${name} names now ${other}, now another alternate address` };
  }
  if (alternate.ip === primary.ip || alternate.port === primary.port) {
    return { ...known, fault: `${name} names ${other} as alternate: not another address and port` };
  }
  // A server must not make us send to places that are not its own kind, such as a device on our LAN.
  if (
    alternate.port === 0 || ipFamily(alternate.ip) !== ipFamily(primary.ip) ||
    ipScope(alternate.ip) !== ipScope(primary.ip)
  ) {
    return { ...known, fault: `${name} names ${other} as alternate: not an address of its kind` };
  }
  return { ...known, alternate };
}

/**
 * Whether a server makes up what it sees: different external addresses of one local port, or the same of two, though
 * all requests went to one address, where that cannot be. A NAT that forgets mappings within a second looks alike;
 * nothing can be told from either.
 */
export function isFickle(to: TransportAddress, probes: readonly Probe[]): boolean {
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

/** The three other transport addresses of a server with two IP addresses and two ports; none without. */
export function alternatesOf({ primary, alternate }: ServerKnowledge): TransportAddress[] {
  if (alternate === undefined) return [];
  return [
    alternate,
    { ip: alternate.ip, port: primary.port },
    { ip: primary.ip, port: alternate.port },
  ];
}
