/**
 * Asking every gateway what it speaks, and what stands in the way.
 *
 * @module
 */

import { ipFamily } from "../net/address.ts";
import type { Network } from "../net/network.ts";
import { systemNetwork } from "../net/system.ts";
import { findGateways, type Gateway } from "./gateway.ts";
import type { MapperName, PortMapper, ProbeResult } from "./mapper.ts";
import { PROTOCOL_NAMES, SILENCE_REMEDIES } from "./mapping_attempt.ts";
import { natPmpMapper } from "./nat_pmp/client.ts";
import { askOutside } from "./outside_view.ts";
import { pcpMapper } from "./pcp/client.ts";
import { igdMapper } from "./upnp/client.ts";
import { isPlausibleExternalIp, type MappingVerdict, mappingVerdict } from "./verdict.ts";
import { FAST_WAITS_MS } from "./waits.ts";

/** Whom to ask. */
export interface ProbeGatewaysOptions {
  /** The host's default gateways unless given. */
  readonly gateway?: string;
  /** STUN servers for the verdict; none unless given. */
  readonly servers?: readonly string[];
  /** Ends it. */
  readonly signal?: AbortSignal;
  /** The system's own unless given. */
  readonly network?: Network;
}

/** What one protocol came to. */
export interface ProtocolReport {
  /** Whether it does the protocol. */
  readonly answer: "supported" | "refused" | "garbled" | "silent";
  /** Cause, and remedy where there is one, in one line. */
  readonly detail: string;
}

/** What one gateway said. */
export interface GatewayReport {
  /** Its IP address. */
  readonly address: string;
  /** What it said to PCP. */
  readonly pcp: ProtocolReport;
  /** `null` for IPv6, for which there is none. */
  readonly natPmp: ProtocolReport | null;
  /** What it said to UPnP. */
  readonly upnp: ProtocolReport;
  /** Its own address outside; `null` if it did not tell. */
  readonly external: string | null;
  /** What a mapping on it would be worth; `null` if it maps nothing. */
  readonly verdict: MappingVerdict["kind"] | null;
  /** The verdict's cause and remedy, in one line. */
  readonly detail: string;
}

/**
 * Asks all gateways by all protocols at once, in about two seconds; changes nothing there.
 *
 * @throws {TypeError} if the gateway or a server is no address
 * @throws {NetworkError} if this host's network cannot be used
 */
export async function probeGateways(options: ProbeGatewaysOptions = {}): Promise<GatewayReport[]> {
  const { network = systemNetwork, gateway, servers = [], signal } = options;
  const known = gateway === undefined ? [] : [gateway];
  const seen = askOutside({ network, family: 4, servers, signal });
  const gateways = await findGateways({ network, known, signal });
  const [seenIps, ...reports] = await Promise.all([
    seen,
    ...gateways.map((gateway) => probeGateway(gateway, network, signal)),
  ]);
  const isGuess = (report: Probed) => report.gateway.source === "guess";
  return reports.filter((report) => !isGuess(report) || isAlive(report))
    .map((report) => toReport(report, seenIps));
}

interface Probed {
  readonly gateway: Gateway;
  readonly pcp: ProbeResult;
  readonly natPmp: ProbeResult | undefined;
  readonly upnp: ProbeResult;
}

async function probeGateway(
  gateway: Gateway,
  network: Network,
  signal: AbortSignal | undefined,
): Promise<Probed> {
  const { ip, localIp } = gateway;
  const isIpv4 = ipFamily(ip) === 4;
  const probe = (mapper: PortMapper) => mapper.probe({ signal });
  const waitsMs = FAST_WAITS_MS;
  const [pcp, natPmp, upnp] = await Promise.all([
    probe(pcpMapper(ip, { network, localIp, waitsMs })),
    isIpv4 ? probe(natPmpMapper(ip, { network, waitsMs })) : undefined,
    probe(igdMapper(ip, { network, local: localIp })),
  ]);
  return { gateway, pcp, natPmp, upnp };
}

function isAlive({ pcp, natPmp, upnp }: Probed): boolean {
  return [pcp, natPmp, upnp].some((result) => result !== undefined && result.kind !== "silent");
}

function toReport({ gateway, pcp, natPmp, upnp }: Probed, seenIps: readonly string[]) {
  const results = [natPmp, upnp, pcp];
  const told = results.flatMap((result) =>
    result?.kind === "supported" && result.externalIp !== undefined ? [result.externalIp] : []
  );
  const external = told.find(isPlausibleExternalIp);
  const mapsAny = results.some((result) => result?.kind === "supported");
  const pinholes = ipFamily(gateway.ip) === 6;
  const verdict = mapsAny
    ? mappingVerdict({
      externalIp: pinholes ? gateway.localIp : external ?? "0.0.0.0",
      seenIps,
    })
    : undefined;
  return {
    address: gateway.ip,
    pcp: protocolReport("pcp", pcp),
    natPmp: natPmp === undefined ? null : protocolReport("nat-pmp", natPmp),
    upnp: protocolReport("upnp", upnp),
    external: external ?? null,
    verdict: verdict?.kind ?? null,
    detail: verdict === undefined
      ? "the router opens no ports: enable UPnP or NAT-PMP in it, or open the port by hand"
      : [verdict.evidence, verdict.remedy].filter((part) => part !== undefined).join(": "),
  };
}

function protocolReport(protocol: MapperName, result: ProbeResult): ProtocolReport {
  switch (result.kind) {
    case "supported": {
      const { elapsedMs, detail } = result;
      const took = `answered in ${Math.round(elapsedMs)} ms`;
      return { answer: "supported", detail: detail ? `${took}: ${detail}` : took };
    }
    case "refused": {
      const { reason, code, remedy } = result.error;
      return { answer: "refused", detail: `${reason} (${code}): ${remedy}` };
    }
    case "garbled":
      return { answer: "garbled", detail: `what answers is not ${PROTOCOL_NAMES[protocol]}` };
    case "silent":
      return { answer: "silent", detail: SILENCE_REMEDIES[protocol] };
  }
}
