/**
 * ICMP errors, as a NAT sends them to refuse a packet.
 *
 * @module
 */

import { ipToBytes } from "../../lib/net/address.ts";
import { checksum } from "./checksum.ts";
import { ICMP, parseIpHeader, transportChecksum, viewOf } from "./ip_header.ts";

/**
 * The error "port unreachable" (RFC 792, RFC 4443 §3.1) that answers a packet, with as much of that as RFC 792 asks for.
 *
 * @param sourceIp where the error comes from
 * @throws {TypeError} if the bytes are not an IP packet
 */
export function buildPortUnreachable(
  packet: Uint8Array,
  sourceIp: string,
): Uint8Array<ArrayBuffer> {
  const ip = parseIpHeader(packet, 0);
  if (ip === undefined) throw new TypeError("Cannot build ICMP error: not an IP packet");
  const original = packet.subarray(0, ip.payload + 8);
  const headerLength = ip.family === 4 ? 20 : 40;
  const error = new Uint8Array(headerLength + 8 + original.length);
  const view = viewOf(error);
  if (ip.family === 4) {
    view.setUint8(0, 0x45);
    view.setUint16(2, error.length);
    view.setUint8(8, TTL);
    view.setUint8(9, ICMP[4]);
  } else {
    view.setUint8(0, 0x60);
    view.setUint16(4, error.length - headerLength);
    view.setUint8(6, ICMP[6]);
    view.setUint8(7, TTL);
  }
  error.set(ipToBytes(sourceIp), ip.source);
  error.set(packet.subarray(ip.source, ip.destination), ip.destination);

  const { type, code } = PORT_UNREACHABLE[ip.family];
  view.setUint8(headerLength, type);
  view.setUint8(headerLength + 1, code);
  error.set(original, headerLength + 8);
  const sum = ip.family === 4
    ? checksum(error.subarray(headerLength))
    : transportChecksum(error, ip.source, 16, headerLength, ICMP[6]);
  view.setUint16(headerLength + 2, sum);
  if (ip.family === 4) view.setUint16(10, checksum(error.subarray(0, 20)));
  return error;
}

const PORT_UNREACHABLE = { 4: { type: 3, code: 3 }, 6: { type: 1, code: 4 } } as const;

/** What hosts commonly start with. */
const TTL = 64;
