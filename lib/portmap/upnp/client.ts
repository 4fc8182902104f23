/**
 * A UPnP IGD client: port mappings of IPv4 and pinholes of IPv6 on one gateway.
 *
 * @module
 */

import { NetworkError, NoResponseError } from "../../base/errors.ts";
import { ipFamily } from "../../net/address.ts";
import type { Network } from "../../net/network.ts";
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
import { IgdFinder, type KnownIgd } from "./discovery.ts";
import {
  closePinhole,
  describeFirewall,
  isPinholeWorking,
  openPinhole,
  renewPinhole,
} from "./pinhole.ts";
import { leaseSecondsFor } from "./fallbacks.ts";
import { unmapIgdPort } from "./mapping_deletion.ts";
import { findEntry, readMapping, type ShownMapping } from "./mapping_table.ts";
import { mapIgdPort } from "./port_mapping.ts";
import { call, connectionStatus, type IgdSession, listAllEntries } from "./session.ts";
import { SEARCH_MS } from "./ssdp.ts";

/** What {@linkcode igdMapper} takes. */
export interface IgdMapperOptions {
  /** The network of this host. */
  readonly network: Network;
  /** This host's address on the gateway's link; by default the mapped one, or the system's choice. */
  readonly local?: string;
  /** The prefix length of that link; 24 (IPv4) or 64 (IPv6) by default. */
  readonly prefixLength?: number;
}

/** A mapper with what only UPnP can do. */
export interface IgdMapper extends PortMapper {
  /** Searches for the gateway if it is not known yet, and asks it for nothing. */
  find(options?: MapperCallOptions): Promise<void>;
  /** What the gateway shows of a grant that is no pinhole. */
  checkMapping(grant: MappingGrant, options?: MapperCallOptions): Promise<ShownMapping>;
  /**
   * The IPv4 mappings of all hosts, as far as the gateway lists them.
   *
   * @throws {MappingRefusedError} if it lists none
   */
  listMappings(options?: MapperCallOptions): Promise<PortMappingEntry[]>;
  /** Deletes a mapping of any host. A mapping that is not there is not an error. */
  deleteMapping(key: PortMappingKey, options?: MapperCallOptions): Promise<void>;
  /** Whether packets have passed a pinhole; `"unknown"` if the gateway does not say, or no packet has arrived yet. */
  checkPinhole(grant: MappingGrant, options?: MapperCallOptions): Promise<boolean | "unknown">;
}

/**
 * UPnP with one gateway. The first call searches for it. Calls of one device run one after the other.
 *
 * @param gateway its IP address; a link-local one with its zone
 */
export function igdMapper(gateway: string, options: IgdMapperOptions): IgdMapper {
  return new Igd(gateway, options);
}

/** The content of a {@linkcode MappingGrant.handle}. */
export type IgdHandle =
  | {
    readonly kind: "port";
    readonly serviceType: string;
    /** The path of the service that granted it: a device may have several of one type. */
    readonly control?: string;
    /** The mapping's description in the router's table, which renewals keep. */
    readonly description: string;
    /** The lease that the device grants, if that is less than what was requested; 0 for a permanent one. */
    readonly leaseSeconds?: number;
  }
  | { readonly kind: "pinhole"; readonly uniqueId: number };

/** Encodes a handle as text. */
export function encodeHandle(handle: IgdHandle): string {
  return JSON.stringify(handle);
}

/**
 * Decodes a handle.
 *
 * @throws {TypeError} if {@linkcode encodeHandle} did not write it
 */
export function decodeHandle(text: string): IgdHandle {
  const handle = tryParse(text);
  if (typeof handle === "object" && handle !== null && "kind" in handle) {
    if (handle.kind === "pinhole" && "uniqueId" in handle && typeof handle.uniqueId === "number") {
      return { kind: "pinhole", uniqueId: handle.uniqueId };
    }
    if (
      handle.kind === "port" && "serviceType" in handle && "description" in handle &&
      typeof handle.serviceType === "string" && typeof handle.description === "string"
    ) {
      const { serviceType, description } = handle;
      return {
        kind: "port",
        serviceType,
        description,
        ...optionalText(handle, "control"),
        ..."leaseSeconds" in handle && typeof handle.leaseSeconds === "number"
          ? { leaseSeconds: handle.leaseSeconds }
          : {},
      };
    }
  }
  throw new TypeError(`Cannot use grant: its handle is ${JSON.stringify(text.slice(0, 80))}`);
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

  async checkMapping(grant: MappingGrant, { signal }: MapperCallOptions = {}) {
    checkGrant(grant, "upnp");
    const handle = decodeHandle(grant.handle);
    const { protocol, external, internal } = grant;
    const key = { protocol, externalPort: external.port };
    return await this.#with(internal.ip, signal, async (session, known) => {
      const [service] = this.#servicesFor(known, handle, "Cannot read mapping");
      const shown = await readMapping(session, service!, key);
      const { entry } = shown;
      return {
        ...shown,
        entry: await findEntry(session, service!, { key, target: grant, entry }),
      };
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
      const { description, leaseSeconds = Infinity } = handle;
      const lifetimeSeconds = leaseSeconds === 0
        ? Infinity
        : Math.min(again.lifetimeSeconds, leaseSeconds);
      return await this.#map({ ...again, description, lifetimeSeconds }, options, handle);
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
      const services = this.#servicesFor(known, handle, action);
      const key = { protocol: grant.protocol, externalPort: grant.external.port };
      await unmapIgdPort(session, services, { key, target: grant, action });
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
      const services = this.#servicesFor(known, undefined, "Cannot list mappings");
      return await listAllEntries(session, services);
    });
  }

  async deleteMapping(key: PortMappingKey, { signal }: MapperCallOptions = {}): Promise<void> {
    const action = `Cannot delete mapping of ${key.protocol.toUpperCase()} ${key.externalPort}`;
    await this.#with(undefined, signal, async (session, known) => {
      const services = this.#servicesFor(known, undefined, action);
      await unmapIgdPort(session, services, { key, action });
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
      const services = this.#servicesFor(known, before, cannot("map", request));
      const { service, ...granted } = await mapIgdPort(session, services, request);
      const { askedLeaseSeconds } = granted;
      const isShort = askedLeaseSeconds !== leaseSecondsFor(request.lifetimeSeconds);
      return {
        mapper: "upnp",
        protocol: request.protocol,
        internal: request.internal,
        external: { ip: granted.externalIp, port: granted.externalPort },
        lifetimeSeconds: granted.leaseSeconds,
        grantedAtMs: performance.now(),
        gateway: this.gateway,
        handle: encodeHandle({
          kind: "port",
          serviceType: service.serviceType,
          control: service.control.target,
          description: granted.description,
          ...isShort || before?.kind === "port" && before.leaseSeconds !== undefined
            ? { leaseSeconds: askedLeaseSeconds }
            : {},
        }),
      };
    });
  }

  /** The service of the handle first, then the others; at least one. */
  #servicesFor(
    known: KnownIgd,
    handle: IgdHandle | undefined,
    action: string,
  ): readonly IgdService[] {
    const first = sameService(known, handle) ?? requireConnection(known, action, this.gateway);
    return [first, ...known.connections.filter((service) => service !== first)];
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
   * Runs a job with the device. If the device was found before but has moved, the job runs once more after a new search.
   *
   * @param local the address that the job is about, if any
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

/** Whether the device may have moved: its port changes with restarts (kubo #8963). */
function isOfMovedDevice(error: unknown): boolean {
  if (error instanceof NoResponseError) return true;
  if (error instanceof NetworkError) return MOVED_REASONS.includes(error.reason);
  return error instanceof MappingRefusedError &&
    ["no SOAP", "connection reset"].includes(error.reason);
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

/** The service that granted, which may have another port by now; `undefined` if it cannot be told from others. */
function sameService(
  { connections }: KnownIgd,
  handle: IgdHandle | undefined,
): IgdService | undefined {
  if (handle?.kind !== "port") return undefined;
  const { serviceType, control } = handle;
  const alike = connections.filter((service) => service.serviceType === serviceType);
  return alike.find((service) => service.control.target === control) ?? alike[0];
}

function optionalText<Name extends string>(
  value: object,
  name: Name,
): { readonly [Key in Name]?: string } {
  const text = Object.entries(value).find(([key]) => key === name)?.[1];
  return typeof text === "string" ? { [name]: text } as { [Key in Name]: string } : {};
}

/** Without control characters, as it ends up on terminals. */
function describe(parts: readonly (string | undefined)[]): string {
  return parts.filter((part) => part !== undefined && part !== "").join(", ")
    .replaceAll(/\p{Control}/gu, "");
}

function tryParse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

const MOVED_REASONS = ["refused", "reset", "unreachable", "timed-out"];

/** Chosen by us: a device's name has to fit on a line. */
const MAX_NAME = 60;
