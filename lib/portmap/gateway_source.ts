/**
 * Whom a gateway's datagram is from.
 *
 * @module
 */

import { formatIp, ipToBytes, type TransportAddress } from "../net/address.ts";

/**
 * Whether a datagram is from the very address and port that were asked. The system leaves the zone out of where
 * datagrams come from, though a link-local gateway cannot be asked without.
 */
export function isFrom(source: TransportAddress, asked: TransportAddress): boolean {
  return source.port === asked.port && isSameIp(source.ip, asked.ip);
}

/** Whether two addresses are the same but for their zones. */
export function isSameIp(a: string, b: string): boolean {
  return a === b || formatIp(ipToBytes(a)) === formatIp(ipToBytes(b));
}
