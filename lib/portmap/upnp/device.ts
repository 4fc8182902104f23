/**
 * The description of a UPnP device, and the services in it that open ports: UPnP Device Architecture 2.0 §2.3.
 *
 * @module
 */

import { malformed, MalformedMessageError, undefinedIfMalformed } from "../../base/errors.ts";
import {
  formatTransportAddress,
  ipFamily,
  ipScope,
  ipToBytes,
  isSystemPort,
  type TransportAddress,
  withoutZone,
} from "../../net/address.ts";
import { childText, findElement, parseXml, type XmlElement } from "./xml.ts";

/** A device's description of itself, and of the devices in it. */
export interface DeviceDescription {
  /** The base of relative URLs; empty if it names none, as UDA 2.0 demands. */
  readonly urlBase: string;
  /** The type of the root device. */
  readonly deviceType: string;
  readonly friendlyName: string;
  readonly modelName: string;
  /** The services of all its devices, in the order of the document. */
  readonly services: readonly ServiceDescription[];
}

/** One service, with its URLs as they were sent. */
export interface ServiceDescription {
  readonly serviceType: string;
  readonly serviceId: string;
  readonly controlUrl: string;
  readonly eventSubUrl: string;
  readonly scpdUrl: string;
}

/**
 * Decodes a description.
 *
 * @throws {MalformedMessageError} if it is not XML, or describes no device
 */
export function decodeDeviceDescription(bytes: Uint8Array): DeviceDescription {
  const root = parseXml(bytes);
  const device = findElement(root, "device");
  if (device === undefined) {
    throw malformed("device description", "it has no device element");
  }
  const services: ServiceDescription[] = [];
  collectServices(root, services);
  return {
    urlBase: childText(root, "URLBase"),
    deviceType: childText(device, "deviceType"),
    friendlyName: childText(device, "friendlyName"),
    modelName: childText(device, "modelName"),
    services,
  };
}

/** A gateway's services that open ports. */
export interface IgdDevice {
  /** The URL of its description. */
  readonly location: DeviceUrl;
  /** Its name, for people. */
  readonly name: string;
  /** The services that map IPv4 ports, the most promising first; there may be none. */
  readonly connections: readonly IgdService[];
  /** The IPv6 firewall, if it offers control of one. */
  readonly firewall: IgdService | undefined;
}

/** A service that can be called. */
export interface IgdService {
  /** The type, as the device spells it. */
  readonly serviceType: string;
  readonly kind: "WANIPConnection" | "WANPPPConnection" | "WANIPv6FirewallControl";
  /** 1 if the type names none. */
  readonly version: number;
  readonly control: DeviceUrl;
}

/**
 * Picks the services that open ports from a description.
 *
 * @param location the description's URL
 */
export function igdDevice(description: DeviceDescription, location: DeviceUrl): IgdDevice {
  const { friendlyName, modelName, services, urlBase } = description;
  const known: IgdService[] = [];
  for (const { serviceType, controlUrl } of services) {
    const type = parseServiceType(serviceType);
    const control = type && tryResolve(location, controlUrl, urlBase);
    if (type === undefined || control === undefined) continue;
    // Some devices list a service twice.
    if (!known.some((one) => one.serviceType === serviceType && isSameUrl(one.control, control))) {
      known.push({ serviceType, ...type, control });
    }
  }
  return {
    location,
    name: friendlyName || modelName,
    connections: known.filter(({ kind }) => kind !== FIREWALL)
      // Newer versions can do more. Of both kinds, WANIPConnection is usually the one in use.
      .sort((a, b) => b.version - a.version || a.kind.localeCompare(b.kind))
      .slice(0, MAX_CONNECTIONS),
    firewall: known.find(({ kind }) => kind === FIREWALL),
  };
}

/** Parses a service type in any spelling; `undefined` if it is another service. */
export function parseServiceType(
  text: string,
): Pick<IgdService, "kind" | "version"> | undefined {
  const match = SERVICE_TYPE.exec(text.trim());
  const kind = KINDS.find((name) => name.toLowerCase() === match?.[1]?.toLowerCase());
  return kind && { kind, version: Number(match?.[2] ?? 1) };
}

/** A URL of a device, with an IP address as its host. */
export interface DeviceUrl {
  readonly address: TransportAddress;
  /** The path and query, starting with a slash. */
  readonly target: string;
}

/** What this host knows about the link that a device is on. */
export interface DeviceLink {
  /** The gateway's IP address, if it is known. */
  readonly gateway?: string;
  /** This host's address on the link; a wildcard address if it is not known. */
  readonly local: string;
  /** The link's prefix length; 24 (IPv4) or 64 (IPv6) by default. */
  readonly prefixLength?: number;
}

/**
 * Parses the LOCATION in a device's answer: HTTP, on port 80 or a port from 1024. Only its port and path count. Its host
 * is the address that answered, whatever the text names: devices put names, loopback and their external address there,
 * and must not send anyone to others.
 *
 * @param responder the address that answered, a link-local one with its zone
 * @throws {MalformedMessageError} if it is anything else
 */
export function parseLocation(location: string, responder: string): DeviceUrl {
  const [, authority] = AUTHORITY.exec(location) ?? [];
  if (authority?.includes("@")) throw unusable(location, "not a plain HTTP URL");
  const host = ipFamily(responder) === 6 ? `[${withoutZone(responder)}]` : responder;
  const named = location.replaceAll(/^[\s<"']+|[\s>"']+$/g, "").replace(SCHEMELESS, "http://$1");
  const url = parseUrl(named.replace(AUTHORITY, `http://${host}$2`));
  if (url === undefined || url.protocol !== "http:") {
    throw unusable(location, "not a plain HTTP URL");
  }
  return {
    address: { ip: responder, port: portOf(url, location) },
    target: url.pathname + url.search,
  };
}

/**
 * Resolves a URL in a description: absolute, or relative to the description's own URL or its URLBase. The host is always
 * the description's own, because devices put loopback, addresses of other links, or names there.
 *
 * @throws {MalformedMessageError} if the rest of it is not an HTTP URL either
 */
export function resolveDeviceUrl(location: DeviceUrl, text: string, urlBase = ""): DeviceUrl {
  const own = `http://${
    formatTransportAddress({ ...location.address, ip: withoutZone(location.address.ip) })
  }${location.target}`;
  const bases = [parseUrl(urlBase, own)?.href, own].filter((base) => base !== undefined);
  let problem: MalformedMessageError | undefined;
  for (const base of bases) {
    const url = parseUrl(text, base);
    if (url === undefined || url.protocol !== "http:") continue;
    try {
      return {
        address: { ip: location.address.ip, port: portOf(url, text) },
        target: url.pathname + url.search,
      };
    } catch (error) {
      if (!(error instanceof MalformedMessageError)) throw error;
      problem ??= error; // a URLBase that makes no sense
    }
  }
  throw problem ?? unusable(text, "not an HTTP URL");
}

/** Why an address must not be contacted; `undefined` if it may be. */
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

/** Services that name a type or a control URL twice are left out: a damaged document has merged two of them. */
function collectServices(element: XmlElement, services: ServiceDescription[]): void {
  for (const child of element.children) {
    if (child.name !== "service") {
      collectServices(child, services);
      continue;
    }
    if (services.length === MAX_SERVICES) return;
    if (isAmbiguous(child)) continue;
    services.push({
      serviceType: childText(child, "serviceType"),
      serviceId: childText(child, "serviceId"),
      controlUrl: childText(child, "controlURL"),
      eventSubUrl: childText(child, "eventSubURL"),
      scpdUrl: childText(child, "SCPDURL"),
    });
  }
}

function isAmbiguous({ children }: XmlElement): boolean {
  return ["servicetype", "controlurl"].some((name) =>
    children.filter((child) => child.name === name).length > 1
  );
}

function isSameUrl(a: DeviceUrl, b: DeviceUrl): boolean {
  return a.target === b.target && a.address.port === b.address.port;
}

function tryResolve(
  location: DeviceUrl,
  controlUrl: string,
  urlBase: string,
): DeviceUrl | undefined {
  if (controlUrl === "") return undefined;
  // Other services may be usable.
  return undefinedIfMalformed(() => resolveDeviceUrl(location, controlUrl, urlBase));
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

/** Devices serve UPnP on port 80 or an unprivileged port; on any other port there is another service. */
function portOf(url: URL, text: string): number {
  const port = Number(url.port || 80);
  if (port === 80 || !isSystemPort(port)) return port;
  throw unusable(text, `port ${port} is not a UPnP port`);
}

function unusable(text: string, reason: string): MalformedMessageError {
  return new MalformedMessageError(
    `Cannot use URL ${JSON.stringify(text.slice(0, 100))}: ${reason}`,
  );
}

const SERVICE_TYPE = /^urn:(?:schemas-upnp-org|dslforum-org):service:([a-z0-9]+)(?::(\d{1,2}))?$/i;
const FIREWALL = "WANIPv6FirewallControl";
const KINDS = ["WANIPConnection", "WANPPPConnection", FIREWALL] as const;

/** A URL without its scheme, that starts with its host. */
const SCHEMELESS = /^(?:\/\/|(?=\d|\[))([^/]*)/;

/** The scheme, the host, and the port of a URL. */
const AUTHORITY = /^\s*http:\/\/([^/?#]*?)(:\d*)?(?=[/?#]|\s*$)/i;

/** Chosen by us: devices have one or two for each WAN. Each is asked for its status, and then for the mapping. */
const MAX_CONNECTIONS = 8;

/** Chosen by us: gateways have about ten. */
const MAX_SERVICES = 100;
