/**
 * Signs of what stands between this host and the internet beyond its own router, as far as addresses show it.
 *
 * @module
 */

import { ipScope, parseTransportAddress } from "../net/address.ts";

/** What a report says of addresses: `192.0.2.1:3478`. */
export interface KnownAddresses {
  readonly local: string | null;
  readonly external: string | null;
}

/** One sentence for each sign. */
export function addressHints(
  addresses: readonly KnownAddresses[],
  nat64Prefixes: readonly string[],
): string[] {
  const hints = addresses.flatMap(({ local, external }) => [
    ...local === null ? [] : localHints(local),
    ...external === null ? [] : externalHints(external),
  ]);
  const nat64 = nat64Prefixes.map((prefix) =>
    `NAT64: ipv4only.arpa resolves to ${prefix}, so this network reaches IPv4 by translation (RFC 7050)`
  );
  return [...new Set([...hints, ...nat64])];
}

/**
 * The NAT64 prefixes in the IPv6 addresses of ipv4only.arpa, which has none of its own: RFC 7050 §3. Only
 * the /96 of RFC 6052 §2.2 is told apart; longer ones are shown as the address that was found.
 */
export function nat64Prefixes(ipv6Addresses: readonly string[]): string[] {
  return ipv6Addresses.map((ip) =>
    WELL_KNOWN_ENDINGS.reduce((text, end) => text.replace(end, "::/96"), ip)
  );
}

function localHints(local: string): string[] {
  switch (ipScope(parseTransportAddress(local).ip)) {
    case "shared":
      return [`carrier-grade NAT: the local address ${local} is shared address space (RFC 6598)`];
    case "translation":
      return [`DS-Lite or 464XLAT: the local address ${local} is one of RFC 7335`];
    default:
      return [];
  }
}

function externalHints(external: string): string[] {
  switch (ipScope(parseTransportAddress(external).ip)) {
    case "shared":
      return [
        `carrier-grade NAT: the server sees ${external}, shared address space (RFC 6598), so it is inside`,
      ];
    case "loopback":
      return ["the server is on this machine: this tells nothing of the network"];
    case "private":
      return [
        `the server sees the private address ${external}: it is on this side of at least one more NAT`,
      ];
    default:
      return [];
  }
}

/** 192.0.0.170 and 192.0.0.171 in the last 32 bits. */
const WELL_KNOWN_ENDINGS: readonly RegExp[] = [/::?c000:aa$/, /::?c000:ab$/];
