/**
 * Signs of translation beyond the host's own router, such as carrier-grade NAT and NAT64, read from addresses alone.
 *
 * @module
 */

import { ipScope, parseTransportAddress } from "../net/address.ts";

/** The addresses in a report, as text: `192.0.2.1:3478`. */
export interface KnownAddresses {
  readonly local: string | null;
  readonly external: string | null;
}

/** One sentence for each sign, without repetitions. */
export function addressHints(
  addresses: readonly KnownAddresses[],
  nat64Prefixes: readonly string[],
): string[] {
  const hints = addresses.flatMap(({ local, external }) => [
    ...local === null ? [] : localHints(local),
    ...external === null ? [] : externalHints(external),
  ]);
  const nat64 = nat64Prefixes.map((prefix) =>
    `NAT64: ipv4only.arpa resolves to ${prefix}, so this network translates IPv6 to IPv4 (RFC 7050)`
  );
  return [...new Set([...hints, ...nat64])];
}

/**
 * The NAT64 prefixes in the IPv6 addresses of ipv4only.arpa, a name that has only IPv4 addresses of its own (RFC 7050
 * §3). Recognises only the /96 prefixes of RFC 6052 §2.2; other addresses are returned unchanged.
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
      return [`DS-Lite or 464XLAT: the local address ${local} is reserved for it (RFC 7335)`];
    default:
      return [];
  }
}

function externalHints(external: string): string[] {
  switch (ipScope(parseTransportAddress(external).ip)) {
    case "shared":
      return [
        `carrier-grade NAT: the server sees ${external}, shared address space (RFC 6598), so it is behind the same NAT`,
      ];
    case "loopback":
      return ["the server is on this machine, so the test shows nothing about the network"];
    case "private":
      return [
        `the server sees the private address ${
          parseTransportAddress(external).ip
        }, so at least one more NAT is between the server and the internet`,
      ];
    default:
      return [];
  }
}

/** The last 32 bits: 192.0.0.170 and 192.0.0.171, the addresses of ipv4only.arpa. */
const WELL_KNOWN_ENDINGS: readonly RegExp[] = [/::?c000:aa$/, /::?c000:ab$/];
