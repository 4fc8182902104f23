/**
 * NAT behavior in the terms of RFC 4787 (UDP) and RFC 5382 (TCP), and the report of a NAT test.
 *
 * @module
 */

import type { UnsolicitedSyn } from "../stun/tcp_filter/message.ts";

/**
 * What a NAT's mapping or filtering depends on (RFC 4787 §4.1 and §5). `"none"` means that there is no NAT, or no
 * filter. `"unknown"` means that the test could not decide, which is not the same as "no".
 */
export type Behavior =
  | "endpoint-independent"
  | "address-dependent"
  | "address-and-port-dependent"
  | "none"
  | "unknown";

/** A behavior, how certain it is, and the evidence for it. */
export interface BehaviorVerdict {
  /** What it depends on. */
  readonly behavior: Behavior;
  /** From 0 (a guess) to 1: one minus the probability that another behavior produced the same observations. */
  readonly confidence: number;
  /** What was observed, one sentence each. */
  readonly evidence: readonly string[];
}

/** How a NAT chooses external ports. */
export interface PortAllocation {
  /**
   * `"preserving"`: the same as the local port. `"offset"`: the local port plus `delta`. `"sequential"`: the previous
   * external port plus `delta`. `"random"`: no pattern.
   */
  readonly kind: "preserving" | "offset" | "sequential" | "random" | "unknown";
  /** For `"offset"` and `"sequential"`; 0 for `"preserving"`, otherwise `null`. */
  readonly delta: number | null;
  /** The lowest and the highest external port observed; `null` if none was, or if the ports follow the local ones. */
  readonly range: readonly [number, number] | null;
}

/** What a burst of new mappings shows beyond {@linkcode PortAllocation}. */
export interface PortAllocationDetails {
  /** How many external ports the verdict is based on. */
  readonly samples: number;
  /**
   * Whether `delta` holds only between mappings of consecutive local ports (P2PD's "dependent" delta) rather than
   * between any two mappings ("independent").
   */
  readonly onlyForNeighbours: boolean;
  /** Whether even local ports get even external ports, and odd ones odd (RFC 4787 §4.2.2). */
  readonly preservesParity: boolean | "unknown";
  /** Whether consecutive local ports get consecutive external ports (RFC 4787 §4.2.3). */
  readonly preservesContiguity: boolean | "unknown";
}

export type { UnsolicitedSyn };

/** How hard it is for a peer that punches as well to connect to this host. */
export type Difficulty =
  | "open" // anyone can connect
  | "easy" // punching fails only if the peer's NAT filters by port and chooses ports at random
  | "moderate" // external ports vary by destination but can be predicted
  | "hard" // external ports vary by destination without a pattern
  | "blocked" // the network is up, but this traffic is blocked
  | "offline"
  | "unknown";

/** The results for one transport over one IP family. Addresses are text, such as `192.0.2.1:3478`. */
export interface FamilyReport {
  /** Whether any server answered. */
  readonly reachable: boolean;
  /** The server that most of the verdict is based on. */
  readonly server: string | null;
  /** The local address, if it is known. */
  readonly local: string | null;
  /** The address that servers see. */
  readonly external: string | null;
  /** Whether the external address differs from the local address. */
  readonly translated: boolean | "unknown";
  /** The shortest round trip to that server. */
  readonly rttMs: number | null;
  /** Time until mapping, filtering and allocation were all decided. */
  readonly elapsedMs: number;
  /** Which outbound packets share an external port. */
  readonly mapping: BehaviorVerdict;
  /** Which remote endpoints can send packets in. */
  readonly filtering: BehaviorVerdict;
  /** How external ports are chosen. */
  readonly allocation: PortAllocation;
  /** Whether hosts behind the NAT can reach each other at their external addresses (RFC 4787 §6). */
  readonly hairpinning: boolean | "unknown";
  /** TCP only; `"unknown"` for UDP. */
  readonly unsolicitedSyn: UnsolicitedSyn;
  /**
   * What becomes of a SYN from an address and port that this host is dialling at the same moment; TCP only. `"dropped"`
   * stands for a RST as well.
   */
  readonly crossingSyn: UnsolicitedSyn;
  /** The classic name from RFC 3489 §5, which is still in common use; `"Unknown"` if mapping or filtering is unknown. */
  readonly rfc3489Name: string;
  /** Results that are not part of the command line's JSON contract. */
  readonly details: FamilyDetails;
}

/** See {@linkcode FamilyReport.details}. */
export interface FamilyDetails {
  /** The external IP addresses that servers saw; several if the NAT has a pool and does not keep to one (RFC 4787 §4.1). */
  readonly externalIps: readonly string[];
  /** More about how external ports are chosen. */
  readonly allocation: PortAllocationDetails;
  /**
   * Whether a device on the path rewrites addresses inside messages: MAPPED-ADDRESS then differs from
   * XOR-MAPPED-ADDRESS.
   */
  readonly rewritesPayload: boolean | "unknown";
  /**
   * How long an idle mapping lives: it survived `atLeast` seconds and was gone after `lessThan`, or outlived the test if
   * that is `null`. `null` if it was not tested.
   */
  readonly lifetimeSeconds: { readonly atLeast: number; readonly lessThan: number | null } | null;
  /** Why servers were disregarded, one sentence each. */
  readonly servers: readonly string[];
  /** UDP packets or TCP connections. */
  readonly packetsSent: number;
}

/** The result of a NAT test: plain data that survives `JSON.stringify()`. */
export interface NatReport {
  /** The version of this format. */
  readonly version: 1;
  /** Time for the whole test, including name resolution. */
  readonly elapsedMs: number;
  /** Results over UDP; `null` for a family that was not requested or that the host does not have. */
  readonly udp: { readonly ipv4: FamilyReport | null; readonly ipv6: FamilyReport | null };
  /** The same over TCP. */
  readonly tcp: { readonly ipv4: FamilyReport | null; readonly ipv6: FamilyReport | null };
  /** The overall result. */
  readonly verdict: {
    /** As one word. */
    readonly difficulty: Difficulty;
    /** As one sentence. */
    readonly summary: string;
    /** Where it holds: a server on this machine, or in its private network, shows nothing about the internet. */
    readonly scope: VerdictScope;
  };
  /** Signs of carrier-grade NAT, NAT64 and the like, one sentence each. */
  readonly hints: readonly string[];
  /** What stands in the way of connections, or was noticed about the network, with what to do; the cause comes first. */
  readonly findings: readonly Finding[];
}

/** Something about a network that its user should know. */
export interface Finding {
  /** For programs. */
  readonly kind: FindingKind;
  /** What it is, as a sentence without a period. */
  readonly summary: string;
  /** What to do, as an imperative without a period. */
  readonly remedy: string;
}

/** The kinds of {@linkcode Finding}. More may be added. */
export type FindingKind =
  | "offline" // the system cannot send
  | "local-firewall" // the system refuses to send
  | "blocked" // packets leave, and nothing comes back
  | "udp-blocked" // only TCP gets through
  | "tcp-blocked" // only UDP gets through
  | "ipv6" // it is announced, and nothing comes back
  | "routes" // there are several default routes
  | "web-only" // only ports 80 or 443 can be reached
  | "refused" // connections are refused
  | "silent-server" // connections are accepted, and not answered
  | "captive-portal"
  | "dns"
  | "proxy"
  | "mtu" // longer packets are lost without a word
  | "vpn"
  | "carrier-nat"
  | "ds-lite"
  | "nat64"
  | "double-nat"
  | "local-server"; // the server that was asked is on this host

/** How far a verdict holds; see {@linkcode NatReport}. */
export type VerdictScope = "internet" | "network" | "machine";

/** An undecided verdict and the reasons for it. */
export function unknown(...evidence: string[]): BehaviorVerdict {
  return { behavior: "unknown", confidence: 0, evidence };
}

/** The classic name from RFC 3489 §5 for a combination of mapping and filtering. */
export function rfc3489Name(mapping: Behavior, filtering: Behavior): string {
  if (mapping === "none") {
    if (filtering === "none") return "Open Internet";
    return filtering === "unknown" ? "Unknown" : "Symmetric UDP Firewall";
  }
  if (mapping === "address-dependent" || mapping === "address-and-port-dependent") {
    return "Symmetric NAT";
  }
  if (mapping === "unknown") return "Unknown";
  switch (filtering) {
    case "endpoint-independent":
    case "none":
      return "Full Cone NAT";
    case "address-dependent":
      return "Restricted Cone NAT";
    case "address-and-port-dependent":
      return "Port Restricted Cone NAT";
    case "unknown":
      return "Cone NAT";
  }
}
