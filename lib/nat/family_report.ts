/**
 * The results of the UDP and TCP tests as the report that callers see.
 *
 * @module
 */

import { formatTransportAddress, type TransportAddress } from "../net/address.ts";
import {
  type BehaviorVerdict,
  type FamilyDetails,
  type FamilyReport,
  rfc3489Name,
  unknown,
} from "./behavior.ts";
import type { TcpResult } from "./tcp.ts";
import type { UdpResult } from "./udp.ts";

/**
 * The report of a UDP test.
 *
 * @param localIp the address that packets leave from, if it is known
 */
export function udpReport(
  result: UdpResult,
  localIp: string | undefined,
  lifetimeSeconds: FamilyDetails["lifetimeSeconds"],
): FamilyReport {
  const ip = result.isOwnAddress ? result.external!.ip : localIp;
  const local = ip === undefined ? null : { ip, port: result.localPort };
  return assemble({ ...result, local, unsolicitedSyn: "unknown" }, {
    allocation: result.allocation.details,
    rewritesPayload: result.rewritesPayload,
    lifetimeSeconds,
    servers: result.faults,
    packetsSent: result.packetsSent,
  });
}

/** The report of a TCP test. */
export function tcpReport(result: TcpResult): FamilyReport {
  const faults = result.dialFaults.map(({ to, reason }) =>
    `${formatTransportAddress(to)} over TCP: ${reason}`
  );
  return assemble(result, {
    allocation: result.allocation.details,
    rewritesPayload: "unknown",
    lifetimeSeconds: null,
    servers: [...result.faults, ...new Set(faults)],
    packetsSent: result.connections,
  });
}

type Result = Omit<
  UdpResult & TcpResult,
  | "localPort"
  | "dialFaults"
  | "connections"
  | "packetsSent"
  | "sendFault"
  | "errorCode"
  | "heardNoise"
  | "rewritesPayload"
>;

function assemble(result: Result, details: FamilyDetails): FamilyReport {
  const { server, external, local } = result;
  const reachable = server !== null;
  const verdict = (found: BehaviorVerdict) => reachable ? found : unknown("no server answered");
  return {
    reachable,
    server: format(server),
    local: format(local),
    external: format(external),
    translated: external === null ? "unknown" : !result.isOwnAddress,
    rttMs: result.rttMs,
    elapsedMs: result.elapsedMs,
    mapping: verdict(result.mapping),
    filtering: verdict(result.filtering),
    allocation: result.allocation.allocation,
    hairpinning: result.hairpinning,
    unsolicitedSyn: result.unsolicitedSyn,
    rfc3489Name: rfc3489Name(result.mapping.behavior, result.filtering.behavior),
    details,
  };
}

function format(address: TransportAddress | null): string | null {
  return address && formatTransportAddress(address);
}
