/**
 * This host's own address, without asking for a permission.
 *
 * @module
 */

import { equalBytes } from "../base/bytes.ts";
import { NetworkError } from "../base/errors.ts";
import { Deadline } from "../base/timers.ts";
import { ipScope, type TransportAddress } from "./address.ts";
import type { Network, UdpSocket } from "./network.ts";

/**
 * The IPv4 address from which this host speaks to its link, or `undefined` if that does not show.
 *
 * A datagram to all hosts of the link (224.0.0.1) comes back to its sender, and tells where it is from. It travels one
 * hop, and carries random bytes by which its sender knows it again.
 *
 * @throws the signal's reason on abort
 */
export async function discoverLocalIpv4(
  network: Network,
  options: { readonly signal?: AbortSignal } = {},
): Promise<string | undefined> {
  const expiry = AbortSignal.timeout(WAIT_MS);
  const signal = AbortSignal.any([expiry, ...options.signal ? [options.signal] : []]);
  try {
    using socket = await network.bindUdp({ ip: "0.0.0.0", port: 0 }, {
      multicast: { groups: [{ group: ALL_HOSTS, interfaceIp: "0.0.0.0" }] },
    });
    const ip = await sourceOfEcho(socket, signal);
    return await network.ownsAddress(ip) ? ip : undefined;
  } catch (error) {
    options.signal?.throwIfAborted();
    // No route for multicast, no permission for it, or a system that does not loop it back.
    if (error === expiry.reason || error instanceof NetworkError) return undefined;
    throw error;
  }
}

async function sourceOfEcho(socket: UdpSocket, signal: AbortSignal): Promise<string> {
  const mark = crypto.getRandomValues(new Uint8Array(16));
  await socket.send(mark, { ip: ALL_HOSTS, port: socket.local.port });
  while (true) {
    const { data, from } = await socket.receive({ signal });
    if (equalBytes(data, mark)) return from.ip;
  }
}

/** RFC 1112 §4. */
const ALL_HOSTS = "224.0.0.1";

/** Ours: what comes back by the kernel's own loop does so in a millisecond. */
const WAIT_MS = 200;

/** Somebody who is known by a name. */
export interface NamedHost {
  /** A name or an IP address. */
  readonly host: string;
  /** 1 to 65535. */
  readonly port: number;
}

/** The search for this host's IPv6 address, which goes on beside all else and holds up nothing. */
export class LocalIpv6Search implements AsyncDisposable {
  readonly #controller = new AbortController();
  readonly #deadline: Deadline;
  readonly #found: Promise<string | undefined>;

  /** @param hosts who may answer */
  constructor(network: Network, hosts: readonly NamedHost[] = [], signal?: AbortSignal) {
    const ended = AbortSignal.any([this.#controller.signal, ...signal ? [signal] : []]);
    this.#deadline = new Deadline(SEARCH_MS, ended);
    const search = async () => {
      if (hosts.length === 0 || await network.localAddresses() !== undefined) return undefined;
      return await discoverLocalIpv6(network, hosts, this.#deadline.signal);
    };
    this.#found = search().catch(() => undefined); // given up
  }

  /** What was found so far. Without anything else it is worth waiting for. */
  async find(isAllThereIs: boolean): Promise<string | undefined> {
    using deadline = new Deadline(isAllThereIs ? IPV6_PATIENCE_MS : 0);
    const { promise: tooLate, resolve } = Promise.withResolvers<undefined>();
    deadline.signal.addEventListener("abort", () => resolve(undefined));
    return await Promise.race([this.#found, tooLate]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#controller.abort();
    await this.#found;
    this.#deadline[Symbol.dispose]();
  }
}

/**
 * The address from which this host speaks to others over IPv6, as a connection to the first of them that answers shows
 * it; `undefined` if none does. It takes a round trip, and no permission beyond the network.
 *
 * @throws the signal's reason on abort
 */
export async function discoverLocalIpv6(
  network: Network,
  hosts: readonly NamedHost[],
  signal: AbortSignal,
): Promise<string | undefined> {
  const found = new AbortController();
  const ended = AbortSignal.any([signal, found.signal]);
  const dials = hosts.map(async ({ host, port }) => {
    const [ip] = await network.resolve(host, 6, { signal: ended });
    const connection = await network.connectTcp({ ip: ip!, port }, { signal: ended });
    const { local } = connection;
    connection.reset();
    if (ipScope(local.ip) !== ipScope(ip!)) throw notGlobal(local.ip);
    return local.ip;
  });
  try {
    return await Promise.any(dials);
  } catch {
    signal.throwIfAborted();
    return undefined; // no name, no route, no answer: no IPv6
  } finally {
    found.abort();
    await Promise.allSettled(dials);
  }
}

/** Behind a translation the address says nothing to anybody outside. */
function notGlobal(ip: string): NetworkError {
  return new NetworkError(`Cannot use ${ip}: it is translated`, "address-not-available");
}

/** Ours: as long as servers are waited for. */
const SEARCH_MS = 3500;

/** Where IPv4 has told nothing; ours: a long round trip, and the time for a name. */
const IPV6_PATIENCE_MS = 500;

/** Asks the system once for each address. */
export class OwnAddresses {
  readonly #network: Network;
  readonly #localPort: number;
  readonly #known = new Map<string, boolean>();

  /** @param localPort an own address with another port is a translated one all the same */
  constructor(network: Network, localPort: number) {
    this.#network = network;
    this.#localPort = localPort;
  }

  /** Makes {@linkcode OwnAddresses.isOwn} know these. */
  async check(addresses: Iterable<TransportAddress>): Promise<void> {
    for (const { ip } of addresses) {
      if (!this.#known.has(ip)) this.#known.set(ip, await this.#network.ownsAddress(ip));
    }
  }

  /** Whether it is this host's address and the local port. */
  readonly isOwn = ({ ip, port }: TransportAddress): boolean =>
    port === this.#localPort && this.#known.get(ip) === true;
}

/**
 * Opens something on each of several consecutive local ports, chosen at random.
 *
 * @param open on one port; what it opened is disposed again if another port of the row is taken
 * @returns `undefined` if no free row was found in a few attempts
 */
export async function openConsecutive<T extends Disposable>(
  count: number,
  open: (port: number) => Promise<T>,
): Promise<T[] | undefined> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
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

/** Below the ports that systems give out by themselves, above most services; ours. */
const FIRST_PORT = 20_000;
const LAST_PORT = 32_000;

const ATTEMPTS = 5;
