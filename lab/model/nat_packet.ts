/**
 * Packets as far as a NAT looks at them, and what becomes of them.
 *
 * @module
 */

import type { TransportAddress } from "../../lib/net/address.ts";

/** A packet as far as a NAT looks at it. */
export type NatPacket = SessionPacket | IcmpErrorPacket;

/** What a NAT keeps sessions of; `icmp` are echo requests and replies. */
export type SessionProtocol = "udp" | "tcp" | "icmp";

/**
 * A packet that belongs to a session. The identifier of an ICMP echo stands for the port of the host that
 * asks (RFC 5508 §3.1), and 0 for the port of the host that answers.
 */
export interface SessionPacket {
  readonly protocol: SessionProtocol;
  readonly source: TransportAddress;
  readonly destination: TransportAddress;
  readonly tcpFlags?: TcpFlags;
}

/** The control bits of a TCP segment that a NAT looks at; RFC 9293 §3.1. */
export interface TcpFlags {
  readonly syn?: boolean;
  readonly ack?: boolean;
  readonly fin?: boolean;
  readonly rst?: boolean;
}

/** An ICMP error, such as "port unreachable", about a packet that went the other way. */
export interface IcmpErrorPacket {
  readonly protocol: "icmp-error";
  readonly sourceIp: string;
  readonly destinationIp: string;
  /** The packet that the error is about, as the sender of the error got it. */
  readonly original: SessionPacket;
}

/** What becomes of a packet. */
export type NatVerdict =
  /** It goes on to the other side. */
  | { readonly action: "forward"; readonly packet: NatPacket }
  /** It came from inside and goes back inside; RFC 4787 §6. */
  | { readonly action: "hairpin"; readonly packet: NatPacket }
  /** This RST goes back to where the packet came from. */
  | { readonly action: "reset"; readonly packet: SessionPacket }
  | { readonly action: "drop"; readonly reason: NatDropReason };

/** Why a NAT drops a packet. */
export type NatDropReason =
  | "no-mapping" // inbound to a port, or an address, that nothing is mapped to
  | "filtered"
  | "crossed-syn"
  | "no-session" // a RST or an ICMP error about nothing that was sent
  | "no-hairpinning"
  | "ports-exhausted";

/** The address that a packet is sent to. */
export function destinationIp(packet: NatPacket): string {
  return packet.protocol === "icmp-error" ? packet.destinationIp : packet.destination.ip;
}

/** Whether a packet is a SYN without ACK, which opens a connection. */
export function isBareSyn(
  packet: NatPacket,
): packet is SessionPacket & { readonly protocol: "tcp"; readonly tcpFlags: TcpFlags } {
  return packet.protocol === "tcp" && packet.tcpFlags?.syn === true && !packet.tcpFlags.ack;
}
