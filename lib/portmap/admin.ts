/**
 * What is open on the gateways of this host, and closing it.
 *
 * Only UPnP lists. Mappings that PCP made have a nonce, without which PCP does not delete them; most routers keep all
 * in one table, where UPnP and NAT-PMP reach them.
 *
 * @module
 */

import { formatTransportAddress, ipFamily } from "../net/address.ts";
import type { Network } from "../net/network.ts";
import { systemNetwork } from "../net/system.ts";
import { findGateways, type Gateway } from "./gateway.ts";
import { FAST_WAITS_MS } from "./gateway_transaction.ts";
import {
  isOfGateway,
  type MapperName,
  type MappingAttempt,
  mappingAttempt,
  NoMappingError,
  type PortMapper,
  type ProbeResult,
  PROTOCOL_NAMES,
  SILENCE_REMEDIES,
} from "./mapper.ts";
import { natPmpMapper } from "./nat_pmp/client.ts";
import { askOutside } from "./outside_view.ts";
import { pcpMapper } from "./pcp/client.ts";
import { type IgdMapper, igdMapper } from "./upnp/client.ts";
import { isPlausibleExternalIp, type MappingVerdict, mappingVerdict } from "./verdict.ts";

/** Whom to ask. */
export interface MappingTableOptions {
  /** The host's default gateways of IPv4 unless given. */
  readonly gateway?: string;
  /** Ends it. */
  readonly signal?: AbortSignal;
  /** The system's own unless given. */
  readonly network?: Network;
}

/** One gateway's table. */
export interface GatewayMappings {
  /** Its IP address. */
  readonly address: string;
  /** As far as it lists them. */
  readonly mappings: readonly ListedMapping[];
  /** Why it lists none; `null` if it does list. */
  readonly problem: string | null;
}

/** One entry. */
export interface ListedMapping {
  /** The transport protocol. */
  readonly transport: "tcp" | "udp";
  /** The port outside. */
  readonly externalPort: number;
  /** `192.168.1.2:8080`. */
  readonly internal: string;
  /** 0 if it never expires, or the router does not tell. */
  readonly leaseSeconds: number;
  /** What who made it wrote there. */
  readonly description: string;
  /** Whether it is in effect. */
  readonly enabled: boolean;
}

/** One mapping that was closed. */
export interface DeletedMapping {
  /** How. */
  readonly protocol: MapperName;
  /** The transport protocol. */
  readonly transport: "tcp" | "udp";
  /** Its port outside; `null` if the protocol does not tell whether there was one. */
  readonly external: number | null;
  /** Where. */
  readonly gateway: string;
}

/**
 * The tables of all gateways, by UPnP.
 *
 * @throws {NoMappingError} if there is no gateway
 */
export async function listMappings(options: MappingTableOptions = {}): Promise<GatewayMappings[]> {
  const { network = systemNetwork, signal } = options;
  const gateways = await requireGateways(options, "tcp", 0);
  const tables = await Promise.all(gateways.map(async ({ ip, localIp, source }) => {
    try {
      const entries = await igdMapper(ip, { network, local: localIp }).listMappings({ signal });
      const mappings = entries.map((entry): ListedMapping => ({
        transport: entry.protocol,
        externalPort: entry.externalPort,
        internal: formatTransportAddress({ ip: entry.internalClient, port: entry.internalPort }),
        leaseSeconds: entry.leaseSeconds,
        description: plain(entry.description),
        enabled: entry.enabled,
      }));
      return { source, table: { address: ip, mappings, problem: null } };
    } catch (error) {
      signal?.throwIfAborted();
      if (!isOfGateway(error) || !(error instanceof Error)) throw error;
      return { source, table: { address: ip, mappings: [], problem: error.message } };
    }
  }));
  const answering = tables.filter(({ table }) => table.problem === null);
  // Where gateways are guesses, those that nobody is at are not worth a line.
  const worth = tables.filter(({ source }) => source !== "guess" || answering.length === 0);
  return [...new Set([...answering, ...worth])].map(({ table }) => table);
}

/** What to close. */
export interface DeleteMappingsOptions extends MappingTableOptions {
  /** The transport protocol. */
  readonly protocol: "tcp" | "udp";
  /** This host's port; or, where no mapping leads to it, the port outside of a mapping that leads to this host. */
  readonly port: number;
}

/**
 * Closes the mappings to a port of this host: by UPnP those that its table shows, by NAT-PMP whatever there is.
 *
 * @returns what was closed, as far as gateways tell
 * @throws {NoMappingError} if no gateway did anything
 */
export async function deleteMappings(options: DeleteMappingsOptions): Promise<DeletedMapping[]> {
  const { network = systemNetwork, protocol, port, signal } = options;
  const gateways = await requireGateways(options, protocol, port);
  const attempts: MappingAttempt[] = [];
  const deleted = await Promise.all(gateways.flatMap((gateway) => {
    const attempt = async (mapper: MapperName, run: () => Promise<DeletedMapping[]>) => {
      const startMs = performance.now();
      try {
        return await run();
      } catch (error) {
        signal?.throwIfAborted();
        if (!isOfGateway(error)) throw error;
        const asked = { protocol: mapper, gateway, elapsedMs: performance.now() - startMs };
        attempts.push(mappingAttempt(asked, error));
        return [];
      }
    };
    const igd = igdMapper(gateway.ip, { network, local: gateway.localIp });
    const natPmp = natPmpMapper(gateway.ip, { network, waitsMs: FAST_WAITS_MS });
    return [
      attempt("upnp", () => deleteByUpnp(igd, gateway, options)),
      attempt("nat-pmp", () => deleteByNatPmp(natPmp, gateway, options)),
    ];
  }));
  const all = deleted.flat();
  if (all.length > 0 || attempts.length < 2 * gateways.length) return all;
  throw new NoMappingError({ protocol, internalPort: port, verb: "delete" }, attempts);
}

async function deleteByUpnp(
  mapper: IgdMapper,
  { localIp }: Gateway,
  { protocol, port, signal }: DeleteMappingsOptions,
): Promise<DeletedMapping[]> {
  const entries = (await mapper.listMappings({ signal })).filter((entry) =>
    entry.protocol === protocol && entry.internalClient === localIp
  );
  const inner = entries.filter(({ internalPort }) => internalPort === port);
  const chosen = inner.length > 0
    ? inner
    : entries.filter(({ externalPort }) => externalPort === port);
  const deleted: DeletedMapping[] = [];
  for (const { externalPort } of chosen) {
    await mapper.deleteMapping({ protocol, externalPort }, { signal });
    deleted.push({
      protocol: "upnp",
      transport: protocol,
      external: externalPort,
      gateway: mapper.gateway,
    });
  }
  return deleted;
}

async function deleteByNatPmp(
  mapper: PortMapper,
  { ip, localIp }: Gateway,
  { protocol, port, signal }: DeleteMappingsOptions,
): Promise<DeletedMapping[]> {
  await mapper.release({
    mapper: "nat-pmp",
    protocol,
    internal: { ip: localIp, port },
    external: { ip: "0.0.0.0", port },
    lifetimeSeconds: 0,
    grantedAtMs: performance.now(),
    gateway: ip,
    handle: "",
  }, { signal });
  return [{ protocol: "nat-pmp", transport: protocol, external: null, gateway: ip }];
}

async function requireGateways(
  { network = systemNetwork, gateway, signal }: MappingTableOptions,
  protocol: "tcp" | "udp",
  internalPort: number,
): Promise<Gateway[]> {
  const known = gateway === undefined ? [] : [gateway];
  const found = await findGateways({ network, known, signal });
  const gateways = found.filter(({ ip }) => ipFamily(ip) === 4);
  if (gateways.length > 0) return gateways;
  throw new NoMappingError({ protocol, internalPort }, []);
}

/** It ends up on terminals. */
function plain(text: string): string {
  return text.replaceAll(/\p{Control}/gu, "").slice(0, MAX_DESCRIPTION);
}

/** Ours: what others wrote into the router's table is to fit on a line. */
const MAX_DESCRIPTION = 60;

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
