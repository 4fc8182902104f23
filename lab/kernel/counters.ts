/**
 * Counters: packets and drops in a running lab, and how late packets were delivered.
 *
 * @module
 */

/** Counts since the start of the lab; survives `JSON.stringify()`. */
export interface LabCounters {
  /** By host. */
  readonly hosts: Readonly<Record<string, HostCounters>>;
  /** By the name of the host, NAT or internet that dropped the packet, then by reason. */
  readonly drops: Readonly<Record<string, Readonly<Record<string, number>>>>;
  /** How late the most recent packets were delivered. */
  readonly lateness: Percentiles;
}

/** Packets of one host, as the network sees them. */
export interface HostCounters {
  sent: number;
  received: number;
  /** SYNs without ACK. */
  sentSyns: number;
  receivedSyns: number;
}

/** Percentiles in milliseconds; zero if nothing was measured. */
export interface Percentiles {
  readonly samples: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

/** Why a packet was dropped, in addition to a NAT's reasons. */
export type WireDropReason =
  | "loss"
  | "outage"
  | "blocked"
  | "buffer-full"
  | "too-long" // for a link that sends no ICMP error
  | "no-route"
  | "to-gateway" // the NAT's own address on the LAN, where nothing answers
  | "ttl-expired" // dropped without the ICMP error that a real router would send
  | "not-understood" // a fragment, or a protocol other than TCP, UDP or ICMP
  | "receiver-full"; // the host's device is full

/** The median, the 99th percentile and the maximum of some numbers. */
export function percentiles(values: Iterable<number>): Percentiles {
  const sorted = Float64Array.from(values).sort();
  const at = (share: number) =>
    sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0;
  return { samples: sorted.length, p50Ms: at(0.5), p99Ms: at(0.99), maxMs: at(1) };
}
