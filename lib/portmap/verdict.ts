/**
 * The verdict on a mapping: can the internet reach its external address?
 *
 * @module
 */

import { ipFamily, type IpScope, ipScope } from "../net/address.ts";

/** Whether the internet can reach a mapping. */
export type MappingVerdictKind =
  | "public" // the gateway's address is the one that servers see
  | "double-nat" // there is another NAT upstream of the gateway
  | "cgnat" // which is the provider's
  | "unverified"; // nothing speaks against it, but no server confirms it

/** A verdict, with its reason. */
export interface MappingVerdict {
  /** The verdict in one word. */
  readonly kind: MappingVerdictKind;
  /** One plain sentence without a period. */
  readonly evidence: string;
  /** What the user can do about it. */
  readonly remedy?: string;
  /** Where the internet reaches the gateway, if the gateway reports that wrongly. */
  readonly correctedIp?: string;
}

/** What is known about the external address. */
export interface ExternalAddressEvidence {
  /** What the gateway reports; `0.0.0.0` if it reports none. */
  readonly externalIp: string;
  /** The addresses at which STUN servers see this host; empty if none was asked, or none answered. */
  readonly seenIps: readonly string[];
}

/** The verdict on a mapping. */
export function mappingVerdict({ externalIp, seenIps }: ExternalAddressEvidence): MappingVerdict {
  const scope = ipScope(externalIp);
  const seen = seenIps.filter((ip) => ipFamily(ip) === ipFamily(externalIp));
  const [other] = seen;
  const beside = other === undefined || other === externalIp ? "" : `; servers see ${other}`;
  if (CARRIER_SCOPES.includes(scope)) {
    return {
      kind: "cgnat",
      evidence: `the router's external address ${externalIp} is the provider's (${
        RANGES[scope]
      })${beside}`,
      remedy: "Ask the provider for a public address, or use IPv6",
    };
  }
  if (scope === "private" || scope === "link-local") {
    return {
      kind: "double-nat",
      evidence:
        `the router's external address ${externalIp} is private: there is a second NAT upstream${beside}`,
      remedy: "Open the port on the upstream router too, or switch one of the two to bridge mode",
    };
  }
  if (!isPlausibleExternalIp(externalIp)) {
    return {
      kind: "unverified",
      evidence: `the router does not report its external address${beside}`,
      remedy: other === undefined
        ? "Check the router's internet connection: it may have none"
        : "Test the port from outside: only that shows whether it is open",
    };
  }
  if (seen.includes(externalIp)) {
    return { kind: "public", evidence: `servers see ${externalIp}, as the router reports` };
  }
  const reversed = seen.find((ip) => ip === reversedIp(externalIp));
  if (reversed !== undefined) {
    return {
      kind: "public",
      evidence:
        `servers see ${reversed}; the router reports ${externalIp}, which is that in reverse order`,
      correctedIp: reversed,
    };
  }
  if (other !== undefined) {
    return {
      kind: "double-nat",
      evidence: `servers see ${other}, but the router reports ${externalIp}: ` +
        "another NAT or a VPN is in between",
      remedy: "Open the port on the upstream router too, or leave the VPN",
    };
  }
  return {
    kind: "unverified",
    evidence: `the router reports ${externalIp}; no server outside has confirmed it`,
  };
}

/** Some routers report their address in the wrong byte order. */
function reversedIp(ip: string): string {
  return ip.split(".").reverse().join(".");
}

/** Whether an external address makes sense: routers without one report all kinds of things. */
export function isPlausibleExternalIp(ip: string): boolean {
  return !IMPLAUSIBLE_SCOPES.includes(ipScope(ip));
}

const IMPLAUSIBLE_SCOPES: readonly IpScope[] = [
  "unspecified",
  "loopback",
  "link-local",
  "multicast",
];

/** RFC 6598, and the range of DS-Lite and 464XLAT: RFC 6333, RFC 7335. */
const CARRIER_SCOPES: readonly IpScope[] = ["shared", "translation"];

const RANGES: Partial<Record<IpScope, string>> = {
  shared: "100.64.0.0/10, for carrier NATs",
  translation: "192.0.0.0/29, for providers without IPv4",
};
