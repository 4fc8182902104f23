/**
 * Signs of translation beyond the host's own router, such as carrier-grade NAT and NAT64, read from addresses alone.
 *
 * @module
 */

import { ipScope, parseTransportAddress } from "../net/address.ts";
import type { Finding } from "./behavior.ts";

/** The addresses in a report, as text: `192.0.2.1:3478`. */
export interface KnownAddresses {
  readonly local: string | null;
  readonly external: string | null;
}

/** One finding for each sign, without repetitions. */
export function addressFindings(
  addresses: readonly KnownAddresses[],
  nat64Prefixes: readonly string[],
): Finding[] {
  const found = addresses.flatMap(({ local, external }) => [
    ...local === null ? [] : localSigns(local),
    ...external === null ? [] : externalSigns(external),
  ]);
  const nat64 = nat64Prefixes.map((prefix) =>
    sign(
      "nat64",
      `NAT64: ipv4only.arpa resolves to ${prefix}, so this network translates IPv6 to IPv4 (RFC 7050)`,
    )
  );
  const all = [...found, ...nat64];
  return all.filter(({ summary }, index) =>
    all.findIndex((other) => other.summary === summary) === index
  );
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

function localSigns(local: string): Finding[] {
  switch (ipScope(parseTransportAddress(local).ip)) {
    case "shared":
      return [
        sign(
          "carrier-nat",
          `carrier-grade NAT: the local address ${local} is shared address space (RFC 6598)`,
        ),
      ];
    case "translation":
      return [
        sign(
          "ds-lite",
          `DS-Lite or 464XLAT: the local address ${local} is reserved for it (RFC 7335)`,
        ),
      ];
    default:
      return [];
  }
}

function externalSigns(external: string): Finding[] {
  switch (ipScope(parseTransportAddress(external).ip)) {
    case "shared":
      return [
        sign(
          "carrier-nat",
          `carrier-grade NAT: the server sees ${external}, shared address space (RFC 6598), so it is behind the same NAT`,
        ),
      ];
    case "loopback":
      return [
        sign(
          "local-server",
          "the server is on this machine, so the test shows nothing about the network",
        ),
      ];
    case "private":
      return [
        sign(
          "double-nat",
          `the server sees the private address ${
            parseTransportAddress(external).ip
          }, so at least one more NAT is between the server and the internet`,
        ),
      ];
    default:
      return [];
  }
}

function sign(kind: keyof typeof REMEDIES, summary: string): Finding {
  return { kind, summary, remedy: REMEDIES[kind] };
}

const REMEDIES = {
  "carrier-nat":
    "Ask the provider for a public address, use IPv6, or let the other side map a port; a router's port mapping does not help here",
  "ds-lite": "Use IPv6 where both sides have it; port mappings for IPv4 need the provider's help",
  "nat64": "Use peers and servers with IPv6 where you can; IPv4 goes through the translation",
  "local-server": "Name a server on the internet",
  "double-nat": "Name a server on the internet",
} as const;

/** The last 32 bits: 192.0.0.170 and 192.0.0.171, the addresses of ipv4only.arpa. */
const WELL_KNOWN_ENDINGS: readonly RegExp[] = [/::?c000:aa$/, /::?c000:ab$/];
