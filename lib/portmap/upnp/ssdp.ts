/**
 * SSDP: searching a link for UPnP gateways. UPnP Device Architecture 2.0 §1.3.
 *
 * @module
 */

import { malformed, MalformedMessageError, NetworkError } from "../../base/errors.ts";
import { TaskGroup } from "../../base/tasks.ts";
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

/** A search for devices of one kind. */
export interface SsdpSearch {
  /** The destination. */
  readonly to: TransportAddress;
  /** The ST field: what to search for, such as a device type. */
  readonly searchTarget: string;
  /** The MX field: over how many seconds devices spread their answers. Unicast searches have none (§1.3.2). */
  readonly maxWaitSeconds?: number;
}

/** A device's answer. Fields that it leaves out are empty. */
export interface SsdpResponse {
  /** The URL of its description, as sent. The caller decides whether to follow it. */
  readonly location: string;
  /** The kind of device. */
  readonly searchTarget: string;
  /** What distinguishes it from other devices and services. */
  readonly uniqueServiceName: string;
  /** Its software. */
  readonly server: string;
}

/** Encodes a search. */
export function encodeSearch({ to, searchTarget, maxWaitSeconds }: SsdpSearch): Uint8Array {
  const lines = [
    "M-SEARCH * HTTP/1.1",
    `HOST: ${formatTransportAddress({ ...to, ip: withoutZone(to.ip) })}`,
    'MAN: "ssdp:discover"',
  ];
  if (maxWaitSeconds !== undefined) lines.push(`MX: ${maxWaitSeconds}`);
  lines.push(`ST: ${searchTarget}`, "", "");
  return new TextEncoder().encode(lines.join("\r\n"));
}

/**
 * Decodes the answer to a search. Some devices answer with the announcement that they make when they start
 * (`NOTIFY`, §1.2.2), which says the same.
 *
 * @throws {MalformedMessageError} if the bytes are anything else, report a failure or a leave, or name no location
 */
export function decodeSearchResponse(bytes: Uint8Array): SsdpResponse {
  if (bytes.length > MAX_BYTES) {
    throw malformed(WHAT, `${bytes.length} bytes are too many`);
  }
  const { startLine, fields } = parseHead(new TextDecoder().decode(bytes), WHAT, {
    isDatagram: true,
  });
  const isAnnouncement = /^NOTIFY\s/i.test(startLine);
  if (!isAnnouncement) {
    const status = parseStatusLine(startLine, WHAT);
    if (status !== 200) throw malformed(WHAT, `status ${status}`);
  } else if (/byebye/i.test(fields.get("nts") ?? "")) {
    throw malformed(WHAT, "the device leaves");
  }
  const location = fields.get("location") || fields.get("al") || "";
  if (location === "") throw malformed(WHAT, "no LOCATION");
  return {
    location,
    searchTarget: fields.get("st") ?? fields.get("nt") ?? "",
    uniqueServiceName: fields.get("usn") ?? "",
    server: fields.get("server") ?? "",
  };
}

/** An answer, and its sender. Devices answer from other ports than 1900, and from other addresses. */
export interface SsdpAnswer {
  readonly response: SsdpResponse;
  readonly from: TransportAddress;
}

/** What {@linkcode searchGateways} takes. */
export interface SearchOptions {
  /** Whether answers of this sender are of interest; all are by default. */
  readonly accepts?: (from: TransportAddress) => boolean;
  /** Whether to hold back further searches, because an answer is being looked into. */
  readonly isBusy?: () => boolean;
  /** Called with what cannot be read. */
  readonly onMalformed?: (error: MalformedMessageError, from: TransportAddress) => void;
  readonly signal?: AbortSignal;
}

/**
 * Searches for {@linkcode SEARCH_MS}: asks the gateway itself and all devices of the link, several times, and yields the
 * answers as they arrive, repeated ones included. Some gateways react only to multicast (tailscale #3197), while a
 * datagram to the gateway opens this host's own firewall for the answer. Gateways that answer neither version of their own
 * device type are asked for the types of their services and inner devices, and for everything (`ssdp:all`).
 *
 * @throws {NetworkError} if nothing could be sent
 * @throws the signal's reason on abort
 */
export async function* searchGateways(
  network: Network,
  link: DeviceLink,
  options: SearchOptions = {},
): AsyncGenerator<SsdpAnswer, void> {
  const { accepts = () => true, isBusy = () => false, onMalformed, signal } = options;
  using socket = await bindForSearch(network, link.local);
  const expiry = AbortSignal.timeout(SEARCH_MS);
  const either = signal === undefined ? expiry : AbortSignal.any([expiry, signal]);
  let failure: unknown;
  await using sending = new TaskGroup((error) => {
    failure = error;
    socket.close(); // which ends receive()
  });
  sending.run((stopped) =>
    sendSearches(
      socket,
      { searches: searchesFor(link), isBusy },
      AbortSignal.any([either, stopped]),
    )
  );
  try {
    for (let answers = 0; answers < MAX_ANSWERS;) {
      const { data, from } = await socket.receive({ signal: either });
      if (!accepts(from)) continue;
      try {
        const response = decodeSearchResponse(data);
        answers++;
        yield { response, from };
      } catch (error) {
        if (!(error instanceof MalformedMessageError)) throw error;
        onMalformed?.(error, from);
      }
    }
  } catch (error) {
    if (failure !== undefined) throw failure;
    if (error !== expiry.reason) throw error;
  }
}

/** A host that cannot send multicasts still reaches its gateway. */
async function bindForSearch(network: Network, local: string): Promise<UdpSocket> {
  const address = { ip: local, port: 0 };
  try {
    return await network.bindUdp(address, { multicast: { hops: HOPS } });
  } catch (error) {
    if (!(error instanceof NetworkError) || error.reason !== "other") throw error;
    return await network.bindUdp(address);
  }
}

/** One datagram of a search. */
interface PlannedSearch {
  readonly atMs: number;
  readonly to: TransportAddress;
  readonly data: Uint8Array;
}

function searchesFor({ gateway, local }: DeviceLink): PlannedSearch[] {
  const group = ipFamily(local) === 4
    ? SSDP_GROUP_IPV4
    : SSDP_GROUP_IPV6 + zoneAmong(local, gateway);
  const asksGateway = gateway !== undefined && ipFamily(gateway) === ipFamily(local);
  return ROUNDS.flatMap(({ startMs, targets }) =>
    targets.flatMap((searchTarget, index): PlannedSearch[] => {
      const atMs = startMs + index * BETWEEN_TARGETS_MS;
      const allDevices = { to: { ip: group, port: SSDP_PORT }, searchTarget, maxWaitSeconds: 1 };
      const searches = asksGateway
        ? [{ to: { ip: gateway, port: SSDP_PORT }, searchTarget }, allDevices]
        : [allDevices];
      return searches.map((search) => ({ atMs, to: search.to, data: encodeSearch(search) }));
    })
  );
}

/** Carries on if a datagram cannot be sent: a host without a multicast route still reaches its gateway. */
async function sendSearches(
  socket: UdpSocket,
  { searches, isBusy }: { searches: readonly PlannedSearch[]; isBusy: () => boolean },
  signal: AbortSignal,
): Promise<void> {
  let sentMs = 0;
  let sent = 0;
  let failure: NetworkError | undefined;
  for (const { atMs, to, data } of searches) {
    if (atMs > sentMs && !await delayed(atMs - sentMs, signal)) return;
    sentMs = Math.max(atMs, sentMs);
    if (isBusy()) continue;
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

/** Whether the delay passed without an abort. */
async function delayed(delayMs: number, signal: AbortSignal): Promise<boolean> {
  try {
    await delay(delayMs, { signal });
    return true;
  } catch (error) {
    if (error !== signal.reason) throw error;
    return false;
  }
}

/** The zone of an IPv6 search: the one that either address names. */
function zoneAmong(...ips: readonly (string | undefined)[]): string {
  for (const ip of ips) {
    const zone = ip !== undefined && ipScope(ip) === "link-local" ? zoneOf(ip) : "";
    if (zone !== "") return zone;
  }
  return "";
}

/**
 * How long a search takes. Chosen by us: gateways that are busy answer after two to four seconds, and only a call that
 * gets no answer at all takes so long.
 */
export const SEARCH_MS = 5000;

/** The port on which devices listen (§1.3.2). */
const SSDP_PORT = 1900;

/** The multicast group of IPv4 (§1.3.2), and of IPv6 on the link (Annex A.3). */
const SSDP_GROUP_IPV4 = "239.255.255.250";
const SSDP_GROUP_IPV6 = "ff02::c";

/** Gateways of either version: version 2 devices must answer a search for version 1 (§1.3.2). */
const INTERNET_GATEWAY_DEVICE_1 = "urn:schemas-upnp-org:device:InternetGatewayDevice:1";
const INTERNET_GATEWAY_DEVICE_2 = "urn:schemas-upnp-org:device:InternetGatewayDevice:2";
/** Finds those that answer to neither. */
const ROOT_DEVICE = "upnp:rootdevice";

/** Their services and inner devices, and everything: some gateways answer to nothing else. */
const PARTS = [
  "urn:schemas-upnp-org:service:WANIPConnection:1",
  "ssdp:all",
  "urn:schemas-upnp-org:service:WANPPPConnection:1",
  "urn:schemas-upnp-org:service:WANIPConnection:2",
  "urn:schemas-upnp-org:device:WANConnectionDevice:1",
  "urn:schemas-upnp-org:device:WANDevice:1",
];

/**
 * What to search for, and when. Chosen by us: answers are due a second after each search, so the last ones to the first two
 * rounds are due at 1250 ms, and to the last at 3660 ms. A gateway that has answered is not searched for again.
 */
const ROUNDS = [
  { startMs: 0, targets: [INTERNET_GATEWAY_DEVICE_1, INTERNET_GATEWAY_DEVICE_2, ROOT_DEVICE] },
  { startMs: 250, targets: [INTERNET_GATEWAY_DEVICE_1, ROOT_DEVICE] },
  { startMs: 700, targets: PARTS },
  {
    startMs: 2500,
    targets: [INTERNET_GATEWAY_DEVICE_1, ROOT_DEVICE, ...PARTS],
  },
];

/** Chosen by us: of searches that arrive together, some devices drop all but the first (go-nat). */
const BETWEEN_TARGETS_MS = 20;

/** UDA 1.1 §1.3.2 says 2; 1.0 said 4. */
const HOPS = 2;

/** Chosen by us: a device answers each search once, and `ssdp:all` about fifteen times. */
const MAX_ANSWERS = 1000;

const WHAT = "SSDP response";

/** Chosen by us: answers have a few hundred bytes, and fit an Ethernet frame. */
const MAX_BYTES = 4096;
