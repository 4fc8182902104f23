/**
 * Where a UPnP device may be asked, and where not. Anybody on the link can answer a search, so a LOCATION that names
 * another host would make this one a tool against it (CallStranger, CVE-2020-12695, is of that kind).
 *
 * @module
 */

import { MalformedMessageError } from "../base/errors.ts";
import {
  formatTransportAddress,
  ipFamily,
  ipScope,
  ipToBytes,
  isIp,
  parseIp,
  type TransportAddress,
} from "../net/address.ts";

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
  const own = `http://${formatTransportAddress(withoutZone(location.address))}${location.target}`;
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

function withoutZone({ ip, port }: TransportAddress): TransportAddress {
  return { ip: ip.replace(/%.*$/, ""), port };
}

function malformed(text: string, reason: string): MalformedMessageError {
  return new MalformedMessageError(
    `Cannot use URL ${JSON.stringify(text.slice(0, 100))}: ${reason}`,
  );
}

/** A zone means something to the host that it is on alone; `URL` takes none. */
const THEIR_ZONE = /^(\s*http:\/\/\[[^\]%]*)%[^\]]*\]/i;
