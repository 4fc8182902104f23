/**
 * The client's address behind proxies that are trusted to name it: `X-Forwarded-For`, to which each proxy appends the
 * address that it was called from.
 *
 * @module
 */

import { isIp, parseHostPort, parseIp } from "../../net/address.ts";
import { type IpPrefix, isInPrefix, unmapped } from "../../net/ip_prefix.ts";

/** Whether this address may name others. */
export function isTrustedProxy(ip: string, proxies: readonly IpPrefix[]): boolean {
  return proxies.some((prefix) => isInPrefix(ip, prefix));
}

/**
 * The rightmost address that is not a trusted proxy's: what stands to the left of it, the client may have invented.
 *
 * @param ip where the connection comes from
 * @param forwardedFor the values of the header fields, joined with commas
 */
export function clientAddress(
  ip: string,
  forwardedFor: string | undefined,
  proxies: readonly IpPrefix[],
): string {
  let client = unmapped(ip);
  const hops = forwardedFor?.split(",").reverse() ?? [];
  for (const hop of hops) {
    if (!isTrustedProxy(client, proxies)) return client;
    const named = readHop(hop.trim());
    if (named === undefined) return client; // a proxy that does not know or tell is the client
    client = named;
  }
  return client;
}

/** An address, with or without a port. */
function readHop(text: string): string | undefined {
  if (isIp(text)) return unmapped(parseIp(text));
  try {
    const { host } = parseHostPort(text, 0);
    return isIp(host) ? unmapped(parseIp(host)) : undefined;
  } catch (error) {
    if (error instanceof TypeError || error instanceof RangeError) return undefined;
    throw error;
  }
}
