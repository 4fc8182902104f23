/**
 * TCP resets, as a NAT sends them to refuse a connection.
 *
 * @module
 */

import { checksum } from "./checksum.ts";
import { ACK, FIN, parseIpHeader, RST, SYN, TCP, transportChecksum, viewOf } from "./ip_header.ts";

/**
 * The RST that answers a TCP segment to a closed port (RFC 9293 §3.10.7.1), without options.
 *
 * @throws {TypeError} if the bytes are not a TCP segment
 */
export function buildReset(segment: Uint8Array): Uint8Array<ArrayBuffer> {
  const ip = parseIpHeader(segment, 0);
  if (ip?.protocol !== TCP || segment.length < ip.payload + 20) {
    throw new TypeError("Cannot build RST: not a TCP segment");
  }
  const view = viewOf(segment);
  const flags = segment[ip.payload + 13]!;
  const dataOffset = (segment[ip.payload + 12]! >> 4) * 4;
  const sequenceLength = segment.length - ip.payload - dataOffset + (flags & SYN ? 1 : 0) +
    (flags & FIN ? 1 : 0);

  const headerLength = ip.family === 4 ? 20 : 40;
  const reset = new Uint8Array(headerLength + 20);
  const out = viewOf(reset);
  if (ip.family === 4) {
    out.setUint8(0, 0x45);
    out.setUint16(2, reset.length);
    out.setUint16(6, DONT_FRAGMENT);
    out.setUint8(8, TTL);
    out.setUint8(9, TCP);
  } else {
    out.setUint8(0, 0x60);
    out.setUint16(4, 20);
    out.setUint8(6, TCP);
    out.setUint8(7, TTL);
  }
  const length = ip.destination - ip.source;
  reset.set(segment.subarray(ip.destination, ip.destination + length), ip.source);
  reset.set(segment.subarray(ip.source, ip.source + length), ip.destination);

  out.setUint16(headerLength, view.getUint16(ip.payload + 2));
  out.setUint16(headerLength + 2, view.getUint16(ip.payload));
  out.setUint32(headerLength + 8, view.getUint32(ip.payload + 4) + sequenceLength);
  out.setUint8(headerLength + 12, 5 << 4);
  out.setUint8(headerLength + 13, RST | ACK);
  out.setUint16(headerLength + 16, transportChecksum(reset, ip.source, length, headerLength, TCP));
  if (ip.family === 4) out.setUint16(10, checksum(reset.subarray(0, 20)));
  return reset;
}

/** RFC 791 §3.1. */
const DONT_FRAGMENT = 0x4000;

/** What hosts commonly start with. */
const TTL = 64;
