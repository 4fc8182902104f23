/**
 * What a NAT does, in the words of RFC 4787 (UDP), RFC 5382 (TCP) and RFC 5508 (ICMP), and the NATs that have
 * names.
 *
 * @module
 */

/** Which outbound packets of one internal address and port share an external port; RFC 4787 §4.1. */
export type NatMapping =
  | "endpoint-independent"
  | "address-dependent"
  | "address-and-port-dependent"
  | "none"; // a firewall: addresses are not translated, inbound packets are filtered all the same

/** From whom an inbound packet is let in; RFC 4787 §5. */
export type NatFiltering =
  | "endpoint-independent"
  | "address-dependent"
  | "address-and-port-dependent";

/** How the external port of a new mapping is chosen; a port that is taken yields to the next free one. */
export type NatAllocation =
  /** The internal port, where it is free. */
  | { readonly kind: "preserving" }
  /** The internal port plus `delta`. */
  | { readonly kind: "offset"; readonly delta: number }
  /** The last external port plus `delta`, whatever the internal port. */
  | { readonly kind: "sequential"; readonly delta: number }
  /** The last external port plus `delta` if the internal port is the last one plus 1, else any port. */
  | { readonly kind: "dependent"; readonly delta: number }
  /** Any port. */
  | { readonly kind: "random" };

/** How one transport protocol is mapped and filtered. */
export interface ProtocolBehavior {
  readonly mapping: NatMapping;
  readonly filtering: NatFiltering;
  readonly allocation: NatAllocation;
}

/** Everything that {@linkcode Nat} can be told to do. */
export interface NatBehavior extends ProtocolBehavior {
  /** What differs for TCP. */
  readonly tcp?: Partial<ProtocolBehavior>;
  /** The first and the last external port. */
  readonly portRange: readonly [first: number, last: number];
  /** Whether an internal address keeps its external address where there are several; RFC 4787 §4.1. */
  readonly pooling: "paired" | "arbitrary";
  /** What a SYN gets that nothing let in; RFC 5382 §4.3 wants silence. */
  readonly unsolicitedSyn: "drop" | "reset";
  /** What a SYN gets that crossed one to the same peer; RFC 5382 REQ-2 wants it let in. */
  readonly crossedSyn: "accept" | "drop";
  /** Whether RST, from either side, ends a TCP session at once, and the mapping with its last session. */
  readonly resetEndsMapping: boolean;
  /** Whether hosts inside reach each other by external addresses; RFC 4787 §6. */
  readonly hairpinning: boolean;
  readonly udpTimeoutMs: number;
  /** Whether inbound UDP keeps a mapping alive as outbound does; RFC 4787 §4.3. */
  readonly udpInboundRefresh: boolean;
  /** For TCP sessions that are opening or closing; RFC 5382 §5. */
  readonly tcpTransitoryTimeoutMs: number;
  readonly tcpEstablishedTimeoutMs: number;
  /** For ICMP queries; RFC 5508 §3.2. */
  readonly icmpTimeoutMs: number;
}

/**
 * A behaviour that differs from a named one, or from `portRestricted`, in some points.
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

/** How this behaviour treats one protocol. */
export function protocolBehavior(
  behavior: NatBehavior,
  protocol: "udp" | "tcp" | "icmp",
): ProtocolBehavior {
  return protocol === "tcp" ? { ...behavior, ...behavior.tcp } : behavior;
}

/** The name of a behaviour in {@linkcode NAT_BEHAVIORS}. */
export type NatBehaviorName = keyof typeof NAT_BEHAVIORS;

/** Timeouts as RFC 4787 REQ-5, RFC 5382 REQ-5 and RFC 5508 REQ-1 recommend or demand them. */
const COMPLIANT = {
  portRange: [1024, 65535],
  pooling: "paired",
  unsolicitedSyn: "drop",
  crossedSyn: "accept",
  resetEndsMapping: false,
  hairpinning: true,
  udpTimeoutMs: 300_000,
  udpInboundRefresh: true,
  tcpTransitoryTimeoutMs: 240_000,
  tcpEstablishedTimeoutMs: 7_440_000,
  icmpTimeoutMs: 60_000,
} as const;

/** The classic NATs of RFC 3489, symmetric ones by allocation, and a firewall without translation. */
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
  /** The first mapping of an internal port keeps that port; the next ones take the free ports above it. */
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
