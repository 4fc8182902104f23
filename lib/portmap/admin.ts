/**
 * Administration: which protocols the gateways of this host speak, which ports are open on them, and closing those.
 *
 * Only UPnP can list mappings. PCP does not delete a mapping without its nonce, but most routers keep all mappings in
 * one table, where UPnP and NAT-PMP can delete them.
 *
 * @module
 */

import { PunchlineError } from "../base/errors.ts";
import { formatTransportAddress, ipFamily } from "../net/address.ts";
import type { Network } from "../net/network.ts";
import { systemNetwork } from "../net/system.ts";
import { checkExternalAddress } from "./external_address_check.ts";
import { findGateways, type Gateway, INTERACTIVE_WAITS_MS, PATIENT_WAITS_MS } from "./gateway.ts";
import {
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
import { pcpMapper } from "./pcp/client.ts";
import { type IgdMapper, igdMapper } from "./upnp/client.ts";
import { isPlausibleExternalIp, type MappingVerdict, mappingVerdict } from "./verdict.ts";

/** Which gateways to ask. */
export interface MappingTableOptions {
  /** The gateway's IP address; the host's IPv4 default gateways by default. */
  readonly gateway?: string;
  /** Aborts the call. */
  readonly signal?: AbortSignal;
  /** The system's network by default. */
  readonly network?: Network;
}

/** One gateway's table of mappings. */
export interface GatewayMappings {
  /** Its IP address. */
  readonly address: string;
  /** The mappings, as far as it lists them. */
  readonly mappings: readonly ListedMapping[];
  /** Why it lists none; `null` if it does. */
  readonly problem: string | null;
}

/** One mapping in a gateway's table. */
export interface ListedMapping {
  /** The transport protocol. */
  readonly transport: "tcp" | "udp";
  /** The external port. */
  readonly externalPort: number;
  /** The host that the mapping leads to, such as `192.168.1.2:8080`. */
  readonly internal: string;
  /** 0 if it never expires, or the router does not say. */
  readonly leaseSeconds: number;
  /** The description that the creator of the mapping gave it. */
  readonly description: string;
  /** Whether it is in effect. */
  readonly enabled: boolean;
}

/**
 * Lists the mappings on all gateways, by UPnP.
 *
 * @throws {NoMappingError} if there is no gateway
 */
export async function listMappings(options: MappingTableOptions = {}): Promise<GatewayMappings[]> {
  const { network = systemNetwork, signal } = options;
  const gateways = await requireGateways(options, "list mappings");
  const tables = await Promise.all(gateways.map(async (gateway) => {
    return { source: gateway.source, table: await tableOf(gateway, network, signal) };
  }));
  const answering = tables.filter(({ table }) => table.problem === null);
  // A guessed gateway that does not answer probably does not exist.
  const worth = tables.filter(({ source }) => source !== "guess" || answering.length === 0);
  return [...new Set([...answering, ...worth])].map(({ table }) => table);
}

/** Which mappings to close. */
export interface DeleteMappingsOptions extends MappingTableOptions {
  /** The transport protocol. */
  readonly protocol: "tcp" | "udp";
  /** A port of this host; or, if no mapping leads to it, the external port of a mapping to this host. */
  readonly port: number;
}

/** A mapping that was closed. */
export interface DeletedMapping {
  /** The protocol that closed it. */
  readonly protocol: MapperName;
  /** The transport protocol. */
  readonly transport: "tcp" | "udp";
  /** Its external port; `null` if the protocol does not say whether there was a mapping. */
  readonly external: number | null;
  /** The gateway's IP address. */
  readonly gateway: string;
}

/**
 * Closes the mappings to a port of this host: by UPnP those in the gateway's table, by NAT-PMP whatever there is.
 *
 * @returns what was closed, as far as the gateways say
 * @throws {NoMappingError} if every gateway failed
 */
export async function deleteMappings(options: DeleteMappingsOptions): Promise<DeletedMapping[]> {
  const { network = systemNetwork, protocol, port, signal } = options;
  const gateways = await requireGateways(options, `delete ${protocol.toUpperCase()} port ${port}`);
  const attempts: MappingAttempt[] = [];
  const deleted = await Promise.all(gateways.flatMap((gateway) => {
    const attempt = async (mapper: MapperName, run: () => Promise<DeletedMapping[]>) => {
      const startMs = performance.now();
      try {
        return await run();
      } catch (error) {
        signal?.throwIfAborted();
        if (!(error instanceof PunchlineError)) throw error;
        const call = { protocol: mapper, gateway, elapsedMs: performance.now() - startMs };
        attempts.push(mappingAttempt(call, error));
        return [];
      }
    };
    const igd = igdMapper(gateway.ip, { network, local: gateway.localIp });
    const natPmp = natPmpMapper(gateway.ip, { network, waitsMs: INTERACTIVE_WAITS_MS });
    return [
      attempt("upnp", () => deleteByUpnp(igd, gateway, options)),
      attempt("nat-pmp", () => deleteByNatPmp(natPmp, gateway, options)),
    ];
  }));
  const all = deleted.flat();
  if (all.length > 0 || attempts.length < 2 * gateways.length) return all;
  throw new NoMappingError(`delete ${protocol.toUpperCase()} port ${port}`, attempts);
}

/** Which gateways to probe. */
export interface ProbeGatewaysOptions {
  /** The gateway's IP address; the host's default gateways by default. */
  readonly gateway?: string;
  /** STUN servers for the verdict, `HOST[:PORT]`; none by default. */
  readonly servers?: readonly string[];
  /** Aborts the call. */
  readonly signal?: AbortSignal;
  /** The system's network by default. */
  readonly network?: Network;
}

/** How a gateway answered one protocol. */
export interface ProtocolReport {
  /** Whether it speaks the protocol. */
  readonly answer: "supported" | "refused" | "garbled" | "silent";
  /** The cause, and the remedy if there is one, in one line. */
  readonly detail: string;
}

/** How a gateway answered all protocols. */
export interface GatewayReport {
  /** Its IP address. */
  readonly address: string;
  /** Its answer to PCP. */
  readonly pcp: ProtocolReport;
  /** Its answer to NAT-PMP; `null` for IPv6, which NAT-PMP does not know. */
  readonly natPmp: ProtocolReport | null;
  /** Its answer to UPnP. */
  readonly upnp: ProtocolReport;
  /** Its external address; `null` if it does not report one. */
  readonly external: string | null;
  /** Whether the internet could reach a mapping on it; `null` if it maps nothing. */
  readonly verdict: MappingVerdict["kind"] | null;
  /** The verdict's cause and remedy, in one line. */
  readonly detail: string;
}

/**
 * Asks all gateways by all protocols at once, in five seconds at most if they do not answer, without changing anything.
 *
 * @throws {TypeError} if the gateway or a server is not an address
 * @throws {NetworkError} if this host's network cannot be used
 */
export async function probeGateways(options: ProbeGatewaysOptions = {}): Promise<GatewayReport[]> {
  const { network = systemNetwork, gateway, servers = [], signal } = options;
  const known = gateway === undefined ? [] : [gateway];
  const seen = checkExternalAddress({ network, family: 4, servers, signal });
  const gateways = await findGateways({ network, known, signal });
  const [seenIps, ...probes] = await Promise.all([
    seen,
    ...gateways.map((gateway) => probeGateway(gateway, network, signal)),
  ]);
  const isGuess = ({ gateway }: ProbedGateway) => gateway.source === "guess";
  return probes.filter((probe) => !isGuess(probe) || answers(probe))
    .map((probe) => reportOf(probe, seenIps));
}

async function requireGateways(
  { network = systemNetwork, gateway, signal }: MappingTableOptions,
  action: string,
): Promise<Gateway[]> {
  const known = gateway === undefined ? [] : [gateway];
  const found = await findGateways({ network, known, signal });
  const gateways = found.filter(({ ip }) => ipFamily(ip) === 4);
  if (gateways.length > 0) return gateways;
  throw new NoMappingError(action, []);
}

async function tableOf(
  { ip, localIp }: Gateway,
  network: Network,
  signal: AbortSignal | undefined,
): Promise<GatewayMappings> {
  try {
    const entries = await igdMapper(ip, { network, local: localIp }).listMappings({ signal });
    const mappings = entries.map((entry): ListedMapping => ({
      transport: entry.protocol,
      externalPort: entry.externalPort,
      internal: formatTransportAddress({ ip: entry.internalClient, port: entry.internalPort }),
      leaseSeconds: entry.leaseSeconds,
      description: printable(entry.description),
      enabled: entry.enabled,
    }));
    return { address: ip, mappings, problem: null };
  } catch (error) {
    signal?.throwIfAborted();
    if (!(error instanceof PunchlineError)) throw error;
    return { address: ip, mappings: [], problem: error.message };
  }
}

/** Descriptions end up on terminals. */
function printable(text: string): string {
  return text.replaceAll(/\p{Control}/gu, "").slice(0, MAX_DESCRIPTION);
}

async function deleteByUpnp(
  mapper: IgdMapper,
  { localIp }: Gateway,
  { protocol, port, signal }: DeleteMappingsOptions,
): Promise<DeletedMapping[]> {
  const entries = (await mapper.listMappings({ signal })).filter((entry) =>
    entry.protocol === protocol && entry.internalClient === localIp
  );
  const byInternalPort = entries.filter(({ internalPort }) => internalPort === port);
  const chosen = byInternalPort.length > 0
    ? byInternalPort
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

interface ProbedGateway {
  readonly gateway: Gateway;
  readonly pcp: ProbeResult;
  readonly natPmp: ProbeResult | undefined;
  readonly upnp: ProbeResult;
}

async function probeGateway(
  gateway: Gateway,
  network: Network,
  signal: AbortSignal | undefined,
): Promise<ProbedGateway> {
  const { ip, localIp } = gateway;
  const isIpv4 = ipFamily(ip) === 4;
  const probe = (mapper: PortMapper) => mapper.probe({ signal });
  const waitsMs = PATIENT_WAITS_MS;
  const [pcp, natPmp, upnp] = await Promise.all([
    probe(pcpMapper(ip, { network, localIp, waitsMs })),
    isIpv4 ? probe(natPmpMapper(ip, { network, waitsMs })) : undefined,
    probe(igdMapper(ip, { network, local: localIp })),
  ]);
  return { gateway, pcp, natPmp, upnp };
}

function answers({ pcp, natPmp, upnp }: ProbedGateway): boolean {
  return [pcp, natPmp, upnp].some((result) => result !== undefined && result.kind !== "silent");
}

function reportOf(
  { gateway, pcp, natPmp, upnp }: ProbedGateway,
  seenIps: readonly string[],
): GatewayReport {
  const results = [natPmp, upnp, pcp];
  const external = results
    .map((result) => result?.kind === "supported" ? result.externalIp : undefined)
    .find((ip) => ip !== undefined && isPlausibleExternalIp(ip));
  const mapsPorts = results.some((result) => result?.kind === "supported");
  const externalIp = ipFamily(gateway.ip) === 6 ? gateway.localIp : external ?? "0.0.0.0";
  const verdict = mapsPorts ? mappingVerdict({ externalIp, seenIps }) : undefined;
  return {
    address: gateway.ip,
    pcp: protocolReport("pcp", pcp),
    natPmp: natPmp === undefined ? null : protocolReport("nat-pmp", natPmp),
    upnp: protocolReport("upnp", upnp),
    external: external ?? null,
    verdict: verdict?.kind ?? null,
    detail: verdict === undefined ? NO_PROTOCOL : detailOf(verdict),
  };
}

function detailOf({ evidence, remedy }: MappingVerdict): string {
  return remedy === undefined ? evidence : `${evidence}: ${remedy}`;
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
      return { answer: "garbled", detail: `the answer is not ${PROTOCOL_NAMES[protocol]}` };
    case "silent":
      return { answer: "silent", detail: SILENCE_REMEDIES[protocol] };
  }
}

const NO_PROTOCOL =
  "the router opens no ports: enable UPnP or NAT-PMP in it, or open the port manually";

/** Chosen by us: a description has to fit on a line. */
const MAX_DESCRIPTION = 60;
