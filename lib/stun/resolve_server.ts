/**
 * From the name of a server to its address.
 *
 * @module
 */

import { NetworkError } from "../base/errors.ts";
import type { IpFamily } from "../net/address.ts";
import type { Network } from "../net/network.ts";

/** Which address to take. */
export interface ResolveServerOptions {
  /** Unless given, IPv4 and, where there is none, IPv6. */
  readonly family?: IpFamily;
  readonly signal?: AbortSignal;
}

/**
 * The first address of a host, which may be its address.
 *
 * @throws {NetworkError} `name-not-found` if there is none
 */
export async function resolveServer(
  network: Network,
  host: string,
  { family, signal }: ResolveServerOptions,
): Promise<string> {
  if (family !== undefined) return (await network.resolve(host, family, { signal }))[0]!;
  try {
    return (await network.resolve(host, 4, { signal }))[0]!;
  } catch (error) {
    if (!(error instanceof NetworkError && error.reason === "name-not-found")) throw error;
    return (await network.resolve(host, 6, { signal }))[0]!;
  }
}
