/**
 * Finding the UPnP gateways of this host: searches, then descriptions.
 *
 * @module
 */

import {
  MalformedMessageError,
  NetworkError,
  NoResponseError,
  PunchlineError,
} from "../../base/errors.ts";
import { SharedJob, TaskGroup } from "../../base/tasks.ts";
import { ResettableTimer } from "../../base/timers.ts";
import { WaitQueue } from "../../base/wait_queue.ts";
import {
  formatTransportAddress,
  ipFamily,
  ipScope,
  type TransportAddress,
  withoutZone,
  zoneOf,
} from "../../net/address.ts";
import type { Network } from "../../net/network.ts";
import { isSameIp } from "../gateway.ts";
import { MappingRefusedError } from "../mapper.ts";
import {
  decodeDeviceDescription,
  type DeviceLink,
  type DeviceUrl,
  type IgdDevice,
  igdDevice,
  type IgdService,
  parseLocation,
  whyForbidden,
} from "./device.ts";
import { type HttpResponse, requestDevice } from "./http.ts";
import { type IgdSession, rankConnections } from "./session.ts";
import { SoapClient } from "./soap.ts";
import { SEARCH_MS, searchGateways, type SsdpAnswer } from "./ssdp.ts";
import { xmlExtent } from "./xml.ts";
import { delay } from "@std/async/delay";

/** A gateway, and how it was found. */
export interface FoundIgd {
  readonly device: IgdDevice;
  readonly link: DeviceLink;
  /** The address that answered the search, usually the device's own. */
  readonly responder: string;
}

/** What {@linkcode discoverIgds} takes. */
export interface DiscoverIgdsOptions {
  /** The links to search, all at once; IPv6 after IPv4. */
  readonly links: readonly DeviceLink[];
  /** Called with answers that led to no gateway, and who sent them. */
  readonly onProblem?: (problem: Error, responder: string) => void;
  readonly signal?: AbortSignal;
}

/**
 * Searches all links, and yields the gateways as their descriptions arrive. Devices that answer and then fall silent
 * do not delay the others.
 *
 * @throws {NetworkError} if no link could be searched
 * @throws the signal's reason on abort
 */
export async function* discoverIgds(
  network: Network,
  options: DiscoverIgdsOptions,
): AsyncGenerator<FoundIgd, void> {
  const { links, onProblem = () => {}, signal } = options;
  signal?.throwIfAborted();
  const found = new WaitQueue<FoundIgd>(MAX_DEVICES * links.length);
  const hasIpv4 = links.some(({ local }) => ipFamily(local) === 4);
  await using searching = new TaskGroup((error) => found.close(error));
  searching.run(async (stopped) => {
    const either = signal === undefined ? stopped : AbortSignal.any([signal, stopped]);
    const searches = links.map(async (link) => {
      if (hasIpv4 && ipFamily(link.local) === 6) await delay(IPV6_DELAY_MS, { signal: either });
      const search = { network, link, onProblem, signal: either };
      await searchLink(search, (device) => found.push(device));
    });
    const results = await Promise.allSettled(searches);
    const failures = results.filter((result) => result.status === "rejected");
    const [first] = failures;
    const hasFailed = first !== undefined && failures.length === links.length;
    found.close(hasFailed ? first.reason : SEARCH_OVER);
  });
  try {
    while (true) yield await found.next(signal);
  } catch (error) {
    if (error !== SEARCH_OVER) throw error;
  }
}

/** A device that is ready to be called. */
export interface KnownIgd {
  readonly found: FoundIgd;
  readonly soap: SoapClient;
  /** In the order in which to use them. */
  readonly connections: readonly IgdService[];
}

/** Finds the device of one gateway, and remembers it. */
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
   * The device; searches for it if it is not known.
   *
   * @throws {NoResponseError} if no device answers
   * @throws {MalformedMessageError} if the gateway answers, but with nothing useful
   * @throws {MappingRefusedError} if the gateway's device opens no ports
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

  /** Forgets a device that is no longer where it was. */
  forget(known: KnownIgd): void {
    if (this.#known === known) this.#known = undefined;
  }

  async #findOnLink(link: DeviceLink, signal: AbortSignal): Promise<KnownIgd> {
    const problems: Error[] = [];
    const search = discoverIgds(this.#network, {
      links: [link],
      signal,
      onProblem: (problem) => problems.push(problem), // of the gateway alone
    });
    for await (const found of search) return await this.#prepare(found, signal);
    throw igdNotFound(
      `at gateway ${this.#gateway}`,
      `no answer in ${SEARCH_MS / 1000} s`,
      problems,
    );
  }

  async #prepare(found: FoundIgd, signal: AbortSignal): Promise<KnownIgd> {
    const soap = new SoapClient(this.#network);
    const connections = await rankConnections(this.#session(found, soap, signal));
    return { found, soap, connections };
  }

  #session(found: FoundIgd, soap: SoapClient, signal: AbortSignal): IgdSession {
    const { device, link } = found;
    return { device, soap, gateway: this.#gateway, local: link.local, signal };
  }
}

/** Why a search found nothing: a refusal before malformed answers, and those before silence. */
export function igdNotFound(
  where: string,
  silence: string,
  problems: readonly Error[],
): PunchlineError {
  const refusal = problems.find((problem) => problem instanceof MappingRefusedError);
  if (refusal !== undefined) return refusal;
  const [problem] = problems;
  const cannot = `Cannot find UPnP ${where}`;
  return problem === undefined
    ? new NoResponseError(`${cannot}: ${silence}`)
    : new MalformedMessageError(`${cannot}: ${problem.message}`, { cause: problem });
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
  const retries = new RetryBudget();
  const startMs = performance.now();
  let pending = 0;
  let isFound = false;
  await using ending = new TaskGroup(() => {}); // only for its signal
  // The gateway has answered, with nothing of use: others of its devices answer soon, or not at all.
  const afterFailure = new ResettableTimer(() => {
    if (pending === 0 && !isFound) ending.stop(ANSWERED);
  });
  const isBusy = () => link.gateway !== undefined && (pending > 0 || isFound);
  try {
    const answers = searchGateways(network, link, {
      accepts: (from) => isPromising(from, link),
      isBusy,
      signal: AbortSignal.any([signal, ending.signal]),
      onMalformed: (error, { ip }) => onProblem(error, ip),
    });
    for await (const answer of answers) {
      const { location } = answer.response;
      if (seen.has(location) || seen.size >= MAX_DEVICES) continue;
      seen.add(location);
      pending++;
      const fetching = fetchAnswered(network, answer, { link, retries, signal }).then((found) => {
        pending--;
        isFound = true;
        onFound(found);
      }, (error) => {
        pending--;
        if (!(error instanceof PunchlineError)) throw error;
        onProblem(error, answer.from.ip); // only of this device
        const leftMs = startMs + ANSWERED_SEARCH_MS - performance.now();
        if (link.gateway !== undefined) afterFailure.set(Math.max(0, leftMs));
      });
      fetching.catch(() => {}); // awaited below, once the search is over
      fetches.push(fetching);
    }
  } catch (error) {
    if (error !== ANSWERED) throw error;
  } finally {
    afterFailure.clear();
    await Promise.allSettled(fetches);
    afterFailure.clear();
  }
  await Promise.all(fetches);
}

/**
 * Where the gateway is known, only its own answers count. Over IPv6 it is known by its link-local address, but has to
 * answer from a global one: only from there does it open pinholes for global addresses.
 */
function isPromising({ ip }: TransportAddress, { gateway }: DeviceLink): boolean {
  if (gateway === undefined || isSameIp(ip, gateway)) return true;
  return ipFamily(gateway) === 6 && ipScope(ip) !== ipScope(gateway);
}

async function fetchAnswered(
  network: Network,
  { response, from }: SsdpAnswer,
  { link, retries, signal }: { link: DeviceLink; retries: RetryBudget; signal: AbortSignal },
): Promise<FoundIgd> {
  const zone = zoneOf(link.gateway ?? "") || zoneOf(link.local);
  const isZoned = ipScope(from.ip) === "link-local" && ipFamily(from.ip) === 6;
  const responder = isZoned ? withoutZone(from.ip) + zone : from.ip;
  const reason = whyForbidden(responder, link) ??
    (await network.ownsAddress(responder) ? `${responder} is this host's own` : undefined);
  if (reason !== undefined) {
    throw new MalformedMessageError(`Cannot use UPnP device at ${from.ip}: ${reason}`);
  }
  const location = parseLocation(response.location, responder);
  const device = await fetchIgd(network, location, { local: link.local, retries, signal });
  return { device, link, responder: from.ip };
}

/**
 * Fetches a description.
 *
 * @throws {MalformedMessageError} if it cannot be read
 * @throws {MappingRefusedError} if the device opens no ports
 * @throws {NoResponseError} if it does not arrive in time
 * @throws {NetworkError} if the device cannot be reached
 */
async function fetchIgd(
  network: Network,
  location: DeviceUrl,
  { local, retries, signal }: { local: string; retries: RetryBudget; signal: AbortSignal },
): Promise<IgdDevice> {
  const { status, body } = await requestPatiently(() =>
    requestDevice(network, location, {
      request: { method: "GET" },
      options: {
        local,
        signal,
        timeoutMs: DESCRIPTION_TIMEOUT_MS,
        idleMs: DESCRIPTION_IDLE_MS,
        maxBodyBytes: MAX_DESCRIPTION_BYTES,
        extent: xmlExtent,
      },
    }), { retries, signal });
  const device = describedDevice(status, body, location);
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

/** Some devices send the description with a status that denies it. */
function describedDevice(status: number, body: Uint8Array, location: DeviceUrl): IgdDevice {
  try {
    return igdDevice(decodeDeviceDescription(body), location);
  } catch (error) {
    if (status === 200 || !(error instanceof MalformedMessageError)) throw error;
    const from = formatTransportAddress(location.address);
    throw new MalformedMessageError(`Cannot get description from ${from}: HTTP status ${status}`);
  }
}

/** A device that is busy refuses or resets connections, or answers with a status that says so: it is asked again. */
async function requestPatiently(
  request: () => Promise<HttpResponse>,
  { retries, signal }: { retries: RetryBudget; signal: AbortSignal },
): Promise<HttpResponse> {
  while (true) {
    let waitMs: number | undefined;
    try {
      const response = await request();
      if (!BUSY_STATUSES.includes(response.status) || response.body.length > 0) return response;
      waitMs = retries.nextWaitMs();
      if (waitMs === undefined) return response;
    } catch (error) {
      const isBusy = error instanceof NetworkError && BUSY_REASONS.includes(error.reason);
      waitMs = isBusy ? retries.nextWaitMs() : undefined;
      if (waitMs === undefined) throw error;
    }
    await delay(waitMs, { signal });
  }
}

/** The retries of one search: those who answer it cannot make it dial as often as they like. */
class RetryBudget {
  readonly #waitsMs = [...BUSY_WAITS_MS];

  /** How long to wait before the next retry; `undefined` after the last one. */
  nextWaitMs(): number | undefined {
    return this.#waitsMs.shift();
  }
}

const SEARCH_OVER = new DOMException("The search is over", "AbortError");
const ANSWERED = new DOMException("The gateway has answered", "AbortError");

const BUSY_STATUSES = [500, 502, 503];
const BUSY_REASONS = ["refused", "reset"];

/** Chosen by us: a web server of a router that is overloaded or starting serves again within a second. */
const BUSY_WAITS_MS = [100, 300, 1000];

/** Chosen by us: answers are due a second after the last search of the first three rounds. */
const ANSWERED_SEARCH_MS = 1800;

/** Chosen by us: FRITZ!Box answers nothing if searches of both families arrive together (syncthing). */
const IPV6_DELAY_MS = 1000;

/** Chosen by us: no link is known to have more than a handful of gateways; one that does is hostile. */
const MAX_DEVICES = 8;

/** Chosen by us: descriptions have 2 to 20 KiB. */
const MAX_DESCRIPTION_BYTES = 256 * 1024;

/** Chosen by us: slow devices take four seconds to begin, and some send byte by byte. The search is not held up by it. */
const DESCRIPTION_IDLE_MS = 8000;
const DESCRIPTION_TIMEOUT_MS = 20_000;
