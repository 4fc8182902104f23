/**
 * What a lab counts.
 *
 * @module
 */

/** Counts of everything since the start, JSON-safe. */
export interface LabCounters {
  /** By host. */
  readonly hosts: Readonly<Record<string, HostCounters>>;
  /** By the place where the packet was dropped (a host's, a NAT's or the internet's name), then by reason. */
  readonly drops: Readonly<Record<string, Readonly<Record<string, number>>>>;
  /** How much later than due packets were delivered, over the last ones. */
  readonly lateness: Percentiles;
}

/** Of one host, seen from the network. */
export interface HostCounters {
  sent: number;
  received: number;
  /** SYN without ACK. */
  sentSyns: number;
  receivedSyns: number;
}

/** In milliseconds; zero if nothing was measured. */
export interface Percentiles {
  readonly samples: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

/** Why a packet was dropped on its way, beside the reasons of a NAT. */
export type WireDropReason =
  | "loss"
  | "outage"
  | "blocked"
  | "no-route"
  | "to-gateway" // the address of a NAT on its LAN: nothing answers there
  | "ttl-expired" // dropped without the ICMP error of a real router
  | "not-understood" // a fragment, or a protocol other than TCP, UDP and ICMP
  | "receiver-full"; // the host's device took no more

/** The middle, the last percent and the end of some numbers. */
export function percentiles(values: Iterable<number>): Percentiles {
  const sorted = Float64Array.from(values).sort();
  const at = (share: number) =>
    sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0;
  return { samples: sorted.length, p50Ms: at(0.5), p99Ms: at(0.99), maxMs: at(1) };
}
