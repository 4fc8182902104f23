/**
 * What a mapping is worth: whether the address outside is one that the internet reaches.
 *
 * @module
 */

import { ipFamily, type IpScope, ipScope } from "../net/address.ts";

/** What a mapping is worth. */
export type MappingVerdictKind =
  | "public" // the gateway's address is the one that servers see
  | "double-nat" // another NAT sits above the gateway
  | "cgnat" // and it is the provider's
  | "unverified"; // nothing speaks against it, and nobody outside confirms it

/** A verdict, and why. */
export interface MappingVerdict {
  /** In one word. */
  readonly kind: MappingVerdictKind;
  /** One plain sentence without a period. */
  readonly evidence: string;
  /** What a person can do about it. */
  readonly remedy?: string;
}

/** What is known of the address outside. */
export interface OutsideObservation {
  /** What the gateway says; `0.0.0.0` if it does not. */
  readonly externalIp: string;
  /** At which addresses servers see this host; empty if none was asked, or none answered. */
  readonly seenIps: readonly string[];
}

/** The verdict on a mapping. */
export function mappingVerdict({ externalIp, seenIps }: OutsideObservation): MappingVerdict {
  const scope = ipScope(externalIp);
  const seen = seenIps.filter((ip) => ipFamily(ip) === ipFamily(externalIp));
  const [other] = seen;
  if (CARRIER_SCOPES.includes(scope)) {
    return {
      kind: "cgnat",
      evidence: `the router's own address ${externalIp} is the provider's (${RANGES[scope]})`,
      remedy: "Ask the provider for a public address, or use IPv6",
    };
  }
  if (scope === "private" || scope === "link-local") {
    return {
      kind: "double-nat",
      evidence: `the router's own address ${externalIp} is private: a second NAT sits above it`,
      remedy: "Open the port on the outer router too, or make one of the two a bridge",
    };
  }
  if (!isPlausibleExternalIp(externalIp)) {
    return {
      kind: "unverified",
      evidence: other === undefined
        ? "the router does not tell its address outside"
        : `the router does not tell its address outside; servers see ${other}`,
    };
  }
  if (seen.includes(externalIp)) {
    return { kind: "public", evidence: `servers see ${externalIp}, as the router says` };
  }
  if (other !== undefined) {
    return {
      kind: "double-nat",
      evidence: `servers see ${other}, and the router says ${externalIp}: ` +
        "another NAT, or a VPN, is in between",
      remedy: "Open the port on the outer router too, or leave the VPN",
    };
  }
  return {
    kind: "unverified",
    evidence: `the router says ${externalIp}; nobody outside was asked, or answered`,
  };
}

/** Whether an address can be one outside: routers that have none say all kinds of things. */
export function isPlausibleExternalIp(ip: string): boolean {
  return !NONSENSE.includes(ipScope(ip));
}

const NONSENSE: readonly IpScope[] = ["unspecified", "loopback", "link-local", "multicast"];

/** RFC 6598, and what DS-Lite and 464XLAT use: RFC 6333, RFC 7335. */
const CARRIER_SCOPES: readonly IpScope[] = ["shared", "translation"];

const RANGES: Partial<Record<IpScope, string>> = {
  shared: "100.64.0.0/10, for carriers' NATs",
  translation: "192.0.0.0/29, for providers without IPv4",
};
