/**
 * Names and addresses: one address of a name, and networks that resolve names in their own way.
 *
 * @module
 */

import { NetworkError } from "../base/errors.ts";
import type { IpFamily } from "./address.ts";
import type { Network } from "./network.ts";
import { abortable } from "@std/async/abortable";

/** Options of {@linkcode resolveHost}. */
export interface ResolveHostOptions {
  /** Default: IPv4, or IPv6 if there is no IPv4 address. */
  readonly family?: IpFamily;
  readonly signal?: AbortSignal;
}

/**
 * The first address of a host, given by name or IP address.
 *
 * @throws {NetworkError} `name-not-found` if it has none
 */
export async function resolveHost(
  network: Network,
  host: string,
  { family, signal }: ResolveHostOptions,
): Promise<string> {
  if (family !== undefined) return (await network.resolve(host, family, { signal }))[0]!;
  try {
    return (await network.resolve(host, 4, { signal }))[0]!;
  } catch (error) {
    if (!(error instanceof NetworkError && error.reason === "name-not-found")) throw error;
    return (await network.resolve(host, 6, { signal }))[0]!;
  }
}

/**
 * A network that looks up each name once while the answer is fresh: so that the addresses which were judged are those that
 * are dialled. A lookup that fails is forgotten.
 *
 * @param freshMs how long an answer counts
 */
export function resolvingOnce(network: Network, freshMs: number): Network {
  const lookups = new Map<
    string,
    { readonly answer: Promise<string[]>; readonly untilMs: number }
  >();
  return networkWith(network, {
    resolve: async (hostname, family, { signal } = {}) => {
      signal?.throwIfAborted();
      const key = `${hostname} ${family}`;
      const nowMs = performance.now();
      let lookup = lookups.get(key);
      if (lookup === undefined || lookup.untilMs <= nowMs) {
        const answer = network.resolve(hostname, family); // one who gives up does not end it for others
        lookup = { answer, untilMs: nowMs + freshMs };
        lookups.set(key, lookup);
        answer.catch(() => lookups.delete(key));
      }
      return await (signal === undefined ? lookup.answer : abortable(lookup.answer, signal));
    },
  });
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
