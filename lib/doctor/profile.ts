/**
 * What the checks of a network show about the peers that it connects to.
 *
 * @module
 */

import type { FamilyReport, NatReport } from "../nat/behavior.ts";
import { parseTransportAddress } from "../net/address.ts";
import type { RouterFacts } from "./facts.ts";
import type { NetworkProfile, TransportFacts } from "./report_message.ts";

/** What a profile is made of. */
export interface ProfileSources {
  /** `undefined` if the NAT test failed. */
  readonly nat: NatReport | undefined;
  readonly gateways: readonly RouterFacts[];
  /** As `HOST:PORT`. */
  readonly meets: readonly string[];
  readonly relays: readonly string[];
}

/** The profile of a network. */
export function networkProfile({ nat, gateways, meets, relays }: ProfileSources): NetworkProfile {
  const v6 = [nat?.udp.ipv6, nat?.tcp.ipv6];
  const external = nat?.udp.ipv4?.external ?? nat?.tcp.ipv4?.external ?? null;
  return {
    udp: factsOf(nat?.udp.ipv4 ?? nat?.udp.ipv6),
    tcp: factsOf(nat?.tcp.ipv4 ?? nat?.tcp.ipv6),
    hasIpv6: v6.some((report) => report?.reachable === true && report.translated === false),
    opensPorts: gateways.some(({ verdict }) => verdict === "public"),
    external: external === null ? null : parseTransportAddress(external).ip,
    meets,
    relays,
  };
}

function factsOf(report: FamilyReport | null | undefined): TransportFacts | null {
  if (!report?.reachable) return null;
  const { mapping, filtering, allocation, unsolicitedSyn, crossingSyn, details } = report;
  return {
    mapping: mapping.behavior,
    filtering: filtering.behavior,
    allocation: allocation.kind,
    delta: allocation.delta,
    onlyForNeighbours: details.allocation.onlyForNeighbours,
    unsolicitedSyn,
    crossingSyn,
    addresses: Math.max(1, details.externalIps.length),
  };
}
