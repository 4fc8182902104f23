/**
 * The vocabulary of RFC 4787 (UDP) and RFC 5382 (TCP) for what a NAT does, and the report made of it.
 *
 * @module
 */

import type { UnsolicitedSyn } from "../stun/tcp_filter/message.ts";

/**
 * On what a NAT's mapping, or its filter, depends (RFC 4787 §4.1 and §5). `"none"` means that there is no NAT,
 * or no filter; `"unknown"` that it could not be told, which is not the same as "no".
 */
export type Behavior =
  | "endpoint-independent"
  | "address-dependent"
  | "address-and-port-dependent"
  | "none"
  | "unknown";

/** A behaviour, how sure it is and why. */
export interface BehaviorVerdict {
  /** On what it depends. */
  readonly behavior: Behavior;
  /** 0 (a guess) to 1; the chance that the same observations come from another behaviour, subtracted from 1. */
  readonly confidence: number;
  /** What was seen, one sentence each. */
  readonly evidence: readonly string[];
}

/** How a NAT chooses external ports. */
export interface Allocation {
  /**
   * `"preserving"`: the local port itself; `"offset"`: the local port plus `delta`; `"sequential"`: the last
   * one plus `delta`; `"random"`: no pattern.
   */
  readonly kind: "preserving" | "offset" | "sequential" | "random" | "unknown";
  /** For `offset` and `sequential`, and 0 for `preserving`. */
  readonly delta: number | null;
  /** The lowest and the highest external port seen; `null` where nothing was. */
  readonly range: readonly [number, number] | null;
}

/** What a port burst shows beyond {@linkcode Allocation}. */
export interface AllocationDetails {
  /** How many external ports the verdict rests on. */
  readonly samples: number;
  /**
   * Whether `delta` holds only between mappings of neighbouring local ports (P2PD's "dependent" delta), rather
   * than between any two mappings ("independent").
   */
  readonly onlyForNeighbours: boolean;
  /** RFC 4787 §4.2.2: even local ports get even external ones. */
  readonly preservesParity: boolean | "unknown";
  /** RFC 4787 §4.2.3: neighbouring local ports get neighbouring external ones. */
  readonly preservesContiguity: boolean | "unknown";
}

export type { UnsolicitedSyn };

/** How hard it is to reach this host, or to be reached by a peer that it also dials. */
export type Difficulty =
  | "open" // anyone can connect
  | "easy" // punches with all but the random kind on a port-filtering peer
  | "moderate" // external ports differ by destination, but can be predicted
  | "hard" // external ports differ by destination, without a pattern
  | "blocked" // there is a network, but this traffic does not pass
  | "offline"
  | "unknown";

/** What was learned about one transport over one IP family. Addresses are text, `192.0.2.1:3478`. */
export interface FamilyReport {
  /** Whether any server answered. */
  readonly reachable: boolean;
  /** The server that the verdict rests on most. */
  readonly server: string | null;
  /** The local address, where it could be learned. */
  readonly local: string | null;
  /** The address that servers see. */
  readonly external: string | null;
  /** Whether the external address differs from the local one. */
  readonly translated: boolean | "unknown";
  /** The shortest round trip to that server. */
  readonly rttMs: number | null;
  /** Until the last of mapping, filtering and allocation was decided. */
  readonly elapsedMs: number;
  /** Which outbound packets share an external port. */
  readonly mapping: BehaviorVerdict;
  /** From whom inbound packets are let in. */
  readonly filtering: BehaviorVerdict;
  /** How external ports are chosen. */
  readonly allocation: Allocation;
  /** Whether hosts inside reach each other by external addresses: RFC 4787 §6. */
  readonly hairpinning: boolean | "unknown";
  /** TCP only; `"unknown"` for UDP. */
  readonly unsolicitedSyn: UnsolicitedSyn;
  /** The name of RFC 3489 §5, as people still use it; `"Unknown"` where the parts are. */
  readonly rfc3489Name: string;
  /** What the JSON contract of the command line has no place for. */
  readonly details: FamilyDetails;
}

/** See {@linkcode FamilyReport.details}. */
export interface FamilyDetails {
  /** More about how external ports are chosen. */
  readonly allocation: AllocationDetails;
  /** Whether something on the path rewrites addresses inside messages (MAPPED-ADDRESS differs from XOR-MAPPED-ADDRESS). */
  readonly rewritesPayload: boolean | "unknown";
  /** How long an idle mapping lives, between two tested times; `null` where it was not tested. */
  readonly lifetimeSeconds: { readonly atLeast: number; readonly lessThan: number | null } | null;
  /** What was wrong with servers that did not count, one sentence each. */
  readonly servers: readonly string[];
  /** UDP packets, or TCP connections. */
  readonly packetsSent: number;
}

/** The result of a NAT test; plain data. */
export interface NatReport {
  /** Of this shape. */
  readonly version: 1;
  /** Of the whole test, names and all. */
  readonly elapsedMs: number;
  /** What was learned over UDP; `null` where not asked for, or the host has no such address. */
  readonly udp: { readonly ipv4: FamilyReport | null; readonly ipv6: FamilyReport | null };
  /** The same over TCP. */
  readonly tcp: { readonly ipv4: FamilyReport | null; readonly ipv6: FamilyReport | null };
  /** What it means, in one word and in one sentence. */
  readonly verdict: { readonly difficulty: Difficulty; readonly summary: string };
  /** Signs of carrier-grade NAT, NAT64 and the like, one sentence each. */
  readonly hints: readonly string[];
}

/** A verdict that nothing was learned, and why. */
export function unknown(...evidence: string[]): BehaviorVerdict {
  return { behavior: "unknown", confidence: 0, evidence };
}

/** The classic name of RFC 3489 §5 for a pair of behaviours. */
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
