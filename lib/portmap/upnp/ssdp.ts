/**
 * Searching a link for UPnP gateways: UPnP Device Architecture 2.0 §1.3.
 *
 * @module
 */

import { MalformedMessageError, NetworkError } from "../../base/errors.ts";
import {
  formatTransportAddress,
  ipFamily,
  ipScope,
  type TransportAddress,
  withoutZone,
  zoneOf,
} from "../../net/address.ts";
import type { Network, UdpSocket } from "../../net/network.ts";
import type { DeviceLink } from "./device.ts";
import { parseHead, parseStatusLine } from "./header_fields.ts";
import { delay } from "@std/async/delay";

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
    `HOST: ${formatTransportAddress({ ...to, ip: withoutZone(to.ip) })}`,
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

/** An answer, and who sent it. Devices answer from other ports than 1900, and from other addresses. */
export interface SsdpAnswer {
  readonly response: SsdpResponse;
  readonly from: TransportAddress;
}

/** What {@linkcode searchGateways} takes. */
export interface SearchOptions {
  /** Told what came that is no answer. */
  readonly onGarbage?: (error: MalformedMessageError, from: TransportAddress) => void;
  readonly signal?: AbortSignal;
}

/** How long a search takes that nobody answers. */
export const SEARCH_MS = 1800;

/**
 * Asks the gateway itself and everybody on the link, several times, and yields the answers as they come, repeated
 * ones too. Some gateways hear only multicast (tailscale #3197), while what is sent to the gateway alone opens a
 * host's own firewall for the answer.
 *
 * @throws {NetworkError} if nothing could be sent
 * @throws the signal's reason on abort
 */
export async function* searchGateways(
  network: Network,
  link: DeviceLink,
  options: SearchOptions = {},
): AsyncGenerator<SsdpAnswer, void> {
  const { onGarbage, signal } = options;
  using socket = await network.bindUdp({ ip: link.local, port: 0 }, { multicast: { hops: HOPS } });
  const over = new AbortController();
  const expiry = AbortSignal.timeout(SEARCH_MS);
  const either = AbortSignal.any([expiry, over.signal, ...(signal === undefined ? [] : [signal])]);
  const sending = sendSearches(socket, searchesFor(link), either);
  sending.catch((error) => over.abort(error));
  try {
    for (let answers = 0; answers < MAX_ANSWERS;) {
      const { data, from } = await socket.receive({ signal: either });
      try {
        const response = decodeSearchResponse(data);
        answers++;
        yield { response, from };
      } catch (error) {
        if (!(error instanceof MalformedMessageError)) throw error;
        onGarbage?.(error, from);
      }
    }
  } catch (error) {
    if (error !== expiry.reason) throw error;
  } finally {
    over.abort();
    await sending.catch(() => {}); // what failed there has been thrown above
  }
}

/** One datagram of a search. */
interface PlannedSearch {
  readonly atMs: number;
  readonly to: TransportAddress;
  readonly data: Uint8Array;
}

function searchesFor({ gateway, local }: DeviceLink): PlannedSearch[] {
  const group = ipFamily(local) === 4 ? SSDP_GROUP_IPV4 : SSDP_GROUP_IPV6 + linkOf(local, gateway);
  const asksGateway = gateway !== undefined && ipFamily(gateway) === ipFamily(local);
  return ROUNDS_MS.flatMap((roundMs) =>
    SEARCH_TARGETS.flatMap((searchTarget, index): PlannedSearch[] => {
      const atMs = roundMs + index * BETWEEN_TARGETS_MS;
      const everybody = { to: { ip: group, port: SSDP_PORT }, searchTarget, maxWaitSeconds: 1 };
      const searches = asksGateway
        ? [{ to: { ip: gateway, port: SSDP_PORT }, searchTarget }, everybody]
        : [everybody];
      return searches.map((search) => ({ atMs, to: search.to, data: encodeSearch(search) }));
    })
  );
}

/** Goes on where one way does not: a host without a route for multicast still reaches its gateway. */
async function sendSearches(
  socket: UdpSocket,
  searches: readonly PlannedSearch[],
  signal: AbortSignal,
): Promise<void> {
  let sentMs = 0;
  let sent = 0;
  let failure: NetworkError | undefined;
  for (const { atMs, to, data } of searches) {
    if (atMs > sentMs && !await waits(atMs - sentMs, signal)) return;
    sentMs = Math.max(atMs, sentMs);
    try {
      await socket.send(data, to);
      sent++;
    } catch (error) {
      if (!(error instanceof NetworkError)) throw error;
      if (signal.aborted) return;
      failure = error;
    }
  }
  if (sent === 0 && failure !== undefined) throw failure;
}

async function waits(delayMs: number, signal: AbortSignal): Promise<boolean> {
  try {
    await delay(delayMs, { signal });
    return true;
  } catch (error) {
    if (error !== signal.reason) throw error;
    return false;
  }
}

/** The link of an IPv6 search: that of the zone that either address names. */
function linkOf(...ips: readonly (string | undefined)[]): string {
  for (const ip of ips) {
    const zone = ip !== undefined && ipScope(ip) === "link-local" ? zoneOf(ip) : "";
    if (zone !== "") return zone;
  }
  return "";
}

/** Version 2 is to answer to version 1 too (§1.3.2), and rootdevice finds those that answer to neither. */
const SEARCH_TARGETS = [INTERNET_GATEWAY_DEVICE_1, INTERNET_GATEWAY_DEVICE_2, ROOT_DEVICE];

/** Ours: the last answer to the second round is due at 1250 ms, to the third at 1700 ms. */
const ROUNDS_MS = [0, 250, 700];

/** Ours: some devices drop all but the first of searches that come at once (go-nat). */
const BETWEEN_TARGETS_MS = 20;

/** UDA 1.1 §1.3.2 says 2; 1.0 said 4. */
const HOPS = 2;

/** Ours: a device of ten services answers a search for rootdevice once; who sends more plays with us. */
const MAX_ANSWERS = 200;
