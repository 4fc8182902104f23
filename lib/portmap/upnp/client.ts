/**
 * UPnP IGD with one gateway: port mappings of IPv4 and pinholes of IPv6.
 *
 * @module
 */

import { MalformedMessageError, NetworkError, NoResponseError } from "../../base/errors.ts";
import { SharedJob } from "../../base/tasks.ts";
import { ipFamily } from "../../net/address.ts";
import type { Network } from "../../net/network.ts";
import { isSameIp } from "../gateway.ts";
import {
  cannot,
  checkGrant,
  checkRequest,
  type MapperCallOptions,
  type MappingGrant,
  MappingRefusedError,
  type MappingRequest,
  type PortMapper,
  type ProbeResult,
  sameAgain,
} from "../mapper.ts";
import { probeResult } from "../probe.ts";
import { getExternalIpAddress, type PortMappingEntry, type PortMappingKey } from "./actions.ts";
import type { DeviceLink, IgdService } from "./device.ts";
import { discoverIgds, type FoundIgd, isGateway } from "./discovery.ts";
import {
  closePinhole,
  describeFirewall,
  isPinholeWorking,
  openPinhole,
  renewPinhole,
} from "./pinhole.ts";
import { isTakenByOthers, mapIgdPort, readEntry, unmapIgdPort } from "./port_mapping.ts";
import {
  call,
  connectionStatus,
  type IgdSession,
  isOfDevice,
  listEntries,
  promiseOf,
  rankConnections,
  tryCall,
} from "./session.ts";
import { SoapClient } from "./soap.ts";
import { SEARCH_MS } from "./ssdp.ts";

/** A device, ready to be called. */
export interface KnownIgd {
  readonly found: FoundIgd;
  readonly soap: SoapClient;
  /** In the order of their use. */
  readonly connections: readonly IgdService[];
}

/** Knows the device of one gateway. */
export class IgdFinder {
  readonly #network: Network;
  readonly #gateway: string;
  #known: KnownIgd | undefined;
  #search: SharedJob<KnownIgd> | undefined;

  constructor(network: Network, gateway: string) {
    this.#network = network;
    this.#gateway = gateway;
  }

  /** Whether the device has been found before. */
  get hasFound(): boolean {
    return this.#known !== undefined;
  }

  /**
   * The device, searched for unless it is known.
   *
   * @throws {NoResponseError} if nobody answers
   * @throws {MalformedMessageError} if what the gateway answers leads nowhere
   * @throws {MappingRefusedError} if it is not one that opens ports
   */
  async find(link: DeviceLink, signal?: AbortSignal): Promise<KnownIgd> {
    if (this.#known !== undefined) return this.#known;
    if (this.#search === undefined || this.#search.isAborted) {
      const search: SharedJob<KnownIgd> = this.#search = new SharedJob(async (signal) => {
        try {
          return this.#known = await this.#findOnLink(link, signal);
        } finally {
          if (this.#search === search) this.#search = undefined;
        }
      });
    }
    return await this.#search.join(signal);
  }

  /** Forgets a device that no longer is where it was. */
  forget(known: KnownIgd): void {
    if (this.#known === known) this.#known = undefined;
  }

  async #findOnLink(link: DeviceLink, signal: AbortSignal): Promise<KnownIgd> {
    const problems: Error[] = [];
    const others: FoundIgd[] = [];
    const search = discoverIgds(this.#network, {
      links: [link],
      signal,
      onProblem: (problem, responder) => {
        if (isSameIp(responder, this.#gateway)) problems.push(problem);
      },
    });
    for await (const found of search) {
      if (isGateway(found, this.#gateway)) return await this.#know(found, signal);
      others.push(found);
    }
    for (const found of others) {
      const known = await this.#know(found, signal);
      if (await this.#leadsOut(known, signal)) return known;
    }
    throw this.#notFound(problems);
  }

  async #know(found: FoundIgd, signal: AbortSignal): Promise<KnownIgd> {
    const soap = new SoapClient(this.#network);
    const connections = await rankConnections(this.#session(found, soap, signal));
    return { found, soap, connections };
  }

  /** Another device of the link than the gateway is used only if all speaks for it: it may be an access point. */
  async #leadsOut({ found, soap, connections }: KnownIgd, signal: AbortSignal): Promise<boolean> {
    const [first] = connections;
    if (first === undefined) return false;
    return promiseOf(await connectionStatus(this.#session(found, soap, signal), first)) === 3;
  }

  #session(found: FoundIgd, soap: SoapClient, signal: AbortSignal): IgdSession {
    const { device, link } = found;
    return { device, soap, gateway: this.#gateway, local: link.local, signal };
  }

  #notFound(problems: readonly Error[]): Error {
    const refusal = problems.find((problem) => problem instanceof MappingRefusedError);
    if (refusal !== undefined) return refusal;
    const [problem] = problems;
    const cannot = `Cannot find UPnP at gateway ${this.#gateway}`;
    return problem === undefined
      ? new NoResponseError(`${cannot}: no answer in ${SEARCH_MS} ms`)
      : new MalformedMessageError(`${cannot}: ${problem.message}`, { cause: problem });
  }
}

/** Whether an error may come from asking where the device no longer is: ports change with restarts (kubo #8963). */
export function isOfMovedDevice(error: unknown): boolean {
  if (error instanceof NoResponseError) return true;
  if (error instanceof NetworkError) return MOVED.includes(error.reason);
  return error instanceof MappingRefusedError &&
    ["no SOAP", "connection reset"].includes(error.reason);
}

const MOVED = ["refused", "reset", "unreachable", "timed-out"];

/** In a {@linkcode MappingGrant.handle}. */
export type IgdHandle =
  | {
    readonly kind: "port";
    readonly serviceType: string;
    /** Under which name the mapping stands in the router: renewing it is to keep that. */
    readonly description: string;
  }
  | { readonly kind: "pinhole"; readonly uniqueId: number };

/** The handle as text. */
export function encodeHandle(handle: IgdHandle): string {
  return JSON.stringify(handle);
}

/**
 * Reads a handle.
 *
 * @throws {TypeError} if it is none that {@linkcode encodeHandle} wrote
 */
export function decodeHandle(text: string): IgdHandle {
  const handle = parse(text);
  if (typeof handle === "object" && handle !== null && "kind" in handle) {
    if (handle.kind === "pinhole" && "uniqueId" in handle && typeof handle.uniqueId === "number") {
      return { kind: "pinhole", uniqueId: handle.uniqueId };
    }
    if (
      handle.kind === "port" && "serviceType" in handle && "description" in handle &&
      typeof handle.serviceType === "string" && typeof handle.description === "string"
    ) {
      const { serviceType, description } = handle;
      return { kind: "port", serviceType, description };
    }
  }
  throw new TypeError(`Cannot use grant: its handle is ${JSON.stringify(text.slice(0, 80))}`);
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** What {@linkcode igdMapper} takes. */
export interface IgdMapperOptions {
  /** The network of the host that asks. */
  readonly network: Network;
  /** An address of this host on the gateway's link; the system's choice, or the mapped one, unless given. */
  readonly local?: string;
  /** How long the prefix of that link is; the usual 24 (IPv4) or 64 (IPv6) unless given. */
  readonly prefixLength?: number;
}

/** What UPnP can do beside what all protocols can. */
export interface IgdMapper extends PortMapper {
  /** Searches for the gateway, unless it is known; asks it for nothing. */
  find(options?: MapperCallOptions): Promise<void>;
  /** The entry of an external port as the gateway reads it now; `undefined` if there is none. */
  readMapping(
    key: PortMappingKey,
    options?: MapperCallOptions,
  ): Promise<PortMappingEntry | undefined | "unknown">;
  /**
   * The table of IPv4 mappings, of all hosts, as far as the gateway lists it.
   *
   * @throws {MappingRefusedError} if it does not
   */
  listMappings(options?: MapperCallOptions): Promise<PortMappingEntry[]>;
  /** Deletes a mapping, whosever it is. That it is not there is no error. */
  deleteMapping(key: PortMappingKey, options?: MapperCallOptions): Promise<void>;
  /** Whether packets have come through a pinhole; `"unknown"` where the gateway does not tell, or none has been sent. */
  checkPinhole(grant: MappingGrant, options?: MapperCallOptions): Promise<boolean | "unknown">;
}

/**
 * UPnP with one gateway, which is searched for at the first call. Calls of one device follow one another.
 *
 * @param gateway its IP address; a link-local one with its zone
 */
export function igdMapper(gateway: string, options: IgdMapperOptions): IgdMapper {
  return new Igd(gateway, options);
}

class Igd implements IgdMapper {
  readonly name = "upnp";
  readonly gateway: string;
  readonly #options: IgdMapperOptions;
  readonly #finder: IgdFinder;

  constructor(gateway: string, options: IgdMapperOptions) {
    this.gateway = gateway;
    this.#options = options;
    this.#finder = new IgdFinder(options.network, gateway);
  }

  async find({ signal }: MapperCallOptions = {}): Promise<void> {
    await this.#finder.find(this.#linkOf(undefined), signal);
  }

  async readMapping(key: PortMappingKey, { signal }: MapperCallOptions = {}) {
    return await this.#with(undefined, signal, async (session, known) => {
      const service = requireConnection(known, "Cannot read mapping", this.gateway);
      return await readEntry(session, service, key);
    });
  }

  async map(request: MappingRequest, options: MapperCallOptions = {}): Promise<MappingGrant> {
    checkRequest(request);
    return await this.#map(request, options);
  }

  async renew(
    grant: MappingGrant,
    options: MapperCallOptions & { lifetimeSeconds?: number } = {},
  ): Promise<MappingGrant> {
    checkGrant(grant, "upnp");
    const handle = decodeHandle(grant.handle);
    const again = sameAgain(grant, options.lifetimeSeconds);
    if (handle.kind === "port") {
      return await this.#map({ ...again, description: handle.description }, options, handle);
    }
    return await this.#with(grant.internal.ip, options.signal, async (session) => {
      const { uniqueId, leaseSeconds } = await renewPinhole(session, handle.uniqueId, again);
      return this.#pinholeGrant(again, uniqueId, leaseSeconds);
    });
  }

  async release(grant: MappingGrant, { signal }: MapperCallOptions = {}): Promise<void> {
    checkGrant(grant, "upnp");
    const handle = decodeHandle(grant.handle);
    const action = cannot("release", grant);
    await this.#with(grant.internal.ip, signal, async (session, known) => {
      if (handle.kind === "pinhole") return await closePinhole(session, handle.uniqueId, action);
      const service = sameService(known, handle) ?? requireConnection(known, action, this.gateway);
      const key = { protocol: grant.protocol, externalPort: grant.external.port };
      const mayBeOthers = isExpired(grant) &&
        await isTakenByOthers(session, service, { key, request: sameAgain(grant) });
      if (!mayBeOthers) await unmapIgdPort(session, service, { key, action });
    });
  }

  async externalIp({ signal }: MapperCallOptions = {}): Promise<string> {
    const action = "Cannot get external address";
    return await this.#with(undefined, signal, async (session, known) => {
      const service = requireConnection(known, action, this.gateway);
      return await call(session, service, getExternalIpAddress(), action);
    });
  }

  probe({ signal }: MapperCallOptions = {}): Promise<ProbeResult> {
    return probeResult(
      [SEARCH_MS],
      () =>
        this.#with(undefined, signal, async (session, { connections, found }) => {
          const firewall = await describeFirewall(session);
          const [service] = connections;
          const names = [found.device.name.slice(0, MAX_NAME), service?.serviceType];
          if (service === undefined) return { detail: describe([...names, firewall]) };
          const { status, externalIp } = await connectionStatus(session, service);
          return { externalIp, detail: describe([...names, status, firewall]) };
        }),
    );
  }

  async listMappings({ signal }: MapperCallOptions = {}): Promise<PortMappingEntry[]> {
    return await this.#with(undefined, signal, async (session, known) => {
      const service = requireConnection(known, "Cannot list mappings", this.gateway);
      return await listEntries(session, service);
    });
  }

  async deleteMapping(key: PortMappingKey, { signal }: MapperCallOptions = {}): Promise<void> {
    const action = `Cannot delete mapping of ${key.protocol.toUpperCase()} ${key.externalPort}`;
    await this.#with(undefined, signal, async (session, known) => {
      const service = requireConnection(known, action, this.gateway);
      await unmapIgdPort(session, service, { key, action });
    });
  }

  async checkPinhole(
    grant: MappingGrant,
    { signal }: MapperCallOptions = {},
  ): Promise<boolean | "unknown"> {
    checkGrant(grant, "upnp");
    const handle = decodeHandle(grant.handle);
    if (handle.kind === "port") throw new TypeError("Cannot check pinhole: the grant is a mapping");
    return await this.#with(grant.internal.ip, signal, async (session) => {
      return await isPinholeWorking(session, handle.uniqueId);
    });
  }

  async #map(
    request: MappingRequest,
    { signal }: MapperCallOptions,
    before?: IgdHandle,
  ): Promise<MappingGrant> {
    return await this.#with(request.internal.ip, signal, async (session, known) => {
      if (ipFamily(request.internal.ip) === 6) {
        const { uniqueId, leaseSeconds } = await openPinhole(session, request);
        return this.#pinholeGrant(request, uniqueId, leaseSeconds);
      }
      const first = sameService(known, before) ??
        requireConnection(known, cannot("map", request), this.gateway);
      const services = [first, ...known.connections.filter((service) => service !== first)];
      const { service, ...granted } = await mapIgdPort(session, services, request);
      return {
        mapper: "upnp",
        protocol: request.protocol,
        internal: request.internal,
        external: { ip: await externalIpOf(session, service), port: granted.externalPort },
        lifetimeSeconds: granted.leaseSeconds,
        grantedAtMs: performance.now(),
        gateway: this.gateway,
        handle: encodeHandle({
          kind: "port",
          serviceType: service.serviceType,
          description: granted.description,
        }),
      };
    });
  }

  #pinholeGrant(request: MappingRequest, uniqueId: number, leaseSeconds: number): MappingGrant {
    return {
      mapper: "upnp",
      protocol: request.protocol,
      internal: request.internal,
      external: request.internal,
      lifetimeSeconds: leaseSeconds,
      grantedAtMs: performance.now(),
      gateway: this.gateway,
      handle: encodeHandle({ kind: "pinhole", uniqueId }),
    };
  }

  /**
   * Runs a job with the device. If it was found before and is no longer there, it is searched for once more.
   *
   * @param local the address that the job is about, if it is about one
   */
  async #with<T>(
    local: string | undefined,
    signal: AbortSignal | undefined,
    job: (session: IgdSession, known: KnownIgd) => Promise<T>,
  ): Promise<T> {
    const link = this.#linkOf(local);
    const run = async (known: KnownIgd) => {
      const { soap, found } = known;
      const from = local ?? link.local;
      return await job(
        { device: found.device, soap, gateway: this.gateway, local: from, signal },
        known,
      );
    };
    const wasKnown = this.#finder.hasFound;
    const known = await this.#finder.find(link, signal);
    try {
      return await run(known);
    } catch (error) {
      signal?.throwIfAborted();
      if (!wasKnown || !isOfMovedDevice(error)) throw error;
      this.#finder.forget(known);
    }
    return await run(await this.#finder.find(link, signal));
  }

  #linkOf(local: string | undefined): DeviceLink {
    const family = ipFamily(this.gateway);
    const wildcard = family === 4 ? "0.0.0.0" : "::";
    const mapped = local !== undefined && ipFamily(local) === family ? local : wildcard;
    return {
      gateway: this.gateway,
      local: this.#options.local ?? mapped,
      prefixLength: this.#options.prefixLength,
    };
  }
}

/** The port is open whatever becomes of this question. */
async function externalIpOf(session: IgdSession, service: IgdService): Promise<string> {
  try {
    const outcome = await tryCall(session, service, getExternalIpAddress());
    return outcome.kind === "done" ? outcome.value : "0.0.0.0";
  } catch (error) {
    if (isOfDevice(error)) return "0.0.0.0";
    throw error;
  }
}

function requireConnection(
  { connections }: KnownIgd,
  action: string,
  gateway: string,
): IgdService {
  const [first] = connections;
  if (first !== undefined) return first;
  throw new MappingRefusedError(`${action}: gateway ${gateway} maps no IPv4 ports`, {
    mapper: "upnp",
    code: 401,
    reason: "no WANIPConnection",
    remedy: "Enable port mapping by UPnP in the router",
  });
}

function sameService(
  { connections }: KnownIgd,
  handle: IgdHandle | undefined,
): IgdService | undefined {
  if (handle?.kind !== "port") return undefined;
  return connections.find(({ serviceType }) => serviceType === handle.serviceType);
}

function isExpired({ grantedAtMs, lifetimeSeconds }: MappingGrant): boolean {
  return performance.now() > grantedAtMs + lifetimeSeconds * 1000;
}

/** Without control characters: it ends up on terminals. */
function describe(parts: readonly (string | undefined)[]): string {
  return parts.filter((part) => part !== undefined && part !== "").join(", ")
    .replaceAll(/\p{Control}/gu, "");
}

/** Ours: what a device calls itself is to fit on a line. */
const MAX_NAME = 60;
