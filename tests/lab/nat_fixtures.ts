/**
 * Packets, hosts and addresses for tests of {@linkcode Nat}.
 *
 * @module
 */

import { assert } from "@std/assert";
import type { TransportAddress } from "../../lib/net/address.ts";
import { Nat } from "../../lab/model/nat.ts";
import { type NatBehavior, natBehavior } from "../../lab/model/nat_behavior.ts";
import type {
  IcmpErrorPacket,
  NatVerdict,
  SessionPacket,
  TcpFlags,
} from "../../lab/model/nat_packet.ts";

/** Two hosts inside. */
export const A = "192.168.1.2:5000";
export const B = "192.168.1.3:5000";

/** Two remote addresses, the first with two ports. */
export const [X11, X12, X21] = ["198.51.100.1:1", "198.51.100.1:2", "198.51.100.2:1"] as const;

/** The only external address. */
export const EXTERNAL_IP = "203.0.113.1";

/** The flags of the first segment of a connection. */
export const SYN: TcpFlags = { syn: true };

/** A `portRestricted` NAT with some changes. Its random choice is always the lowest port. */
export function build(changes: Partial<NatBehavior>): Nat {
  return new Nat([EXTERNAL_IP], natBehavior(changes), () => 0);
}

/** Sends UDP out; returns its external address. */
export function send(nat: Nat, from: string, to: string, nowMs = 0): string {
  return externalOf(nat.outbound(udp(from, to), nowMs));
}

/** Sends a SYN out; returns its external address. */
export function sendTcp(nat: Nat, from: string, to: string, nowMs = 0): string {
  return externalOf(nat.outbound(tcp(from, to, SYN), nowMs));
}

function externalOf(verdict: NatVerdict): string {
  assert(verdict.action === "forward" && verdict.packet.protocol !== "icmp-error");
  const { ip, port } = verdict.packet.source;
  return `${ip}:${port}`;
}

/** A UDP datagram. */
export function udp(source: string, destination: string): SessionPacket {
  return {
    protocol: "udp",
    source: endpoint(source),
    destination: endpoint(destination),
  };
}

/** May have port 0, unlike an address to send to: that is the responder of an ICMP echo. */
function endpoint(text: string): TransportAddress {
  const [ip, port] = text.split(":") as [string, string];
  return { ip, port: Number(port) };
}

/** A TCP segment. */
export function tcp(source: string, destination: string, tcpFlags: TcpFlags): SessionPacket {
  return { ...udp(source, destination), protocol: "tcp", tcpFlags };
}

/** An ICMP error. */
export function icmpError(
  sourceIp: string,
  destinationIp: string,
  original: SessionPacket,
): IcmpErrorPacket {
  return { protocol: "icmp-error", sourceIp, destinationIp, original };
}
