/**
 * SSDP, how UPnP devices are found: UPnP Device Architecture 2.0 §1.3. Requests and responses are heads of HTTP
 * in datagrams.
 *
 * @module
 */

import { MalformedMessageError } from "../base/errors.ts";
import { formatTransportAddress, type TransportAddress } from "../net/address.ts";
import { parseHead, parseStatusLine } from "./upnp/header_fields.ts";

/** A request for devices of one kind. */
export interface SsdpSearch {
  /** Where it is sent to. */
  readonly to: TransportAddress;
  /** What to search for, the ST field, such as {@linkcode INTERNET_GATEWAY_DEVICE_1}. */
  readonly searchTarget: string;
  /** Over how many seconds devices spread their answers, the MX field; left out of a search by unicast (§1.3.2). */
  readonly maxWaitSeconds?: number;
}

/** What a device answers. */
export interface SsdpResponse {
  /** Where its description is, as sent; whether to go there is for others to judge. */
  readonly location: string;
  /** What it says it is; empty if it does not say. */
  readonly searchTarget: string;
  /** What tells it from other devices and services; empty if it does not say. */
  readonly uniqueServiceName: string;
  /** The software; empty if it does not say. */
  readonly server: string;
}

/** The bytes of a search. */
export function encodeSearch({ to, searchTarget, maxWaitSeconds }: SsdpSearch): Uint8Array {
  const lines = [
    "M-SEARCH * HTTP/1.1",
    `HOST: ${formatTransportAddress(withoutZone(to))}`,
    'MAN: "ssdp:discover"',
    ...(maxWaitSeconds === undefined ? [] : [`MX: ${maxWaitSeconds}`]),
    `ST: ${searchTarget}`,
    "",
    "",
  ];
  return new TextEncoder().encode(lines.join("\r\n"));
}

/**
 * Reads the answer to a search.
 *
 * @throws {MalformedMessageError} if it is anything else, is not a success, or names no location
 */
export function decodeSearchResponse(bytes: Uint8Array): SsdpResponse {
  if (bytes.length > MAX_BYTES) {
    throw new MalformedMessageError(`Cannot read ${WHAT}: ${bytes.length} bytes are too many`);
  }
  const { startLine, fields } = parseHead(new TextDecoder().decode(bytes), WHAT);
  const status = parseStatusLine(startLine, WHAT);
  if (status !== 200) throw new MalformedMessageError(`Cannot read ${WHAT}: status ${status}`);
  const location = fields.get("location") ?? "";
  if (location === "") throw new MalformedMessageError(`Cannot read ${WHAT}: no LOCATION`);
  return {
    location,
    searchTarget: fields.get("st") ?? "",
    uniqueServiceName: fields.get("usn") ?? "",
    server: fields.get("server") ?? "",
  };
}

/** A zone means something to this host alone (RFC 6874 §1). */
function withoutZone({ ip, port }: TransportAddress): TransportAddress {
  return { ip: ip.replace(/%.*$/, ""), port };
}

/** Where devices listen (§1.3.2). */
export const SSDP_PORT = 1900;
/** The group of IPv4 (§1.3.2), and of IPv6 on the link (Annex A.3). */
export const SSDP_GROUP_IPV4 = "239.255.255.250";
export const SSDP_GROUP_IPV6 = "ff02::c";

/** Search targets: gateways of both versions, and the root of any device. */
export const INTERNET_GATEWAY_DEVICE_1 = "urn:schemas-upnp-org:device:InternetGatewayDevice:1";
export const INTERNET_GATEWAY_DEVICE_2 = "urn:schemas-upnp-org:device:InternetGatewayDevice:2";
export const ROOT_DEVICE = "upnp:rootdevice";

const WHAT = "SSDP response";

/** Ours: answers have some hundred bytes, and more than a packet of Ethernet is no answer. */
const MAX_BYTES = 4096;
