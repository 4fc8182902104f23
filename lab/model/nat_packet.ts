/**
 * Packets as a NAT sees them, and its verdicts on them.
 *
 * @module
 */

import type { TransportAddress } from "../../lib/net/address.ts";

/** The part of a packet that a NAT reads and rewrites. */
export type NatPacket = SessionPacket | IcmpErrorPacket;

/** The protocols that have sessions; `icmp` stands for echo requests and replies. */
export type SessionProtocol = "udp" | "tcp" | "icmp";

/**
 * A packet that belongs to a session. The identifier of an ICMP echo takes the place of the requester's port
 * (RFC 5508 §3.1), and 0 the place of the responder's.
 */
export interface SessionPacket {
  readonly protocol: SessionProtocol;
  readonly source: TransportAddress;
  readonly destination: TransportAddress;
  readonly tcpFlags?: TcpFlags;
}

/** The control bits of a TCP segment that matter to a NAT (RFC 9293 §3.1). */
export interface TcpFlags {
  readonly syn?: boolean;
  readonly ack?: boolean;
  readonly fin?: boolean;
  readonly rst?: boolean;
}

/** An ICMP error, such as "port unreachable", about a packet in the opposite direction. */
export interface IcmpErrorPacket {
  readonly protocol: "icmp-error";
  readonly sourceIp: string;
  readonly destinationIp: string;
  /** The packet that caused the error, as the sender of the error received it. */
  readonly original: SessionPacket;
}

/** What a NAT does with a packet. */
export type NatVerdict =
  /** Sends it on to the other side. */
  | { readonly action: "forward"; readonly packet: NatPacket }
  /** Sends a packet from inside back inside (RFC 4787 §6). */
  | { readonly action: "hairpin"; readonly packet: NatPacket }
  /** Sends this RST back to the sender. */
  | { readonly action: "reset"; readonly packet: SessionPacket }
  /** Sends this ICMP error back to the sender: "port unreachable". */
  | { readonly action: "refuse"; readonly packet: IcmpErrorPacket }
  | { readonly action: "drop"; readonly reason: NatDropReason };

/** Why a NAT drops a packet. */
export type NatDropReason =
  | "no-mapping" // inbound to an address or port without a mapping
  | "filtered"
  | "crossed-syn"
  | "no-session" // a RST or an ICMP error that matches no session
  | "no-hairpinning"
  | "ports-exhausted"
  | "sessions-exhausted";

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
