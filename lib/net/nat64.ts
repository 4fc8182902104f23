/**
 * The NAT64 prefixes of this host's network, as its resolver shows them (RFC 7050).
 *
 * @module
 */

import { Deadline } from "../base/timers.ts";
import { formatIp, ipToBytes, ipv4After, NAT64_PREFIX_BITS, type Nat64Prefix } from "./address.ts";
import type { Network } from "./network.ts";

/**
 * The prefixes under which this network reaches IPv4 addresses; none if it has no NAT64, its resolver does not tell in
 * time, or on abort.
 */
export async function discoverNat64(
  network: Network,
  options: { readonly signal?: AbortSignal } = {},
): Promise<Nat64Prefix[]> {
  using deadline = new Deadline(TIMEOUT_MS, options.signal);
  try {
    const found = await network.resolve(NAME, 6, { signal: deadline.signal });
    return found.flatMap((ip) => prefixOf(ip) ?? []);
  } catch {
    return []; // no such name, no permission, or aborted
  }
}

/** The prefix of a synthesized address of the name; `undefined` if it was not synthesized (RFC 7050 §3). */
export function prefixOf(ip: string): Nat64Prefix | undefined {
  const bytes = ipToBytes(ip);
  const bits = NAT64_PREFIX_BITS.find((bits) => IPS.includes(formatIp(ipv4After(bytes, bits))));
  if (bits === undefined) return undefined;
  return { ip: formatIp(bytes.map((byte, index) => index < bits / 8 ? byte : 0)), bits };
}

/** RFC 7050 §8.1: has these IPv4 addresses and no IPv6 address, so each IPv6 address of it was synthesized. */
const NAME = "ipv4only.arpa";
const IPS: readonly string[] = ["192.0.0.170", "192.0.0.171"];

/** How long to wait for the resolver. Chosen by us: longer would hold up a connection. */
const TIMEOUT_MS = 500;
