/**
 * What SYNs from outside get in the networks that this program has seen: learned from servers that dial back, and
 * remembered, so that the next punch from the same network need not ask.
 *
 * @module
 */

import type { FamilyReport } from "../nat/behavior.ts";
import type { InboundBehavior } from "../nat/inbound.ts";
import type { TransportAddress } from "../net/address.ts";
import type { Network } from "../net/network.ts";

/** What SYNs from outside get, by this host's address and its external one; `undefined` if no server dials back. */
export type KnownNetworks = Map<string, KnownNetwork>;

/** See {@linkcode KnownNetworks}. */
export interface KnownNetwork {
  readonly inbound: InboundBehavior | undefined;
  /** As in a `NatProfile`. */
  readonly sessionLimit?: number | undefined;
  /** By `performance.now()`. */
  readonly learnedAtMs: number;
}

/** What SYNs from outside get, `undefined` if no server dials back, or `"unknown"` if that could not be found out. */
export type Learned = InboundBehavior | undefined | "unknown";

/** What it takes to learn what SYNs from outside get. */
export interface LearnOptions {
  readonly network: Network;
  /** STUN servers that speak TCP, best first. */
  readonly servers: readonly TransportAddress[];
  /** Servers that may dial back to this host. Default: `servers`. */
  readonly dialBackServers?: readonly TransportAddress[];
  /** What a NAT test found over TCP. */
  readonly report?: Pick<FamilyReport, "filtering"> | null;
}

/** Remembers a network. A server that lies, or a NAT with a pool, names another each time: the oldest is forgotten. */
export function remember(networks: KnownNetworks, network: string, known: KnownNetwork): void {
  networks.delete(network); // the latest is the last
  networks.set(network, known);
  const [oldest] = networks.keys();
  if (networks.size > MAX_NETWORKS) networks.delete(oldest!);
}

/** Asks servers to dial back to this host, unless a NAT test has found out. Never rejects. */
export async function askToDialBack(
  { network, servers, dialBackServers = servers, report }: LearnOptions,
  signal: AbortSignal,
): Promise<Learned> {
  if (isReported(report) || servers.length === 0 || dialBackServers.length === 0) return "unknown";
  try {
    const { learnInbound } = await import("../nat/inbound.ts");
    return await learnInbound(network, dialBackServers, signal);
  } catch {
    return "unknown"; // aborted, or not permitted
  }
}

/** Whether a NAT test has found out about filters. */
export function isReported(report: LearnOptions["report"]): boolean {
  return report != null && report.filtering.behavior !== "unknown";
}

/** How long what was learned holds for a network. Chosen by us: NATs rarely change, and servers are not ours to bother. */
export const KNOWN_MS = 3_600_000;

/** Chosen by us: more than a laptop sees in the hour for which they count. */
const MAX_NETWORKS = 64;
