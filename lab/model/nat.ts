/**
 * One NAT or one stateful firewall as a pure model: packets in, verdicts out. It has no sockets and no
 * timers. Time is an argument and randomness a function, so the lab with real kernels and the simulated
 * network can share it.
 *
 * ```
 *    inside                NAT               outside
 *  internal address   external address    remote address
 *        ── outbound() ──>   ── forward ──>
 *      <── forward ──   <── inbound() ──
 * ```
 *
 * A *mapping* binds an internal address and port to an external one. A *session* is one remote address and
 * port that uses a mapping. Filtering considers the sessions that were opened from inside.
 *
 * @module
 */

import type { TransportAddress } from "../../lib/net/address.ts";
import {
  type IcmpErrorPacket,
  isBareSyn,
  type NatDropReason,
  type NatPacket,
  type NatVerdict,
  type SessionPacket,
  type SessionProtocol,
  type TcpFlags,
} from "./nat_packet.ts";
import { type NatBehavior, protocolBehavior } from "./nat_behavior.ts";
import { endpointKey, type Mapping, NatTable, type Session } from "./nat_table.ts";
import { PortAllocator } from "./port_allocator.ts";

/** A NAT and its mappings. */
export class Nat {
  readonly externalIps: readonly string[];
  readonly #random: () => number;
  #behavior: NatBehavior;
  #table = new NatTable();
  #allocators = new Map<SessionProtocol, PortAllocator>();
  #pairedIps = new Map<string, string>();
  /** Which external address is the first to be used. */
  #firstIp = 0;

  /**
   * @param externalIps the addresses to translate to; empty for a firewall without translation
   * @param random as `Math.random`
   * @throws {RangeError} if the behavior translates and there is no external address
   */
  constructor(externalIps: readonly string[], behavior: NatBehavior, random: () => number) {
    this.externalIps = [...externalIps];
    this.#random = random;
    this.#behavior = behavior;
    this.behavior = behavior;
  }

  /** How the NAT behaves. Existing mappings survive a change, until {@linkcode Nat.flush}. */
  get behavior(): NatBehavior {
    return this.#behavior;
  }

  /** @throws {RangeError} if the behavior translates and there is no external address */
  set behavior(behavior: NatBehavior) {
    if (behavior.mapping !== "none" && this.externalIps.length === 0) {
      throw new RangeError("Cannot build NAT: translation needs an external address");
    }
    this.#behavior = behavior;
  }

  /** Forgets all mappings, like a NAT that restarts. */
  flush(): void {
    this.#table = new NatTable();
    this.#allocators = new Map();
    this.#pairedIps = new Map();
  }

  /** Forgets all mappings, and takes its next external address in place of the first. */
  renumber(): void {
    this.flush();
    this.#firstIp++;
  }

  /** Handles a packet from inside. */
  outbound(packet: NatPacket, nowMs: number): NatVerdict {
    if (packet.protocol === "icmp-error") return this.#outboundError(packet, nowMs);
    const { protocol, source, destination, tcpFlags } = packet;
    const toInside = this.externalIps.includes(destination.ip);
    if (toInside && !this.#behavior.hairpinning) return drop("no-hairpinning");

    let session = this.#table.session(protocol, source, destination, nowMs);
    if (session === undefined && tcpFlags?.rst) return drop("no-session");
    if (session === undefined && this.#isFull(nowMs)) return drop("sessions-exhausted");
    session ??= this.#open(packet, nowMs);
    if (session === undefined) return drop("ports-exhausted");
    if (isSynAck(packet) && !session.passedInbound && this.#behavior.crossedSyn === "strict") {
      return drop("crossed-syn");
    }
    this.#pass(session, "outbound", packet, nowMs);

    const translated = { ...packet, source: session.mapping.external };
    if (!toInside) return { action: "forward", packet: translated };
    const verdict = this.#inboundSession(translated, nowMs);
    if (verdict.action === "forward") return { ...verdict, action: "hairpin" };
    if (verdict.action === "refuse") return refuse(packet, destination.ip);
    return verdict.action === "reset" ? reset(packet) : verdict;
  }

  /** Handles a packet from outside. */
  inbound(packet: NatPacket, nowMs: number): NatVerdict {
    return packet.protocol === "icmp-error"
      ? this.#inboundError(packet, nowMs)
      : this.#inboundSession(packet, nowMs);
  }

  #inboundSession(packet: SessionPacket, nowMs: number): NatVerdict {
    const { protocol, source, destination, tcpFlags } = packet;
    const mapping = this.#table.mappingAt(protocol, destination, source, nowMs);
    if (mapping === undefined) return this.#unsolicited(packet, "no-mapping");

    const session = this.#table.session(protocol, mapping.internal, source, nowMs);
    if (session?.openedInside && isBareSyn(packet) && this.#behavior.crossedSyn !== "accept") {
      return this.#behavior.crossedSyn === "reset" ? reset(packet) : drop("crossed-syn");
    }
    if (!this.#admits(mapping, source, nowMs)) return this.#unsolicited(packet, "filtered");
    if (session === undefined && tcpFlags?.rst) return drop("no-session");
    if (session === undefined && this.#isFull(nowMs)) return drop("sessions-exhausted");
    this.#pass(session ?? this.#table.addSession(mapping, source, false), "inbound", packet, nowMs);
    return { action: "forward", packet: { ...packet, destination: mapping.internal } };
  }

  /** RFC 5508 §4.2: an error passes if it concerns a packet that was sent. It changes no state. */
  #inboundError(packet: IcmpErrorPacket, nowMs: number): NatVerdict {
    const { protocol, source, destination } = packet.original;
    const mapping = this.#table.mappingAt(protocol, source, destination, nowMs);
    if (mapping === undefined) return drop("no-mapping");
    const { internal } = mapping;
    const session = this.#table.session(protocol, internal, destination, nowMs);
    if (session === undefined) return drop("no-session");
    const original = { ...packet.original, source: internal };
    return { action: "forward", packet: { ...packet, destinationIp: internal.ip, original } };
  }

  #outboundError(packet: IcmpErrorPacket, nowMs: number): NatVerdict {
    const { protocol, source, destination } = packet.original;
    const session = this.#table.session(protocol, destination, source, nowMs);
    if (session === undefined) return drop("no-session");
    const { external } = session.mapping;
    const translated: IcmpErrorPacket = {
      ...packet,
      // The error may come from a router inside, which has no mapping of its own; it uses the host's.
      sourceIp: external.ip,
      original: { ...packet.original, destination: external },
    };
    if (!this.externalIps.includes(packet.destinationIp)) {
      return { action: "forward", packet: translated };
    }
    const verdict = this.#inboundError(translated, nowMs);
    return verdict.action === "forward" ? { ...verdict, action: "hairpin" } : verdict;
  }

  #unsolicited(packet: SessionPacket, reason: NatDropReason): NatVerdict {
    const { unsolicitedSyn, unsolicitedUdp } = this.#behavior;
    const answer = isBareSyn(packet)
      ? unsolicitedSyn
      : packet.protocol === "udp"
      ? unsolicitedUdp
      : "drop";
    if (answer === "icmp") return refuse(packet, packet.destination.ip);
    return answer === "reset" ? reset(packet) : drop(reason);
  }

  #admits(mapping: Mapping, source: TransportAddress, nowMs: number): boolean {
    const { filtering } = protocolBehavior(this.#behavior, mapping.protocol);
    if (filtering === "endpoint-independent") return true;
    for (const { remote, openedInside, expiresAtMs } of mapping.sessions.values()) {
      if (!openedInside || expiresAtMs <= nowMs || remote.ip !== source.ip) continue;
      if (filtering === "address-dependent" || remote.port === source.port) return true;
    }
    return false;
  }

  #isFull(nowMs: number): boolean {
    const { maxSessions } = this.#behavior;
    return maxSessions < UNLIMITED && this.#table.countSessions(nowMs) >= maxSessions;
  }

  #open(packet: SessionPacket, nowMs: number): Session | undefined {
    const { protocol, source, destination } = packet;
    const key = this.#mappingKey(protocol, source, destination);
    let mapping = this.#table.mapping(key, nowMs);
    if (mapping === undefined) {
      const external = this.#allocate(packet, nowMs);
      if (external === undefined) return undefined;
      mapping = this.#table.addMapping({ protocol, internal: source, external, key });
    }
    return this.#table.addSession(mapping, destination, true);
  }

  #mappingKey(
    protocol: SessionProtocol,
    internal: TransportAddress,
    remote: TransportAddress,
  ): string {
    const internalKey = endpointKey(protocol, internal);
    switch (protocolBehavior(this.#behavior, protocol).mapping) {
      case "none":
      case "endpoint-independent":
        return internalKey;
      case "address-dependent":
        return `${internalKey} ${remote.ip}`;
      case "address-and-port-dependent":
        return `${internalKey} ${remote.ip}:${remote.port}`;
    }
  }

  #allocate(packet: SessionPacket, nowMs: number): TransportAddress | undefined {
    const { protocol, source: internal, destination } = packet;
    const { portRange, portParity, portOverloading } = this.#behavior;
    const { mapping, allocation } = protocolBehavior(this.#behavior, protocol);
    if (mapping === "none") return internal;
    const ip = this.#externalIpFor(internal.ip);
    const port = this.#allocator(protocol).allocate({
      allocation,
      internalPort: internal.port,
      range: portRange,
      keepsParity: portParity,
      isFree: (port) => {
        const others = this.#table.mappingsAt(protocol, { ip, port }, nowMs);
        return portOverloading
          ? others.every((other) => !this.#isUsedTowards(other, destination, nowMs))
          : others.length === 0;
      },
    });
    return port === undefined ? undefined : { ip, port };
  }

  #isUsedTowards(
    { protocol, internal }: Mapping,
    remote: TransportAddress,
    nowMs: number,
  ): boolean {
    return this.#table.session(protocol, internal, remote, nowMs) !== undefined;
  }

  #allocator(protocol: SessionProtocol): PortAllocator {
    const allocator = this.#allocators.get(protocol) ?? new PortAllocator(this.#random);
    this.#allocators.set(protocol, allocator);
    return allocator;
  }

  #externalIpFor(internalIp: string): string {
    if (this.#behavior.pooling === "arbitrary") {
      return this.externalIps[Math.floor(this.#random() * this.externalIps.length)]!;
    }
    const index = this.#firstIp + this.#pairedIps.size;
    const next = this.externalIps[index % this.externalIps.length]!;
    const ip = this.#pairedIps.get(internalIp) ?? next;
    this.#pairedIps.set(internalIp, ip);
    return ip;
  }

  /** Records that a packet passed, and extends its session. */
  #pass(
    session: Session,
    direction: "inbound" | "outbound",
    packet: SessionPacket,
    nowMs: number,
  ): void {
    const { udpTimeoutMs, udpInboundRefresh, icmpTimeoutMs, resetEndsMapping } = this.#behavior;
    const firstPacket = session.expiresAtMs === -Infinity;
    switch (packet.protocol) {
      case "udp":
        if (direction === "outbound" || udpInboundRefresh || firstPacket) {
          session.expiresAtMs = nowMs + udpTimeoutMs;
        }
        break;
      case "icmp":
        session.expiresAtMs = nowMs + icmpTimeoutMs;
        break;
      case "tcp":
        if (packet.tcpFlags?.rst && resetEndsMapping) return this.#table.endSession(session);
        trackTcp(session, direction, packet);
        session.expiresAtMs = nowMs + this.#tcpTimeoutMs(session);
        break;
    }
    // Once the inside answers, a session opened from outside counts as opened from inside.
    if (direction === "outbound") session.openedInside = true;
  }

  #tcpTimeoutMs(session: Session): number {
    const established = session.passedOutbound && session.passedInbound && !session.closing;
    return established
      ? this.#behavior.tcpEstablishedTimeoutMs
      : this.#behavior.tcpTransitoryTimeoutMs;
  }
}

function isSynAck({ protocol, tcpFlags }: SessionPacket): boolean {
  return protocol === "tcp" && tcpFlags?.syn === true && tcpFlags.ack === true;
}

function trackTcp(
  session: Session,
  direction: "inbound" | "outbound",
  packet: SessionPacket,
): void {
  // A new SYN after RST or FIN restarts the session.
  if (session.closing && isBareSyn(packet)) {
    session.closing = session.passedInbound = session.passedOutbound = false;
  }
  if (packet.tcpFlags?.rst || packet.tcpFlags?.fin) session.closing = true;
  else if (direction === "outbound") session.passedOutbound = true;
  else session.passedInbound = true;
}

function drop(reason: NatDropReason): NatVerdict {
  return { action: "drop", reason };
}

function reset({ protocol, source, destination }: SessionPacket): NatVerdict {
  const packet = { protocol, source: destination, destination: source, tcpFlags: RST_ACK };
  return { action: "reset", packet };
}

/** @param sourceIp which of the NAT's addresses the error comes from */
function refuse(packet: SessionPacket, sourceIp: string): NatVerdict {
  const error: IcmpErrorPacket = {
    protocol: "icmp-error",
    sourceIp,
    destinationIp: packet.source.ip,
    original: packet,
  };
  return { action: "refuse", packet: error };
}

/** RFC 9293 §3.10.7.1: the answer to a SYN to a closed port. */
const RST_ACK: TcpFlags = { rst: true, ack: true };

/** From here on sessions are not counted, which takes time. */
const UNLIMITED = 65_535;
