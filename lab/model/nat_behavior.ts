/**
 * NAT behavior in the terms of RFC 4787 (UDP), RFC 5382 (TCP) and RFC 5508 (ICMP), as settings, and well-known
 * NATs by name.
 *
 * @module
 */

/** Which outbound packets of one internal address and port share an external port (RFC 4787 §4.1). */
export type NatMapping =
  | "endpoint-independent"
  | "address-dependent"
  | "address-and-port-dependent"
  | "none"; // a firewall: no translation, but inbound packets are filtered

/** Which remote endpoints can send packets in (RFC 4787 §5). */
export type NatFiltering =
  | "endpoint-independent"
  | "address-dependent"
  | "address-and-port-dependent";

/** How the external port of a new mapping is chosen. If that port is taken, the NAT uses the next free one. */
export type NatAllocation =
  /** The same as the internal port. */
  | { readonly kind: "preserving" }
  /** The internal port plus `delta`. */
  | { readonly kind: "offset"; readonly delta: number }
  /** The last external port plus `delta`, regardless of the internal port. */
  | { readonly kind: "sequential"; readonly delta: number }
  /** The last external port plus `delta` if the internal port is the last one plus 1; otherwise a random port. */
  | { readonly kind: "dependent"; readonly delta: number }
  /** A random port. */
  | { readonly kind: "random" };

/** How one transport protocol is mapped and filtered. */
export interface ProtocolBehavior {
  readonly mapping: NatMapping;
  readonly filtering: NatFiltering;
  readonly allocation: NatAllocation;
}

/** All settings of a {@linkcode Nat}. */
export interface NatBehavior extends ProtocolBehavior {
  /** Differences for TCP. */
  readonly tcp?: Partial<ProtocolBehavior>;
  /** The first and the last external port. */
  readonly portRange: readonly [first: number, last: number];
  /** Whether an external port is odd if the internal one is, and even if that is (RFC 4787 §4.2.2). */
  readonly portParity: boolean;
  /**
   * Whether hosts inside may share an external port, as long as they do not use it towards the same remote address and
   * port. RFC 4787 REQ-3 forbids it. What a filter would let in from elsewhere goes to the host that took the port last.
   */
  readonly portOverloading: boolean;
  /** Whether an internal address keeps one external address if there are several (RFC 4787 §4.1). */
  readonly pooling: "paired" | "arbitrary";
  /** The answer to an unsolicited SYN: silence, as RFC 5382 §4.3 requires, a RST, or an ICMP error. */
  readonly unsolicitedSyn: "drop" | "reset" | "icmp";
  /** The answer to an unsolicited datagram. */
  readonly unsolicitedUdp: "drop" | "icmp";
  /**
   * What happens to a SYN that crosses one sent to the same peer; RFC 5382 REQ-2 requires that it is let in. `"strict"`
   * drops it as `"drop"` does, and every SYN-ACK that does not answer a SYN which passed: no end can open simultaneously.
   */
  readonly crossedSyn: "accept" | "drop" | "reset" | "strict";
  /** How many sessions may exist at once; no packet passes that would open another. */
  readonly maxSessions: number;
  /** Whether a RST from either side ends a TCP session at once, and the mapping with its last session. */
  readonly resetEndsMapping: boolean;
  /** Whether hosts inside can reach each other at their external addresses (RFC 4787 §6). */
  readonly hairpinning: boolean;
  readonly udpTimeoutMs: number;
  /** Whether inbound UDP keeps a mapping alive as outbound UDP does (RFC 4787 §4.3). */
  readonly udpInboundRefresh: boolean;
  /** For TCP sessions that are opening or closing (RFC 5382 §5). */
  readonly tcpTransitoryTimeoutMs: number;
  readonly tcpEstablishedTimeoutMs: number;
  /** For ICMP queries (RFC 5508 §3.2). */
  readonly icmpTimeoutMs: number;
}

/**
 * A behavior with some differences from a named one, by default from `portRestricted`.
 *
 * @throws {RangeError} if the port range is empty or not within 1 to 65535
 */
export function natBehavior(
  changes: Partial<NatBehavior>,
  base: NatBehavior = NAT_BEHAVIORS.portRestricted,
): NatBehavior {
  const behavior = { ...base, ...changes };
  const [first, last] = behavior.portRange;
  if (!(first >= 1 && first <= last && last <= 65535)) {
    throw new RangeError(
      `Cannot build NAT: the port range must be within 1-65535, not ${first}-${last}`,
    );
  }
  return behavior;
}

/** How a NAT with this behavior treats one protocol. */
export function protocolBehavior(
  behavior: NatBehavior,
  protocol: "udp" | "tcp" | "icmp",
): ProtocolBehavior {
  return protocol === "tcp" ? { ...behavior, ...behavior.tcp } : behavior;
}

/** A name in {@linkcode NAT_BEHAVIORS}. */
export type NatBehaviorName = keyof typeof NAT_BEHAVIORS;

/** Timeouts as recommended or required by RFC 4787 REQ-5, RFC 5382 REQ-5 and RFC 5508 REQ-1. */
const COMPLIANT = {
  portRange: [1024, 65535],
  portParity: false,
  portOverloading: false,
  pooling: "paired",
  unsolicitedSyn: "drop",
  unsolicitedUdp: "drop",
  crossedSyn: "accept",
  maxSessions: 65_535,
  resetEndsMapping: false,
  hairpinning: true,
  udpTimeoutMs: 300_000,
  udpInboundRefresh: true,
  tcpTransitoryTimeoutMs: 240_000,
  tcpEstablishedTimeoutMs: 7_440_000,
  icmpTimeoutMs: 60_000,
} as const;

/** The classic NATs of RFC 3489, symmetric NATs by port allocation, and a firewall without translation. */
export const NAT_BEHAVIORS = {
  fullCone: {
    ...COMPLIANT,
    mapping: "endpoint-independent",
    filtering: "endpoint-independent",
    allocation: { kind: "preserving" },
  },
  addressRestricted: {
    ...COMPLIANT,
    mapping: "endpoint-independent",
    filtering: "address-dependent",
    allocation: { kind: "preserving" },
  },
  portRestricted: {
    ...COMPLIANT,
    mapping: "endpoint-independent",
    filtering: "address-and-port-dependent",
    allocation: { kind: "preserving" },
  },
  symmetric: {
    ...COMPLIANT,
    mapping: "address-and-port-dependent",
    filtering: "address-and-port-dependent",
    allocation: { kind: "random" },
  },
  symmetricSequential: {
    ...COMPLIANT,
    mapping: "address-and-port-dependent",
    filtering: "address-and-port-dependent",
    allocation: { kind: "sequential", delta: 1 },
  },
  /** The first mapping of an internal port keeps that port; later ones use the free ports above it. */
  symmetricPreserving: {
    ...COMPLIANT,
    mapping: "address-and-port-dependent",
    filtering: "address-and-port-dependent",
    allocation: { kind: "preserving" },
  },
  firewall: {
    ...COMPLIANT,
    mapping: "none",
    filtering: "address-and-port-dependent",
    allocation: { kind: "preserving" },
  },
} as const satisfies Record<string, NatBehavior>;
