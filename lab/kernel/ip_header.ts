/**
 * IP headers, as far as forwarding and translation need them.
 *
 * @module
 */

import { formatIp, type IpFamily } from "../../lib/net/address.ts";
import { checksum, sumWords } from "./checksum.ts";

/** The fields of an IP header, and where they are. */
export interface IpHeader {
  readonly family: IpFamily;
  readonly protocol: number;
  readonly sourceIp: string;
  readonly destinationIp: string;
  /** Offsets from the start of the packet. */
  readonly source: number;
  readonly destination: number;
  readonly payload: number;
  readonly headerChecksum: number | undefined;
}

/**
 * Reads the IP header at `start`; `undefined` if it is truncated, or belongs to a fragment. IPv6 extension
 * headers are not skipped.
 */
export function parseIpHeader(bytes: Uint8Array, start: number): IpHeader | undefined {
  const version = (bytes[start] ?? 0) >> 4;
  if (version === 4 && bytes.length >= start + 20) {
    const fragment = ((bytes[start + 6]! << 8) | bytes[start + 7]!) & MORE_FRAGMENTS_AND_OFFSET;
    if (fragment !== 0) return undefined;
    return {
      family: 4,
      protocol: bytes[start + 9]!,
      sourceIp: formatIp(bytes.subarray(start + 12, start + 16)),
      destinationIp: formatIp(bytes.subarray(start + 16, start + 20)),
      source: start + 12,
      destination: start + 16,
      payload: start + (bytes[start]! & 0xf) * 4,
      headerChecksum: start + 10,
    };
  }
  if (version === 6 && bytes.length >= start + 40) {
    return {
      family: 6,
      protocol: bytes[start + 6]!,
      sourceIp: formatIp(bytes.subarray(start + 8, start + 24)),
      destinationIp: formatIp(bytes.subarray(start + 24, start + 40)),
      source: start + 8,
      destination: start + 24,
      payload: start + 40,
      headerChecksum: undefined,
    };
  }
  return undefined;
}

/** The checksum of the pseudo header (RFC 9293 §3.1, RFC 8200 §8.1) and everything from `payload` on. */
export function transportChecksum(
  bytes: Uint8Array,
  source: number,
  addressLength: number,
  payload: number,
  protocol: number,
): number {
  const addresses = sumWords(bytes.subarray(source, source + 2 * addressLength));
  return checksum(bytes.subarray(payload), addresses + protocol + bytes.length - payload);
}

/** A view of exactly these bytes. */
export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Protocol numbers of the IANA registry. */
export const TCP = 6;
export const UDP = 17;
export const ICMP = { 4: 1, 6: 58 } as const;

/** TCP control bits (RFC 9293 §3.1). */
export const FIN = 0x01;
export const SYN = 0x02;
export const RST = 0x04;
export const ACK = 0x10;

/** RFC 791 §3.1: all bits but the reserved one and "don't fragment". */
const MORE_FRAGMENTS_AND_OFFSET = 0x3fff;
