/**
 * Resolving a host name to one address.
 *
 * @module
 */

import { NetworkError } from "../base/errors.ts";
import type { IpFamily } from "./address.ts";
import type { Network } from "./network.ts";

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
