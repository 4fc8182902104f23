/**
 * Finding the UPnP gateways of this host: searches, then descriptions.
 *
 * @module
 */

import { MalformedMessageError, NoResponseError } from "../../base/errors.ts";
import { WaitQueue } from "../../base/wait_queue.ts";
import { formatTransportAddress, ipFamily, type TransportAddress } from "../../net/address.ts";
import type { Network } from "../../net/network.ts";
import { isSameIp } from "../gateway.ts";
import { MappingRefusedError } from "../mapper.ts";
import {
  decodeDeviceDescription,
  type DeviceLink,
  type DeviceUrl,
  type IgdDevice,
  igdDevice,
  parseLocation,
  whyForbidden,
} from "./device.ts";
import { requestHttp } from "./http.ts";
import { isOfDevice } from "./session.ts";
import { searchGateways, type SsdpAnswer } from "./ssdp.ts";
import { delay } from "@std/async/delay";

/** A gateway, and how it was found. */
export interface FoundIgd {
  readonly device: IgdDevice;
  readonly link: DeviceLink;
  /** Who answered the search: usually the device itself. */
  readonly responder: string;
}

/** What {@linkcode discoverIgds} takes. */
export interface DiscoverOptions {
  /** Where to search, at once; those of IPv6 after those of IPv4. */
  readonly links: readonly DeviceLink[];
  /** Told of answers that led to no gateway, and whose they were. */
  readonly onProblem?: (problem: Error, responder: string) => void;
  readonly signal?: AbortSignal;
}

/**
 * Searches all links, and yields the gateways as their descriptions come. Devices that answer and then are silent
 * hold up nobody.
 *
 * @throws {NetworkError} if no link could be searched
 * @throws the signal's reason on abort
 */
export async function* discoverIgds(
  network: Network,
  options: DiscoverOptions,
): AsyncGenerator<FoundIgd, void> {
  const { links, onProblem = () => {}, signal } = options;
  signal?.throwIfAborted();
  const done = new NoResponseError("Cannot find more gateways: the search is over");
  const stop = new AbortController();
  const either = signal === undefined ? stop.signal : AbortSignal.any([signal, stop.signal]);
  const found = new WaitQueue<FoundIgd>(MAX_DEVICES * links.length);
  const staggers = links.some(({ local }) => ipFamily(local) === 4);
  const searches = links.map(async (link) => {
    if (staggers && ipFamily(link.local) === 6) await delay(IPV6_STAGGER_MS, { signal: either });
    const search = { network, link, onProblem, signal: either };
    await searchLink(search, (device) => found.push(device));
  });
  const over = Promise.allSettled(searches).then((results) => {
    const failures = results.flatMap((result) => result.status === "rejected" ? [result] : []);
    found.close(failures.length === links.length && failures[0] ? failures[0].reason : done);
  });
  try {
    while (true) yield await found.next(signal);
  } catch (error) {
    if (error !== done) throw error;
  } finally {
    stop.abort(done);
    await over;
  }
}

/**
 * Gets a description.
 *
 * @throws {MalformedMessageError} if it is none
 * @throws {MappingRefusedError} if it is of a device that opens no ports
 * @throws {NoResponseError} if it does not come in time
 * @throws {NetworkError} if the device cannot be reached
 */
export async function fetchIgd(
  network: Network,
  location: DeviceUrl,
  options: { local: string; signal?: AbortSignal },
): Promise<IgdDevice> {
  const { status, body } = await requestHttp(
    network,
    { method: "GET", host: location.address, target: location.target },
    { ...options, timeoutMs: DESCRIPTION_TIMEOUT_MS, maxBodyBytes: MAX_DESCRIPTION_BYTES },
  );
  if (status !== 200) {
    const from = formatTransportAddress(location.address);
    throw new MalformedMessageError(`Cannot get description from ${from}: HTTP status ${status}`);
  }
  const device = igdDevice(decodeDeviceDescription(body), location);
  if (device.connections.length > 0 || device.firewall !== undefined) return device;
  throw new MappingRefusedError(
    `Cannot use UPnP device ${JSON.stringify(device.name)} at ${location.address.ip}: ` +
      "none of its services opens ports",
    {
      mapper: "upnp",
      code: 401,
      reason: "no WANIPConnection",
      remedy: "Enable port mapping by UPnP in the router",
    },
  );
}

interface LinkSearch {
  readonly network: Network;
  readonly link: DeviceLink;
  readonly onProblem: (problem: Error, responder: string) => void;
  readonly signal: AbortSignal;
}

async function searchLink(
  { network, link, onProblem, signal }: LinkSearch,
  onFound: (found: FoundIgd) => void,
): Promise<void> {
  const seen = new Set<string>();
  const fetches: Promise<void>[] = [];
  try {
    const onGarbage = (error: Error, { ip }: TransportAddress) => onProblem(error, ip);
    for await (const answer of searchGateways(network, link, { onGarbage, signal })) {
      const { location } = answer.response;
      if (seen.has(location) || seen.size >= MAX_DEVICES || !isPromising(answer, link)) continue;
      seen.add(location);
      const following = follow(network, answer, { link, signal }).then(onFound, (error) => {
        if (!isOfDevice(error)) throw error; // what is wrong with one device is not with others
        onProblem(error, answer.from.ip);
      });
      following.catch(() => {}); // awaited below, when the search is over
      fetches.push(following);
    }
  } finally {
    await Promise.allSettled(fetches);
  }
  await Promise.all(fetches);
}

async function follow(
  network: Network,
  { response, from }: SsdpAnswer,
  { link, signal }: { link: DeviceLink; signal: AbortSignal },
): Promise<FoundIgd> {
  const zone = /%.*$/.exec(`${link.gateway ?? ""}`) ?? /%.*$/.exec(link.local);
  const location = parseLocation(response.location, zone?.[0]);
  const { ip } = location.address;
  const reason = whyForbidden(ip, link) ?? whyForbidden(from.ip, link) ??
    (await network.ownsAddress(ip) ? `${ip} is this host's own` : undefined);
  if (reason !== undefined) {
    throw new MalformedMessageError(
      `Cannot follow LOCATION ${JSON.stringify(response.location)} from ${from.ip}: ${reason}`,
    );
  }
  const device = await fetchIgd(network, location, { local: link.local, signal });
  return { device, link, responder: from.ip };
}

/** Printers and televisions are roots of devices too; where the gateway is known they are left alone. */
function isPromising({ response, from }: SsdpAnswer, { gateway }: DeviceLink): boolean {
  if (gateway === undefined || isSameIp(from.ip, gateway)) return true;
  return /InternetGatewayDevice/i.test(response.searchTarget + response.uniqueServiceName);
}

/** Whether a gateway that was found is the one at this address. */
export function isGateway({ device, responder }: FoundIgd, gateway: string): boolean {
  return isSameIp(device.location.address.ip, gateway) || isSameIp(responder, gateway);
}

/** Ours: FRITZ!Box answers nothing when searches of both families come at once (syncthing). */
const IPV6_STAGGER_MS = 800;

/** Ours: links with more than a handful of gateways are not known; who answers as many plays with us. */
const MAX_DEVICES = 8;

/** Ours: they have 2 to 20 KiB. */
const MAX_DESCRIPTION_BYTES = 256 * 1024;

/** Ours: devices that take longer to say who they are were not seen; dead ones cost no more than this. */
const DESCRIPTION_TIMEOUT_MS = 3000;
