/**
 * IP packets as bytes: read what a NAT looks at, and write what it changed. IPv4 and IPv6; TCP, UDP, ICMP
 * echoes and ICMP errors. Fragments and other protocols are not read.
 *
 * @module
 */

import { formatIp, type IpFamily, ipToBytes } from "../../lib/net/address.ts";
import { adjustChecksum, checksum, sumWords } from "./checksum.ts";
import type { NatPacket, SessionPacket, TcpFlags } from "./nat_packet.ts";

/** What a NAT needs to know of a packet, or `undefined` if it is broken, a fragment or of another protocol. */
export function parsePacket(bytes: Uint8Array): NatPacket | undefined {
  const ip = parseIpHeader(bytes, 0);
  if (ip === undefined || bytes.length < ip.payload + 8) return undefined;
  if (ip.protocol !== ICMP[ip.family]) return parseSession(bytes, ip);

  const kind = icmpKind(ip.family, bytes[ip.payload]!);
  if (kind !== "error") return parseSession(bytes, ip);
  const inner = parseIpHeader(bytes, ip.payload + 8);
  const original = inner === undefined ? undefined : parseSession(bytes, inner);
  if (original === undefined) return undefined;
  return {
    protocol: "icmp-error",
    sourceIp: ip.sourceIp,
    destinationIp: ip.destinationIp,
    original,
  };
}

/** Writes the addresses, ports and identifiers of `packet` into the bytes that it was read from, in place. */
export function rewritePacket(bytes: Uint8Array, packet: NatPacket): void {
  const ip = parseIpHeader(bytes, 0);
  if (ip === undefined) return;
  if (packet.protocol !== "icmp-error") return rewriteSession(bytes, ip, packet);

  const inner = parseIpHeader(bytes, ip.payload + 8);
  if (inner === undefined) return;
  rewriteSession(bytes, inner, packet.original);
  const covering = ip.headerChecksum === undefined ? [] : [ip.headerChecksum];
  writeIp(bytes, ip.source, packet.sourceIp, covering);
  writeIp(bytes, ip.destination, packet.destinationIp, covering);
  writeIcmpChecksum(bytes, ip);
}

/**
 * The RST that answers a TCP segment to a closed port (RFC 9293 §3.10.7.1), without options.
 *
 * @throws {TypeError} if the bytes are not a TCP segment
 */
export function buildReset(segment: Uint8Array): Uint8Array<ArrayBuffer> {
  const ip = parseIpHeader(segment, 0);
  if (ip?.protocol !== TCP || segment.length < ip.payload + 20) {
    throw new TypeError("Cannot build RST: it answers a TCP segment, this is none");
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

/** Where the fields of an IP header are, and those that decide. */
interface IpHeader {
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

function parseIpHeader(bytes: Uint8Array, start: number): IpHeader | undefined {
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

/** Takes 8 bytes behind the IP header, as an ICMP error holds them of the packet that it is about. */
function parseSession(bytes: Uint8Array, ip: IpHeader): SessionPacket | undefined {
  if (bytes.length < ip.payload + 8) return undefined;
  const view = viewOf(bytes);
  const endpoints = (sourcePort: number, destinationPort: number) => ({
    source: { ip: ip.sourceIp, port: sourcePort },
    destination: { ip: ip.destinationIp, port: destinationPort },
  });
  if (ip.protocol === UDP || ip.protocol === TCP) {
    const ports = endpoints(view.getUint16(ip.payload), view.getUint16(ip.payload + 2));
    if (ip.protocol === UDP) return { protocol: "udp", ...ports };
    return { protocol: "tcp", ...ports, tcpFlags: tcpFlags(bytes[ip.payload + 13] ?? 0) };
  }
  if (ip.protocol !== ICMP[ip.family]) return undefined;
  const identifier = view.getUint16(ip.payload + 4);
  switch (icmpKind(ip.family, bytes[ip.payload]!)) {
    case "echo-request":
      return { protocol: "icmp", ...endpoints(identifier, 0) };
    case "echo-reply":
      return { protocol: "icmp", ...endpoints(0, identifier) };
    default:
      return undefined;
  }
}

function rewriteSession(bytes: Uint8Array, ip: IpHeader, packet: SessionPacket): void {
  const transport = transportChecksumOffset(bytes, ip);
  const overPorts = transport === undefined ? [] : [transport];
  // The checksum of ICMP alone does not cover the addresses, in IPv4.
  const overAddresses = ip.protocol === ICMP[4] && ip.family === 4 ? [] : [...overPorts];
  if (ip.headerChecksum !== undefined) overAddresses.push(ip.headerChecksum);
  if (packet.source.ip !== ip.sourceIp) {
    writeIp(bytes, ip.source, packet.source.ip, overAddresses);
  }
  if (packet.destination.ip !== ip.destinationIp) {
    writeIp(bytes, ip.destination, packet.destination.ip, overAddresses);
  }
  if (packet.protocol === "icmp") {
    const identifier = packet.source.port || packet.destination.port;
    writeWord(bytes, ip.payload + 4, identifier, overPorts);
  } else {
    writeWord(bytes, ip.payload, packet.source.port, overPorts);
    writeWord(bytes, ip.payload + 2, packet.destination.port, overPorts);
  }
  // RFC 768: a UDP checksum of zero would say that there is none.
  if (ip.protocol === UDP && transport !== undefined && viewOf(bytes).getUint16(transport) === 0) {
    viewOf(bytes).setUint16(transport, 0xffff);
  }
}

/** Where the transport checksum is, if the packet has one and it is not cut off. */
function transportChecksumOffset(bytes: Uint8Array, ip: IpHeader): number | undefined {
  const view = viewOf(bytes);
  if (ip.protocol === UDP) {
    return view.getUint16(ip.payload + 6) === 0 ? undefined : ip.payload + 6;
  }
  const offset = ip.payload + (ip.protocol === TCP ? 16 : 2);
  return offset + 2 <= bytes.length ? offset : undefined;
}

function writeIp(
  bytes: Uint8Array,
  offset: number,
  ip: string,
  checksums: readonly number[],
): void {
  const address = ipToBytes(ip);
  for (let i = 0; i < address.length; i += 2) {
    writeWord(bytes, offset + i, (address[i]! << 8) | address[i + 1]!, checksums);
  }
}

/** Writes a 16-bit word and adjusts the checksums that cover it. */
function writeWord(
  bytes: Uint8Array,
  offset: number,
  word: number,
  checksums: readonly number[],
): void {
  const view = viewOf(bytes);
  const old = view.getUint16(offset);
  if (old === word) return;
  view.setUint16(offset, word);
  for (const at of checksums) view.setUint16(at, adjustChecksum(view.getUint16(at), old, word));
}

function writeIcmpChecksum(bytes: Uint8Array, ip: IpHeader): void {
  const view = viewOf(bytes);
  view.setUint16(ip.payload + 2, 0);
  const whole = ip.family === 4
    ? checksum(bytes.subarray(ip.payload))
    : transportChecksum(bytes, ip.source, 16, ip.payload, ICMP[6]);
  view.setUint16(ip.payload + 2, whole);
}

/** Over the pseudo header of RFC 9293 §3.1 or RFC 8200 §8.1, and everything from `payload` on. */
function transportChecksum(
  bytes: Uint8Array,
  source: number,
  addressLength: number,
  payload: number,
  protocol: number,
): number {
  const addresses = sumWords(bytes.subarray(source, source + 2 * addressLength));
  return checksum(bytes.subarray(payload), addresses + protocol + bytes.length - payload);
}

function icmpKind(
  family: IpFamily,
  type: number,
): "echo-request" | "echo-reply" | "error" | "other" {
  if (family === 6) {
    if (type === 128) return "echo-request";
    if (type === 129) return "echo-reply";
    return type >= 1 && type <= 4 ? "error" : "other";
  }
  if (type === 8) return "echo-request";
  if (type === 0) return "echo-reply";
  return type === 3 || type === 11 || type === 12 ? "error" : "other";
}

function tcpFlags(bits: number): TcpFlags {
  return {
    syn: (bits & SYN) !== 0,
    ack: (bits & ACK) !== 0,
    fin: (bits & FIN) !== 0,
    rst: (bits & RST) !== 0,
  };
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Protocol numbers of the IANA registry. */
const TCP = 6;
const UDP = 17;
const ICMP = { 4: 1, 6: 58 } as const;

/** Control bits; RFC 9293 §3.1. */
const FIN = 0x01;
const SYN = 0x02;
const RST = 0x04;
const ACK = 0x10;

/** RFC 791 §3.1: all but the reserved bit and "don't fragment". */
const MORE_FRAGMENTS_AND_OFFSET = 0x3fff;

/** What hosts commonly start with. */
const TTL = 64;
