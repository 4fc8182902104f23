/**
 * IP prefixes such as `10.0.0.0/8` (RFC 4632, RFC 4291 §2.3).
 *
 * @module
 */

import { formatIp, ipFamily, ipToBytes, parseIp } from "./address.ts";

/** All addresses that begin with the same bits. */
export interface IpPrefix {
  /** Any address of the prefix. */
  readonly ip: string;
  /** How many bits they share. */
  readonly bits: number;
}

/**
 * Reads `ADDRESS` or `ADDRESS/BITS`.
 *
 * @throws {TypeError} if it is neither
 */
export function parseIpPrefix(text: string): IpPrefix {
  const [address, length, ...rest] = text.split("/");
  const ip = parseIp(address!);
  const most = ipFamily(ip) === 4 ? 32 : 128;
  if (length === undefined) return { ip, bits: most };
  if (rest.length === 0 && /^\d{1,3}$/.test(length) && Number(length) <= most) {
    return { ip, bits: Number(length) };
  }
  throw new TypeError(`Cannot read IP prefix ${text}: the length is 0 to ${most} bits`);
}

/** Whether an address belongs to a prefix. */
export function isInPrefix(ip: string, prefix: IpPrefix): boolean {
  const plain = unmapped(ip);
  if (ipFamily(plain) !== ipFamily(prefix.ip)) return false;
  const [one, other] = [ipToBytes(plain), ipToBytes(prefix.ip)];
  for (let at = 0; at < one.length; at++) {
    const bits = Math.min(8, Math.max(0, prefix.bits - 8 * at));
    if (((one[at]! ^ other[at]!) >> (8 - bits)) !== 0) return false;
  }
  return true;
}

/** The IPv4 address in an IPv4-mapped IPv6 address (RFC 4291 §2.5.5.2); any other address as it is. */
export function unmapped(ip: string): string {
  if (!ip.includes(":")) return ip;
  const bytes = ipToBytes(ip);
  const isMapped = bytes.every((byte, at) => at >= 12 || byte === (at < 10 ? 0 : 0xff));
  return isMapped ? formatIp(bytes.subarray(12)) : ip;
}
