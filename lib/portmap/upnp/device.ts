/**
 * Descriptions of UPnP devices: UPnP Device Architecture 2.0 §2.3.
 *
 * @module
 */

import { MalformedMessageError } from "../../base/errors.ts";
import {
  formatTransportAddress,
  ipFamily,
  ipScope,
  ipToBytes,
  isIp,
  parseIp,
  type TransportAddress,
  withoutZone,
} from "../../net/address.ts";
import { childOf, childText, findElement, parseXml, type XmlElement } from "./xml.ts";

/** What a device says about itself, and about the devices in it. */
export interface DeviceDescription {
  /** What relative URLs are relative to; empty if it does not say, as it should. */
  readonly urlBase: string;
  /** Of the root device. */
  readonly deviceType: string;
  readonly friendlyName: string;
  readonly modelName: string;
  /** Of all its devices, in the order of the document. */
  readonly services: readonly ServiceDescription[];
}

/** One service; URLs as they were sent. */
export interface ServiceDescription {
  readonly serviceType: string;
  readonly serviceId: string;
  readonly controlUrl: string;
  readonly eventSubUrl: string;
  readonly scpdUrl: string;
}

/**
 * Reads a description.
 *
 * @throws {MalformedMessageError} if it is not XML, or describes no device
 */
export function decodeDeviceDescription(bytes: Uint8Array): DeviceDescription {
  const root = parseXml(bytes);
  const device = findElement(root, "device");
  if (device === undefined) {
    throw new MalformedMessageError("Cannot read device description: it has no device element");
  }
  const services: ServiceDescription[] = [];
  collectServices(device, services);
  return {
    urlBase: childText(root, "URLBase"),
    deviceType: childText(device, "deviceType"),
    friendlyName: childText(device, "friendlyName"),
    modelName: childText(device, "modelName"),
    services,
  };
}

function collectServices(device: XmlElement, services: ServiceDescription[]): void {
  for (const service of childrenOfList(device, "serviceList", "service")) {
    if (services.length === MAX_SERVICES) return;
    services.push({
      serviceType: childText(service, "serviceType"),
      serviceId: childText(service, "serviceId"),
      controlUrl: childText(service, "controlURL"),
      eventSubUrl: childText(service, "eventSubURL"),
      scpdUrl: childText(service, "SCPDURL"),
    });
  }
  for (const inner of childrenOfList(device, "deviceList", "device")) {
    collectServices(inner, services);
  }
}

function childrenOfList(device: XmlElement, list: string, name: string): readonly XmlElement[] {
  const children = childOf(device, list)?.children ?? [];
  return children.filter((child) => child.name === name);
}

/** Ours: gateways have about ten. */
const MAX_SERVICES = 100;

/** A URL of a device, without the name of a host in it. */
export interface DeviceUrl {
  readonly address: TransportAddress;
  /** Path and query, beginning with a slash. */
  readonly target: string;
}

/** What this host knows of the link that a device is on. */
export interface DeviceLink {
  /** The gateway, if it is known. */
  readonly gateway?: string;
  /** An address of this host on the link; the wildcard if it is not known. */
  readonly local: string;
  /** How long the link's prefix is; the usual 24 and 64 unless told. */
  readonly prefixLength?: number;
}

/**
 * Reads a LOCATION.
 *
 * @param zone of the link, such as `%eth0`, for link-local addresses: devices cannot know it
 * @throws {MalformedMessageError} unless it is HTTP at an IP address, on port 80 or one from 1024
 */
export function parseLocation(location: string, zone = ""): DeviceUrl {
  const url = parseUrl(location.replace(THEIR_ZONE, "$1]"));
  if (url === undefined || url.protocol !== "http:" || url.username !== "" || url.password !== "") {
    throw malformed(location, "not a plain HTTP URL");
  }
  const host = url.hostname.replace(/^\[(.*)\]$/, "$1");
  if (!isIp(host)) throw malformed(location, "its host is a name");
  const ip = parseIp(host);
  return {
    address: { ip: ipScope(ip) === "link-local" ? ip + zone : ip, port: portOf(url, location) },
    target: url.pathname + url.search,
  };
}

/**
 * Reads a URL in a description: absolute, or relative to the description's own or its URLBase. The host is always
 * the description's, whatever the URL says: devices name loopback, addresses of another side, or names.
 *
 * @throws {MalformedMessageError} if it makes no sense even so
 */
export function resolveDeviceUrl(location: DeviceUrl, text: string, urlBase = ""): DeviceUrl {
  const own = `http://${
    formatTransportAddress({ ...location.address, ip: withoutZone(location.address.ip) })
  }${location.target}`;
  const base = parseUrl(urlBase, own);
  const url = base && parseUrl(text, base.href) || parseUrl(text, own);
  if (url === undefined || url.protocol !== "http:") throw malformed(text, "not an HTTP URL");
  return {
    address: { ip: location.address.ip, port: portOf(url, text) },
    target: url.pathname + url.search,
  };
}

/** Why an address is not to be asked; `undefined` if it may be. */
export function whyForbidden(ip: string, link: DeviceLink): string | undefined {
  const scope = ipScope(ip);
  if (scope === "loopback" || scope === "unspecified" || scope === "multicast") {
    return `${ip} is ${scope}`;
  }
  if (ip === link.local) return `${ip} is this host's own`;
  if (ip === link.gateway) return undefined;
  if (scope === "link-local" && ipFamily(ip) === 6) return undefined;
  return isOnLink(ip, link) ? undefined : `${ip} is neither the gateway nor on its link`;
}

function isOnLink(ip: string, { gateway, local, prefixLength }: DeviceLink): boolean {
  const bits = prefixLength ?? (ipFamily(ip) === 4 ? 24 : 64);
  return [local, gateway].some((known) =>
    known !== undefined && ipScope(known) !== "unspecified" && samePrefix(ip, known, bits)
  );
}

function samePrefix(a: string, b: string, bits: number): boolean {
  const [left, right] = [ipToBytes(a), ipToBytes(b)];
  if (left.length !== right.length) return false;
  return left.every((byte, index) => {
    const mask = 0xff << Math.min(8, Math.max(0, (index + 1) * 8 - bits)) & 0xff;
    return (byte & mask) === (right[index]! & mask);
  });
}

function parseUrl(text: string, base?: string): URL | undefined {
  return URL.parse(text, base) ?? undefined;
}

/** Devices serve UPnP on 80 or a port that takes no privileges; any other is somebody else's service. */
function portOf(url: URL, text: string): number {
  const port = Number(url.port || 80);
  if (port === 80 || port >= 1024) return port;
  throw malformed(text, `port ${port} is not one of UPnP`);
}

function malformed(text: string, reason: string): MalformedMessageError {
  return new MalformedMessageError(
    `Cannot use URL ${JSON.stringify(text.slice(0, 100))}: ${reason}`,
  );
}

/** A zone means something to the host that it is on alone; `URL` takes none. */
const THEIR_ZONE = /^(\s*http:\/\/\[[^\]%]*)%[^\]]*\]/i;

/** A gateway, as far as opening ports goes. */
export interface IgdDevice {
  /** Where its description is. */
  readonly location: DeviceUrl;
  /** What people know it as. */
  readonly name: string;
  /** Those that map IPv4 ports, the most promising first; there may be none. */
  readonly connections: readonly IgdService[];
  /** The IPv6 firewall. */
  readonly firewall: IgdService | undefined;
}

/** A service that can be called. */
export interface IgdService {
  /** As the device spells it. */
  readonly serviceType: string;
  readonly kind: "WANIPConnection" | "WANPPPConnection" | "WANIPv6FirewallControl";
  /** 1 if it does not say. */
  readonly version: number;
  readonly control: DeviceUrl;
}

/**
 * The services that open ports, if there are any.
 *
 * @param location where the description came from
 */
export function igdDevice(description: DeviceDescription, location: DeviceUrl): IgdDevice {
  const { friendlyName, modelName, services, urlBase } = description;
  const known = services.flatMap(({ serviceType, controlUrl }) => {
    const type = parseServiceType(serviceType);
    const control = type && tryResolve(location, controlUrl, urlBase);
    return type && control ? [{ serviceType, ...type, control }] : [];
  });
  return {
    location,
    name: friendlyName || modelName,
    connections: known.filter(({ kind }) => kind !== FIREWALL)
      // Newer ones do more, and where both are, the one of IP is usually the one in use.
      .sort((a, b) => b.version - a.version || a.kind.localeCompare(b.kind)),
    firewall: known.find(({ kind }) => kind === FIREWALL),
  };
}

/** What a service type means, in any of its spellings; `undefined` if it is another service. */
export function parseServiceType(
  text: string,
): Pick<IgdService, "kind" | "version"> | undefined {
  const match = SERVICE_TYPE.exec(text.trim());
  const kind = KINDS.find((name) => name.toLowerCase() === match?.[1]?.toLowerCase());
  return kind && { kind, version: Number(match?.[2] ?? 1) };
}

function tryResolve(
  location: DeviceUrl,
  controlUrl: string,
  urlBase: string,
): DeviceUrl | undefined {
  if (controlUrl === "") return undefined;
  try {
    return resolveDeviceUrl(location, controlUrl, urlBase);
  } catch (error) {
    if (error instanceof MalformedMessageError) return undefined; // other services may do
    throw error;
  }
}

const SERVICE_TYPE = /^urn:(?:schemas-upnp-org|dslforum-org):service:([a-z0-9]+)(?::(\d{1,2}))?$/i;
const FIREWALL = "WANIPv6FirewallControl";
const KINDS = ["WANIPConnection", "WANPPPConnection", FIREWALL] as const;
