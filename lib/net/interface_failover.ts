/**
 * Another interface for the internet where the default route leads nowhere, such as into a VPN that swallows everything:
 * each address of this host is tried as the source of a dial, and one that is answered is used from then on. Whether the
 * system sends such packets by the interface of their source is up to its routes; where it does not, nothing changes.
 *
 * @module
 */

import { NetworkError } from "../base/errors.ts";
import { TokenBucket } from "../base/rate_limiter.ts";
import { TaskGroup } from "../base/tasks.ts";
import { ipFamily, ipScope, type TransportAddress } from "./address.ts";
import { networkWith } from "./local_address.ts";
import type {
  ConnectTcpOptions,
  ConnectTlsOptions,
  LocalAddress,
  Network,
  TcpConnection,
} from "./network.ts";
import { delay } from "@std/async/delay";

/** A dial whose source the system chooses, and which is late or has failed. */
export interface LateDial {
  readonly remote: TransportAddress;
  /** The TLS of the connection, if it has any. */
  readonly tls?: Pick<ConnectTlsOptions, "hostname" | "caCerts">;
  readonly signal?: AbortSignal;
  /** The dial itself, which goes on. */
  readonly first: Promise<TcpConnection>;
}

/**
 * The addresses that a dial may leave from, as far as this host may list them; a few at most. Interfaces take turns: one may
 * have many IPv6 addresses.
 */
export async function sourceAddresses(
  network: Network,
  family: 4 | 6,
): Promise<LocalAddress[]> {
  const byInterface = new Map<string, LocalAddress[]>();
  for (const own of await network.localAddresses() ?? []) {
    if (ipFamily(own.ip) !== family || isOfOneLink(own.ip)) continue;
    byInterface.set(own.interfaceName, [...byInterface.get(own.interfaceName) ?? [], own]);
  }
  const turns = [...byInterface.values()];
  const most = Math.max(0, ...turns.map(({ length }) => length));
  return Array.from({ length: most }, (_, turn) => turns.flatMap((each) => each[turn] ?? []))
    .flat().slice(0, MAX_SOURCES);
}

/** Finds an interface that works, for IPv4 and IPv6 each, and sends by it. */
export class InterfaceFailover {
  /** As the network below it, but what goes to addresses of the internet has the chosen source. */
  readonly network: Network;
  readonly #below: Network;
  readonly #onChosen: (ip: string) => void;
  readonly #rate = new TokenBucket(RESCUES, performance.now());
  /** By address family: a VPN may take one of them alone. */
  readonly #chosen = new Map<4 | 6, { readonly ip: string; readonly untilMs: number }>();

  /** @param onChosen called with the address of the interface that is used from now on */
  constructor(network: Network, onChosen: (ip: string) => void) {
    this.#below = network;
    this.#onChosen = onChosen;
    this.network = networkWith(network, {
      bindUdp: async (local, options) => {
        const ip = this.chosenIp(ipFamily(local.ip));
        const isPlain = isAny(local.ip) && options?.multicast === undefined;
        if (ip === undefined || !isPlain) return await network.bindUdp(local, options);
        return await this.#unlessGone(ip, (ip) => network.bindUdp({ ...local, ip }, options));
      },
      connectTcp: async (remote, options = {}) => {
        const family = ipFamily(remote.ip);
        const { local = { ip: ANY[family], port: 0 } } = options;
        const ip = this.chosenIp(family);
        const isPlain = isAny(local.ip) && isOnInternet(remote.ip);
        if (ip === undefined || !isPlain) return await network.connectTcp(remote, options);
        return await this.#unlessGone(
          ip,
          (ip) => network.connectTcp(remote, { ...options, local: { ...local, ip } }),
        );
      },
      connectTls: async (remote, options) => {
        const ip = this.chosenIp(ipFamily(remote.ip));
        if (ip === undefined || !isOnInternet(remote.ip)) {
          return await network.connectTls(remote, options);
        }
        return await this.#unlessGone(
          ip,
          (ip) => this.#from(ip, { remote, tls: options }, options),
        );
      },
    });
  }

  /** The address of the interface in use for this family; `undefined` if the system chooses. */
  chosenIp(family: 4 | 6): string | undefined {
    const chosen = this.#chosen.get(family);
    // The default route may lead somewhere again.
    if (chosen !== undefined && performance.now() >= chosen.untilMs) this.#chosen.delete(family);
    return this.#chosen.get(family)?.ip;
  }

  /**
   * Dials from each address of this host beside a dial that is late; the first connection counts. The interface is chosen
   * if a new dial without a source is not answered either. Only a few dials in a minute are rescued.
   *
   * @throws what the late dial throws, if no dial succeeds
   */
  async rescue(late: LateDial): Promise<TcpConnection> {
    const { first, signal } = late;
    if (!this.#rate.take(performance.now())) return await first;
    const sources = await sourceAddresses(this.#below, ipFamily(late.remote.ip));
    const ips = sources.map(({ ip }) => ip);
    await using tasks = new TaskGroup(() => {}); // every failure is in the results
    const either = signal === undefined ? tasks.signal : AbortSignal.any([signal, tasks.signal]);
    const dials = [undefined, ...ips].map((ip) => {
      const { promise, resolve, reject } = Promise.withResolvers<Dialled>();
      tasks.run(async () => {
        try {
          resolve({ ip, connection: await this.#from(ip, late, { signal: either }) });
        } catch (error) {
          reject(error);
        }
      });
      return promise;
    });
    const all = [first.then((connection): Dialled => ({ ip: undefined, connection })), ...dials];
    const startedAtMs = performance.now();
    let winner: Dialled;
    try {
      winner = await Promise.any(all);
    } catch {
      signal?.throwIfAborted();
      return await first;
    }
    const plain = Promise.any(all.slice(0, 2)).then(() => true, () => false);
    const graceMs = Math.max(MIN_GRACE_MS, performance.now() - startedAtMs);
    const isRouted = winner.ip === undefined ||
      await Promise.race([
        plain,
        delay(graceMs, { signal: either }).then(() => false, () => false),
      ]);
    for (const dial of all) {
      dial.then(
        ({ connection }) => connection !== winner.connection && connection.reset(),
        () => {},
      );
    }
    if (signal?.aborted) {
      winner.connection.reset();
      throw signal.reason;
    }
    if (!isRouted && winner.ip !== undefined) this.#choose(winner.ip);
    return winner.connection;
  }

  #choose(ip: string): void {
    const family = ipFamily(ip);
    const isNew = this.chosenIp(family) !== ip;
    this.#chosen.set(family, { ip, untilMs: performance.now() + KEPT_MS });
    if (isNew) this.#onChosen(ip);
  }

  async #from(
    ip: string | undefined,
    { remote, tls }: Pick<LateDial, "remote" | "tls">,
    { signal }: ConnectTcpOptions,
  ): Promise<TcpConnection> {
    const network = this.#below;
    if (ip === undefined) {
      return tls === undefined
        ? await network.connectTcp(remote, { signal })
        : await network.connectTls(remote, { ...tls, signal });
    }
    const connection = await network.connectTcp(remote, { local: { ip, port: 0 }, signal });
    if (tls === undefined) return connection;
    if (network.startTls !== undefined) {
      return await network.startTls(connection, { ...tls, signal });
    }
    connection.reset();
    throw new NetworkError(`Cannot use TLS from ${ip}: this network cannot start it`, "other", {
      remedy: "Give a `network` that has `startTls()`",
    });
  }

  /** An interface that has lost its address is no longer used. */
  async #unlessGone<T>(ip: string, open: (ip: string) => Promise<T>): Promise<T> {
    try {
      return await open(ip);
    } catch (error) {
      const isGone = error instanceof NetworkError && error.reason === "address-not-available";
      if (!isGone) throw error;
      const family = ipFamily(ip);
      this.#chosen.delete(family);
      return await open(ANY[family]);
    }
  }
}

interface Dialled {
  /** The source; `undefined` if the system chose it. */
  readonly ip: string | undefined;
  readonly connection: TcpConnection;
}

/**
 * Whether an address is one of the internet, or leads there through a NAT64: what is nearby is reached by the routes of its
 * interface.
 */
function isOnInternet(ip: string): boolean {
  return ["global", "documentation", "translation"].includes(ipScope(ip));
}

function isOfOneLink(ip: string): boolean {
  return ["loopback", "link-local"].includes(ipScope(ip));
}

function isAny(ip: string): boolean {
  return ip === ANY[4] || ip === ANY[6];
}

const ANY = { 4: "0.0.0.0", 6: "::" } as const;

/** Chosen by us: containers and virtual machines add interfaces, which lead nowhere. */
const MAX_SOURCES = 6;

/** How much later a dial without a source may be answered. Chosen by us: what one packet may be held up. */
const MIN_GRACE_MS = 100;

/** Chosen by us: as many servers as are dialled at once; one that is down must not cost a few SYNs more each time. */
const RESCUES = { burst: 4, perSecond: 1 / 15 };

/** Chosen by us: VPNs and cables come and go. */
const KEPT_MS = 600_000;
