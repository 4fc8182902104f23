/**
 * This host's own IPv6 address where its interfaces may not be asked for.
 *
 * @module
 */

import { NetworkError } from "../base/errors.ts";
import { GiveUp } from "../base/timers.ts";
import { ipScope } from "../net/address.ts";
import type { Network } from "../net/network.ts";

/** Somebody who is known by a name. */
export interface NamedHost {
  /** A name or an IP address. */
  readonly host: string;
  /** 1 to 65535. */
  readonly port: number;
}

/** The search for this host's IPv6 address, which goes on beside all else and holds up nothing. */
export class OwnIpv6 implements AsyncDisposable {
  readonly #controller = new AbortController();
  readonly #giveUp: GiveUp;
  readonly #found: Promise<string | undefined>;

  /** @param hosts who may answer */
  constructor(network: Network, hosts: readonly NamedHost[] = [], signal?: AbortSignal) {
    const ended = AbortSignal.any([this.#controller.signal, ...signal ? [signal] : []]);
    this.#giveUp = new GiveUp(SEARCH_MS, ended);
    const search = async () => {
      if (hosts.length === 0 || await network.localAddresses() !== undefined) return undefined;
      return await findOwnIpv6(network, hosts, this.#giveUp.signal);
    };
    this.#found = search().catch(() => undefined); // given up
  }

  /** What was found so far. Without anything else it is worth waiting for. */
  async find(isAllThereIs: boolean): Promise<string | undefined> {
    using patience = new GiveUp(isAllThereIs ? IPV6_PATIENCE_MS : 0);
    const { promise: tooLate, resolve } = Promise.withResolvers<undefined>();
    patience.signal.addEventListener("abort", () => resolve(undefined));
    return await Promise.race([this.#found, tooLate]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#controller.abort();
    await this.#found;
    this.#giveUp[Symbol.dispose]();
  }
}

/**
 * The address from which this host speaks to others over IPv6, as a connection to the first of them that answers shows
 * it; `undefined` if none does. It takes a round trip, and no permission beyond the network.
 *
 * @throws the signal's reason on abort
 */
export async function findOwnIpv6(
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
