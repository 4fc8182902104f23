/**
 * This host's own addresses and free ports, found without a permission beyond the network: its IPv4 address by a
 * multicast to itself, its IPv6 address by a connection, which addresses are its own by binding to them, and the NAT64
 * prefixes of its network by asking the resolver (RFC 7050).
 *
 * @module
 */

import { equalBytes } from "../base/bytes.ts";
import { NetworkError } from "../base/errors.ts";
import { optionalResolvers, SharedJob, TaskGroup } from "../base/tasks.ts";
import { Deadline } from "../base/timers.ts";
import {
  formatIp,
  ipScope,
  ipToBytes,
  ipv4After,
  NAT64_PREFIX_BITS,
  type Nat64Prefix,
  type TransportAddress,
} from "./address.ts";
import type { Network, UdpSocket } from "./network.ts";

/**
 * The IPv4 address that this host has on its local network, or `undefined` if it cannot be discovered.
 *
 * A datagram to all hosts on the link (224.0.0.1) loops back to its sender and so reveals the source address. It travels
 * one hop, and carries random bytes by which the sender recognises it.
 *
 * @param options.throwsIfDenied whether a missing permission is an error, rather than an address that is not known
 * @throws {NetworkError} `not-permitted`, if that is an error
 * @throws the signal's reason on abort
 */
export async function discoverLocalIpv4(
  network: Network,
  options: { readonly signal?: AbortSignal; readonly throwsIfDenied?: boolean } = {},
): Promise<string | undefined> {
  const expiry = AbortSignal.timeout(ECHO_TIMEOUT_MS);
  const signal = options.signal === undefined ? expiry : AbortSignal.any([expiry, options.signal]);
  try {
    using socket = await network.bindUdp({ ip: "0.0.0.0", port: 0 }, {
      multicast: { groups: [{ group: ALL_HOSTS, interfaceIp: "0.0.0.0" }] },
    });
    const ip = await sourceOfEcho(socket, signal);
    return await network.ownsAddress(ip) ? ip : undefined;
  } catch (error) {
    options.signal?.throwIfAborted();
    // No route for multicast, no permission for it, or a system that does not loop it back.
    if (error === expiry.reason) return undefined;
    if (!(error instanceof NetworkError)) throw error;
    if (options.throwsIfDenied && error.reason === "not-permitted") throw error;
    return undefined;
  }
}

/** A host given by name. */
export interface NamedHost {
  /** A name or an IP address. */
  readonly host: string;
  /** 1 to 65535. */
  readonly port: number;
}

/** A search for this host's IPv6 address, in the background. */
export class LocalIpv6Search implements AsyncDisposable {
  readonly #tasks = new TaskGroup(() => {}); // the task reports its failures by itself
  readonly #found = optionalResolvers<string | undefined>();

  /**
   * Starts the search.
   *
   * @param hosts hosts to connect to over IPv6; one that answers is enough
   */
  constructor(network: Network, hosts: readonly NamedHost[] = [], signal?: AbortSignal) {
    this.#tasks.run(async (ended) => {
      using deadline = new Deadline(
        SEARCH_TIMEOUT_MS,
        signal === undefined ? ended : AbortSignal.any([ended, signal]),
      );
      try {
        // A host that can list its addresses needs no search.
        const isNeeded = hosts.length > 0 && await network.localAddresses() === undefined;
        this.#found.resolve(
          isNeeded ? await discoverLocalIpv6(network, hosts, deadline.signal) : undefined,
        );
      } catch {
        this.#found.resolve(undefined); // aborted, or out of time
      }
    });
  }

  /**
   * The address, if it has been found by now.
   *
   * @param isOnlyChance whether nothing else is known, so that it is worth waiting half a second for
   */
  async find(isOnlyChance: boolean): Promise<string | undefined> {
    using deadline = new Deadline(isOnlyChance ? IPV6_PATIENCE_MS : 0);
    const { promise: tooLate, resolve } = Promise.withResolvers<undefined>();
    deadline.signal.addEventListener("abort", () => resolve(undefined));
    return await Promise.race([this.#found.promise, tooLate]);
  }

  /** Ends the search. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#tasks.stop();
  }
}

/** Whether an address is this host's own. `false` if there is no permission to find out: then it cannot be dialled either. */
export async function isOwnAddress(network: Network, ip: string): Promise<boolean> {
  try {
    return await network.ownsAddress(ip);
  } catch (error) {
    if (error instanceof NetworkError) return false;
    throw error;
  }
}

/** Knows which addresses are this host's own. It asks the system once for each address. */
export class OwnAddresses {
  readonly #network: Network;
  readonly #localPort: number;
  readonly #known = new Map<string, boolean>();

  /** @param localPort an own IP address with another port is still a translated address */
  constructor(network: Network, localPort: number) {
    this.#network = network;
    this.#localPort = localPort;
  }

  /** Asks the system about addresses, so that {@linkcode OwnAddresses.isOwn} knows them. */
  async check(addresses: Iterable<TransportAddress>): Promise<void> {
    for (const { ip } of addresses) {
      if (!this.#known.has(ip)) this.#known.set(ip, await this.#network.ownsAddress(ip));
    }
  }

  /** Whether an address has one of this host's IP addresses and the local port. */
  readonly isOwn = ({ ip, port }: TransportAddress): boolean =>
    port === this.#localPort && this.#known.get(ip) === true;
}

/**
 * Opens something on each of several consecutive local ports, chosen at random.
 *
 * @param open opens it on one port; if another of the consecutive ports is taken, what it opened is disposed
 * @returns `undefined` if a few attempts found no such ports that are all free
 */
export async function openConsecutive<T extends Disposable>(
  count: number,
  open: (port: number) => Promise<T>,
): Promise<T[] | undefined> {
  for (let attempt = 0; attempt < MAX_ROW_ATTEMPTS; attempt++) {
    const first = FIRST_PORT + Math.floor(Math.random() * (LAST_PORT - FIRST_PORT - count));
    const opened: T[] = [];
    try {
      for (let port = first; port < first + count; port++) opened.push(await open(port));
      return opened;
    } catch (error) {
      for (const each of opened) each[Symbol.dispose]();
      if (!(error instanceof NetworkError && error.reason === "address-in-use")) throw error;
    }
  }
  return undefined;
}

/**
 * The prefixes under which this network reaches IPv4 addresses; none if it has no NAT64, its resolver does not tell in
 * time, or on abort. The resolver is asked once a minute, however many connections want to know.
 */
export async function discoverNat64(
  network: Network,
  options: { readonly signal?: AbortSignal } = {},
): Promise<Nat64Prefix[]> {
  let lookup = NAT64_LOOKUPS.get(network);
  if (lookup === undefined || lookup.job.isAborted || lookup.kept.untilMs <= performance.now()) {
    lookup = lookUpNat64(network);
    NAT64_LOOKUPS.set(network, lookup);
  }
  try {
    return await lookup.job.join(options.signal);
  } catch {
    return []; // aborted
  }
}

/** The prefix of a synthesized address of the name; `undefined` if it was not synthesized (RFC 7050 §3). */
export function prefixOf(ip: string): Nat64Prefix | undefined {
  const bytes = ipToBytes(ip);
  const bits = NAT64_PREFIX_BITS.find((bits) =>
    IPV4_ONLY_IPS.includes(formatIp(ipv4After(bytes, bits)))
  );
  if (bits === undefined) return undefined;
  return { ip: formatIp(bytes.map((byte, index) => index < bits / 8 ? byte : 0)), bits };
}

/** Whether a dial failed because this host has no address or no route of the family. */
export function hasNoRoute(error: unknown): boolean {
  return error instanceof NetworkError &&
    (error.reason === "unreachable" || error.reason === "address-not-available");
}

/** The network, except that some of it is done in another way. */
export function networkWith(network: Network, changed: Partial<Network>): Network {
  return {
    bindUdp: (local, options) => network.bindUdp(local, options),
    resolve: (hostname, family, options) => network.resolve(hostname, family, options),
    connectTcp: (remote, options) => network.connectTcp(remote, options),
    connectTls: (remote, options) => network.connectTls(remote, options),
    startTls: network.startTls?.bind(network),
    listenTcp: (local, options) => network.listenTcp(local, options),
    get canReusePort() {
      return network.canReusePort;
    },
    localAddresses: () => network.localAddresses(),
    ownsAddress: (ip) => network.ownsAddress(ip),
    defaultGateways: () => network.defaultGateways(),
    ...changed,
  };
}

/** One question to the resolver, and until when its answer is used. */
interface Nat64Lookup {
  readonly job: SharedJob<Nat64Prefix[]>;
  readonly kept: { untilMs: number };
}

function lookUpNat64(network: Network): Nat64Lookup {
  const kept = { untilMs: performance.now() + NAT64_KEPT_MS };
  const job = new SharedJob(async (signal) => {
    using deadline = new Deadline(NAT64_TIMEOUT_MS, signal);
    try {
      const found = await network.resolve(IPV4_ONLY_NAME, 6, { signal: deadline.signal });
      return found.flatMap((ip) => prefixOf(ip) ?? []);
    } catch (error) {
      const isAnswer = error instanceof NetworkError && error.reason === "name-not-found";
      if (!isAnswer) kept.untilMs = performance.now() + NAT64_RETRY_MS;
      return [];
    }
  });
  return { job, kept };
}

/** Sends a datagram to all hosts on the link, and returns the address that it comes back from. */
async function sourceOfEcho(socket: UdpSocket, signal: AbortSignal): Promise<string> {
  const mark = crypto.getRandomValues(new Uint8Array(16));
  await socket.send(mark, { ip: ALL_HOSTS, port: socket.local.port });
  while (true) {
    const { data, from } = await socket.receive({ signal });
    if (equalBytes(data, mark)) return from.ip;
  }
}

/**
 * The local address of a connection over IPv6 to the first host that answers; `undefined` if none does.
 *
 * @throws the signal's reason on abort
 */
async function discoverLocalIpv6(
  network: Network,
  hosts: readonly NamedHost[],
  signal: AbortSignal,
): Promise<string | undefined> {
  const found = new AbortController(); // ends the slower dials
  const ended = AbortSignal.any([signal, found.signal]);
  const dials = hosts.map(async ({ host, port }) => {
    const [ip] = await network.resolve(host, 6, { signal: ended });
    const connection = await network.connectTcp({ ip: ip!, port }, { signal: ended });
    const { local } = connection;
    connection.reset();
    if (ipScope(local.ip) !== ipScope(ip!)) throw translatedError(local.ip);
    return local.ip;
  });
  try {
    return await Promise.any(dials);
  } catch {
    signal.throwIfAborted();
    return undefined; // no name, no route or no answer: no IPv6
  } finally {
    found.abort();
    await Promise.allSettled(dials);
  }
}

/** An address that is translated on the path is of no use to other hosts. */
function translatedError(ip: string): NetworkError {
  return new NetworkError(`Cannot use ${ip}: it is translated`, "address-not-available");
}

/** RFC 1112 §4. */
const ALL_HOSTS = "224.0.0.1";

/** Chosen by us: what the kernel loops back arrives within a millisecond. */
const ECHO_TIMEOUT_MS = 200;

/** Chosen by us: as long as this library waits for STUN servers. */
const SEARCH_TIMEOUT_MS = 3500;

/** Chosen by us, for hosts whose IPv4 search found nothing: a long round trip, and the time to resolve a name. */
const IPV6_PATIENCE_MS = 500;

/** Chosen by us: below the ephemeral ports of all systems, above the ports of most services. */
const FIRST_PORT = 20_000;

const LAST_PORT = 32_000;

/** Chosen by us: rows that overlap a used port are rare. */
const MAX_ROW_ATTEMPTS = 5;

/** RFC 7050 §8.1: has these IPv4 addresses and no IPv6 address, so each IPv6 address of it was synthesized. */
export const IPV4_ONLY_NAME = "ipv4only.arpa";

const IPV4_ONLY_IPS: readonly string[] = ["192.0.0.170", "192.0.0.171"];

/** How long to wait for the resolver. Chosen by us: longer would hold up a connection. */
const NAT64_TIMEOUT_MS = 500;

/** Chosen by us: a host that moves to another network learns its prefixes within a minute. */
const NAT64_KEPT_MS = 60_000;

/** Chosen by us, for a resolver that did not answer. */
const NAT64_RETRY_MS = 5000;

const NAT64_LOOKUPS = new WeakMap<Network, Nat64Lookup>();
