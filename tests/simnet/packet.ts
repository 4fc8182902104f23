/**
 * Packets of the simulated internet, as objects. NATs read and rewrite the part that {@linkcode SessionPacket}
 * describes.
 *
 * @module
 */

import { ipFamily } from "../../lib/net/address.ts";
import type {
  IcmpErrorPacket,
  NatPacket,
  SessionPacket,
  TcpFlags,
} from "../../lab/model/nat_packet.ts";

/** Any packet. */
export type Packet = UdpPacket | TcpPacket | UnreachablePacket;

/** A UDP datagram. */
export interface UdpPacket extends SessionPacket {
  readonly protocol: "udp";
  readonly data: Uint8Array;
}

/** A TCP segment. Sequence numbers do not wrap, because no simulated stream is that long. */
export interface TcpPacket extends SessionPacket {
  readonly protocol: "tcp";
  readonly tcpFlags: TcpFlags;
  readonly sequence: number;
  readonly acknowledgment: number;
  readonly window: number;
  readonly data: Uint8Array;
}

/** An ICMP "destination unreachable" error. */
export interface UnreachablePacket extends IcmpErrorPacket {
  readonly code: UnreachableCode;
}

/** The codes of ICMP type 3 that hosts distinguish. */
export type UnreachableCode = "port-unreachable" | "host-unreachable";

/** The length of a packet on the wire, with its headers but without options, in bytes. */
export function lengthOf(packet: Packet): number {
  if (packet.protocol === "icmp-error") return 56;
  const header = packet.protocol === "udp" ? 8 : 20;
  return (ipFamily(packet.source.ip) === 4 ? 20 : 40) + header + packet.data.length;
}

/** The packet with the addresses from a NAT. */
export function readdress(packet: Packet, header: NatPacket): Packet {
  if (packet.protocol === "icmp-error") {
    if (header.protocol !== "icmp-error") throw new TypeError("Cannot readdress: not an error");
    const { sourceIp, destinationIp, original } = header;
    return { ...packet, sourceIp, destinationIp, original };
  }
  if (header.protocol === "icmp-error") throw new TypeError("Cannot readdress: an error");
  return { ...packet, source: header.source, destination: header.destination };
}

/** The RST that answers a segment to a closed port (RFC 9293 §3.10.7.1). */
export function resetFor(packet: TcpPacket): TcpPacket {
  const { source, destination, tcpFlags, sequence, acknowledgment, data } = packet;
  const length = data.length + (tcpFlags.syn ? 1 : 0) + (tcpFlags.fin ? 1 : 0);
  return {
    protocol: "tcp",
    source: destination,
    destination: source,
    tcpFlags: tcpFlags.ack ? { rst: true } : { rst: true, ack: true },
    sequence: tcpFlags.ack ? acknowledgment : 0,
    acknowledgment: tcpFlags.ack ? 0 : sequence + length,
    window: 0,
    data: new Uint8Array(),
  };
}

/** The ICMP error that the host at `sourceIp` sends about a packet; `undefined` if RFC 1122 §3.2.2 forbids it. */
export function unreachableFor(
  packet: Packet,
  sourceIp: string,
  code: UnreachableCode,
): UnreachablePacket | undefined {
  if (packet.protocol === "icmp-error") return undefined;
  return {
    protocol: "icmp-error",
    sourceIp,
    destinationIp: packet.source.ip,
    original: packet,
    code,
  };
}
