/**
 * All LANs, NATs and links between the hosts of a plan, without any I/O: packets arrive from hosts, wait for
 * their delay, are translated by the NATs on their path, and are delivered to hosts. Time is an argument.
 *
 * A packet climbs from segment to segment, through the NAT above each, until it reaches a segment where its
 * destination is known. From there it descends.
 *
 * @module
 */

import {
  type HostCounters,
  type LabCounters,
  percentiles,
  type WireDropReason,
} from "./counters.ts";
import { EventQueue } from "../model/event_queue.ts";
import { DualStackNat } from "../model/dual_stack_nat.ts";
import type { NatBehavior } from "../model/nat_behavior.ts";
import { type Direction, LabLink } from "./link.ts";
import {
  destinationIp,
  type IcmpErrorPacket,
  isBareSyn,
  type NatDropReason,
  type NatPacket,
  type SessionProtocol,
} from "../model/nat_packet.ts";
import { buildPortUnreachable } from "./icmp_error.ts";
import { decrementTtl, parsePacket, rewritePacket } from "./ip_packet.ts";
import { clampMss } from "./mss_clamp.ts";
import { seededRandom } from "../model/random.ts";
import { addRoute, type HostNode, type LabNode, type NatNode, type Segment } from "./segment.ts";
import { buildReset } from "./tcp_reset.ts";
import {
  HOMES,
  type HostPlan,
  INTERNET,
  type LabPlan,
  type LinkPlan,
  linkPlan,
  type NatPlan,
} from "./topology.ts";

/** Delivers a packet to a host; returns `false` if the host did not accept it. */
export type Deliver = (host: string, bytes: Uint8Array<ArrayBuffer>) => boolean;

/** The network of a plan. */
export class LabInternet {
  readonly #deliver: Deliver;
  readonly #random: () => number;
  readonly #segments = new Map<string, Segment>();
  readonly #nodes = new Map<string, LabNode>();
  readonly #wire: LabLink;
  readonly #homes = new LabLink(HOMES, linkPlan());
  readonly #queue = new EventQueue<() => void>();
  readonly #counters = new Map<string, HostCounters>();
  readonly #drops = new Map<string, Map<string, number>>();
  readonly #lateness: number[] = [];
  #latenessIndex = 0;
  #nowMs = 0;

  constructor(plan: LabPlan, deliver: Deliver) {
    this.#deliver = deliver;
    this.#random = seededRandom(plan.seed);
    this.#wire = new LabLink(INTERNET, plan.internet);
    this.#segments.set(INTERNET, { above: undefined, gatewayIp: undefined, routes: new Map() });
    for (const natPlan of plan.nats) this.#addNat(natPlan);
    for (const hostPlan of plan.hosts) this.#addHost(hostPlan);
  }

  /** When the next event is due. */
  get nextDueMs(): number | undefined {
    return this.#queue.nextDueMs;
  }

  /** Accepts a packet from a host, and takes ownership of the bytes. */
  send(host: string, bytes: Uint8Array<ArrayBuffer>, nowMs: number): void {
    this.#nowMs = nowMs;
    const node = this.#nodes.get(host)!;
    const packet = parsePacket(bytes);
    const counters = this.#counters.get(host)!;
    counters.sent++;
    if (packet === undefined) return this.#drop(host, "not-understood");
    if (isBareSyn(packet)) counters.sentSyns++;
    this.#onSegment(node, { bytes, packet });
  }

  /** Processes all events that are due. */
  advance(nowMs: number): void {
    for (let due = this.#queue.popDue(nowMs); due !== undefined; due = this.#queue.popDue(nowMs)) {
      this.#nowMs = nowMs;
      this.#lateness[this.#latenessIndex++ % LATENESS_SAMPLES] = nowMs - due.dueMs;
      due.event();
    }
  }

  /** @throws {TypeError} if there is no such NAT, or if a NAT would become a firewall or the reverse */
  setBehavior(natName: string, behavior: NatBehavior): void {
    const { nat } = this.#natNode(natName);
    if ((nat.ipv4.behavior.mapping === "none") !== (behavior.mapping === "none")) {
      throw new TypeError(
        `Cannot change ${natName}: a NAT cannot become a firewall, nor a firewall a NAT`,
      );
    }
    nat.setBehavior(behavior);
  }

  /** @throws {TypeError} if there is no such NAT */
  flush(natName: string, family?: 4 | 6): void {
    this.#natNode(natName).nat.flush(family);
  }

  /** @throws {TypeError} if there is no such NAT */
  renumber(natName: string): void {
    this.#natNode(natName).nat.renumber();
  }

  /**
   * Changes the link of a host or NAT, or the path across the internet.
   *
   * @throws {TypeError} if there is no such place
   */
  setLink(place: string, link: LinkPlan): void {
    this.#link(place).plan = link;
  }

  /**
   * Drops all packets from `fromMs` until `untilMs`, both on the clock of {@linkcode LabInternet.send}.
   *
   * @throws {TypeError} if there is no such place
   */
  outage(place: string, fromMs: number, untilMs: number): void {
    this.#link(place).outages.push({ fromMs, untilMs });
  }

  /**
   * Drops all packets of these protocols from now on, and only of these.
   *
   * @throws {TypeError} if there is no such place
   */
  block(place: string, protocols: readonly SessionProtocol[]): void {
    this.#link(place).blocked = new Set(protocols);
  }

  counters(): LabCounters {
    const drops = [...this.#drops].map(([place, reasons]) => [place, Object.fromEntries(reasons)]);
    return {
      hosts: structuredClone(Object.fromEntries(this.#counters)),
      drops: Object.fromEntries(drops),
      lateness: percentiles(this.#lateness),
    };
  }

  #addNat(plan: NatPlan): void {
    const outside = this.#segments.get(plan.segment)!;
    const inside: Segment = { above: undefined, gatewayIp: plan.gateway, routes: new Map() };
    const node: NatNode = {
      kind: "nat",
      name: plan.name,
      outside,
      inside,
      link: new LabLink(plan.name, plan.link),
      nat: new DualStackNat(plan.externalIps, plan.behavior, this.#random),
    };
    inside.above = node;
    this.#segments.set(plan.name, inside);
    this.#nodes.set(plan.name, node);
    for (const ip of plan.externalIps) addRoute(outside, ip, node);
  }

  #addHost(plan: HostPlan): void {
    const outside = this.#segments.get(plan.segment)!;
    const link = new LabLink(plan.name, plan.link);
    const node: HostNode = { kind: "host", name: plan.name, outside, link };
    this.#nodes.set(plan.name, node);
    this.#counters.set(plan.name, { sent: 0, received: 0, sentSyns: 0, receivedSyns: 0 });
    for (const ip of [...plan.ipv4, ...plan.ipv6]) addRoute(outside, ip, node);
  }

  /** Handles a packet that `from` sends to the segment outside it. */
  #onSegment(from: LabNode, item: Item): void {
    const segment = from.outside;
    const destination = destinationIp(item.packet);
    const target = segment.routes.get(destination);
    if (target !== undefined) {
      const path: [LabLink, Direction][] = [[from.link, "up"], [target.link, "down"]];
      if (segment.above === undefined) {
        path.push([this.#wire, "up"]);
        if (from.kind === "nat" && target.kind === "nat") path.push([this.#homes, "up"]);
      }
      this.#cross(path, item, () => this.#arrive(target, item));
    } else if (segment.above === undefined) {
      this.#drop(from.name, "no-route");
    } else if (segment.gatewayIp === destination) {
      this.#drop(segment.above.name, "to-gateway");
    } else {
      const { above } = segment;
      this.#cross([[from.link, "up"]], item, () => this.#outbound(above, item));
    }
  }

  #outbound(node: NatNode, item: Item): void {
    if (!decrementTtl(item.bytes)) return this.#drop(node.name, "ttl-expired");
    const verdict = node.nat.forDestination(destinationIp(item.packet))
      .outbound(item.packet, this.#nowMs);
    switch (verdict.action) {
      case "forward":
        return this.#onSegment(node, rewritten(item, verdict.packet));
      case "hairpin":
        return this.#descend(node, rewritten(item, verdict.packet));
      case "reset":
        return this.#descend(node, { bytes: buildReset(item.bytes), packet: verdict.packet });
      case "refuse":
        return this.#descend(node, refusal(item, verdict.packet));
      case "drop":
        return this.#drop(node.name, verdict.reason);
    }
  }

  #inbound(node: NatNode, item: Item): void {
    if (!decrementTtl(item.bytes)) return this.#drop(node.name, "ttl-expired");
    const verdict = node.nat.forDestination(destinationIp(item.packet))
      .inbound(item.packet, this.#nowMs);
    switch (verdict.action) {
      case "forward":
      case "hairpin":
        return this.#descend(node, rewritten(item, verdict.packet));
      case "reset":
        return this.#onSegment(node, { bytes: buildReset(item.bytes), packet: verdict.packet });
      case "refuse":
        return this.#onSegment(node, refusal(item, verdict.packet));
      case "drop":
        return this.#drop(node.name, verdict.reason);
    }
  }

  /** Delivers a packet to the inside of a NAT. */
  #descend(nat: NatNode, item: Item): void {
    const target = nat.inside.routes.get(destinationIp(item.packet));
    if (target === undefined) return this.#drop(nat.name, "no-route");
    this.#cross([[target.link, "down"]], item, () => this.#arrive(target, item));
  }

  #arrive(target: LabNode, item: Item): void {
    if (target.kind === "nat") return this.#inbound(target, item);
    if (!this.#deliver(target.name, item.bytes)) return this.#drop(target.name, "receiver-full");
    const counters = this.#counters.get(target.name)!;
    counters.received++;
    if (isBareSyn(item.packet)) counters.receivedSyns++;
  }

  /** Calls `arrived` once the packet has crossed all links, unless one of them drops it. */
  #cross(
    links: readonly [LabLink, Direction][],
    { bytes, packet }: Item,
    arrived: () => void,
  ): void {
    let delayMs = 0;
    for (const [link, direction] of links) {
      const crossing = link.cross(direction, packet, bytes.length, this.#nowMs, this.#random);
      if (typeof crossing === "string") return this.#drop(link.name, crossing);
      delayMs += crossing;
      const { mtu, clampsMss } = link.plan;
      if (mtu !== undefined && clampsMss) clampMss(bytes, mtu);
    }
    if (delayMs === 0) arrived();
    else this.#queue.push(this.#nowMs + delayMs, arrived);
  }

  #drop(place: string, reason: NatDropReason | WireDropReason): void {
    const reasons = this.#drops.get(place) ?? new Map<string, number>();
    this.#drops.set(place, reasons.set(reason, (reasons.get(reason) ?? 0) + 1));
  }

  #link(place: string): LabLink {
    const own: Record<string, LabLink> = { [INTERNET]: this.#wire, [HOMES]: this.#homes };
    const link = own[place] ?? this.#nodes.get(place)?.link;
    if (link === undefined) throw new TypeError(`Cannot change ${place}: there is no such place`);
    return link;
  }

  #natNode(name: string): NatNode {
    const node = this.#nodes.get(name);
    if (node?.kind !== "nat") throw new TypeError(`Cannot change ${name}: there is no such NAT`);
    return node;
  }
}

/** A packet in transit, as bytes and as a NAT sees it. */
interface Item {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly packet: NatPacket;
}

function rewritten({ bytes }: Item, packet: NatPacket): Item {
  rewritePacket(bytes, packet);
  return { bytes, packet };
}

function refusal({ bytes }: Item, packet: IcmpErrorPacket): Item {
  return { bytes: buildPortUnreachable(bytes, packet.sourceIp), packet };
}

/** Enough for a 99th percentile; older samples are overwritten. */
const LATENESS_SAMPLES = 20_000;
