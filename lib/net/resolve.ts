/**
 * Names and addresses: one address of a name, and a network that resolves names in its own way.
 *
 * @module
 */

import { NetworkError } from "../base/errors.ts";
import { type IpFamily, ipFamily, isIp } from "./address.ts";
import { hasNoRoute, networkWith } from "./local_address.ts";
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
    if (!isNotFound(error)) throw error;
    return (await network.resolve(host, 6, { signal }).catch((other) => {
      throw isNotFound(other) ? error : other;
    }))[0]!;
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

/**
 * Does something with the address of a host, given by name or IP address: its IPv4 address first, and if that cannot be
 * reached its IPv6 address.
 *
 * @throws {NetworkError} `name-not-found` if it has none; or whatever `job` throws
 */
export async function withHostAddress<T>(
  network: Network,
  host: string,
  options: ResolveHostOptions,
  job: (ip: string) => Promise<T>,
): Promise<T> {
  const ip = await resolveHost(network, host, options);
  try {
    return await job(ip);
  } catch (error) {
    options.signal?.throwIfAborted();
    const isLast = options.family !== undefined || isIp(host) || ipFamily(ip) === 6;
    if (isLast || !hasNoRoute(error)) throw error;
    let other: string;
    try {
      other = (await network.resolve(host, 6, { signal: options.signal }))[0]!;
    } catch {
      throw error; // it has no other address
    }
    return await job(other);
  }
}

function isNotFound(error: unknown): boolean {
  return error instanceof NetworkError && error.reason === "name-not-found";
}
