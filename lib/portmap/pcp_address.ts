/**
 * IP addresses in PCP messages: always sixteen bytes, IPv4 as `::ffff:a.b.c.d`. RFC 6887 §5.
 *
 * @module
 */

import type { ByteReader } from "../base/bytes.ts";
import { formatIp, type IpFamily, ipToBytes } from "../net/address.ts";

/** The sixteen bytes of an address. */
export function pcpAddressBytes(ip: string): Uint8Array<ArrayBuffer> {
  const address = ipToBytes(ip);
  if (address.length === 16) return address;
  const mapped = new Uint8Array(16);
  mapped.set(V4_MAPPED);
  mapped.set(address, V4_MAPPED.length);
  return mapped;
}

/** Reads sixteen bytes; an IPv4 address comes out as such. */
export function readPcpAddress(reader: ByteReader, field: string): string {
  const bytes = reader.bytes(16, field);
  const isIpv4 = V4_MAPPED.every((byte, index) => bytes[index] === byte);
  return formatIp(isIpv4 ? bytes.subarray(V4_MAPPED.length) : bytes);
}

/** "No address" of a family: RFC 6887 §5. */
export function noAddress(family: IpFamily): string {
  return family === 4 ? "0.0.0.0" : "::";
}

const V4_MAPPED = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
