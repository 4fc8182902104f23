/**
 * IP packets as bytes: reads the fields that a NAT needs, and writes those that it changed. Supports IPv4 and IPv6
 * with TCP, UDP, ICMP echoes and ICMP errors, but no fragments.
 *
 * @module
 */

import { type IpFamily, ipToBytes } from "../../lib/net/address.ts";
import { adjustChecksum, checksum } from "./checksum.ts";
import {
  ACK,
  FIN,
  ICMP,
  type IpHeader,
  parseIpHeader,
  RST,
  SYN,
  TCP,
  transportChecksum,
  UDP,
} from "./ip_header.ts";
import type { NatPacket, SessionPacket, TcpFlags } from "../model/nat_packet.ts";

/** The fields that a NAT needs; `undefined` if the packet is malformed, a fragment or of another protocol. */
export function parsePacket(bytes: Uint8Array): NatPacket | undefined {
  const ip = parseIpHeader(bytes, 0);
  if (ip === undefined || bytes.length < ip.payload + (ip.protocol === TCP ? 20 : 8)) {
    return undefined;
  }
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

/** Writes the addresses, ports and identifiers of `packet` into the bytes it was read from, in place. */
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

/** Decrements a packet's TTL in place; returns `false` if it has expired, so that the packet must be dropped. */
export function decrementTtl(bytes: Uint8Array): boolean {
  const ip = parseIpHeader(bytes, 0);
  if (ip === undefined) return false;
  const at = ip.family === 4 ? 8 : 7;
  const ttl = bytes[at]!;
  if (ttl <= 1) return false;
  if (ip.headerChecksum === undefined) bytes[at] = ttl - 1;
  else writeWord(bytes, at, ((ttl - 1) << 8) | ip.protocol, [ip.headerChecksum]);
  return true;
}

/** Needs only 8 bytes after the IP header, which is what an ICMP error contains of the packet that caused it. */
function parseSession(bytes: Uint8Array, ip: IpHeader): SessionPacket | undefined {
  if (bytes.length < ip.payload + 8) return undefined;
  const endpoints = (sourcePort: number, destinationPort: number) => ({
    source: { ip: ip.sourceIp, port: sourcePort },
    destination: { ip: ip.destinationIp, port: destinationPort },
  });
  if (ip.protocol === UDP || ip.protocol === TCP) {
    const ports = endpoints(wordAt(bytes, ip.payload), wordAt(bytes, ip.payload + 2));
    if (ip.protocol === UDP) return { protocol: "udp", ...ports };
    return { protocol: "tcp", ...ports, tcpFlags: tcpFlags(bytes[ip.payload + 13] ?? 0) };
  }
  if (ip.protocol !== ICMP[ip.family]) return undefined;
  const identifier = wordAt(bytes, ip.payload + 4);
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
  // In IPv4, only the ICMP checksum does not cover the addresses.
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
  // RFC 768: a UDP checksum of zero would mean "no checksum".
  if (ip.protocol === UDP && transport !== undefined && wordAt(bytes, transport) === 0) {
    setWord(bytes, transport, 0xffff);
  }
}

/** The offset of the transport checksum, if the packet has one and it is not truncated. */
function transportChecksumOffset(bytes: Uint8Array, ip: IpHeader): number | undefined {
  if (ip.protocol === UDP) {
    return wordAt(bytes, ip.payload + 6) === 0 ? undefined : ip.payload + 6;
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

/** Writes a 16-bit word, and updates the checksums that cover it. */
function writeWord(
  bytes: Uint8Array,
  offset: number,
  word: number,
  checksums: readonly number[],
): void {
  const old = wordAt(bytes, offset);
  if (old === word) return;
  setWord(bytes, offset, word);
  for (const at of checksums) setWord(bytes, at, adjustChecksum(wordAt(bytes, at), old, word));
}

function wordAt(bytes: Uint8Array, offset: number): number {
  return (bytes[offset]! << 8) | bytes[offset + 1]!;
}

function setWord(bytes: Uint8Array, offset: number, word: number): void {
  bytes[offset] = word >> 8;
  bytes[offset + 1] = word & 0xff;
}

function writeIcmpChecksum(bytes: Uint8Array, ip: IpHeader): void {
  setWord(bytes, ip.payload + 2, 0);
  const whole = ip.family === 4
    ? checksum(bytes.subarray(ip.payload))
    : transportChecksum(bytes, ip.source, 16, ip.payload, ICMP[6]);
  setWord(bytes, ip.payload + 2, whole);
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
