/**
 * Routers of the simulated internet: a subnet behind a NAT or a firewall.
 *
 * @module
 */

import { DualStackNat } from "../../lab/model/dual_stack_nat.ts";
import type { Nat } from "../../lab/model/nat.ts";
import type { NatBehavior } from "../../lab/model/nat_behavior.ts";
import { destinationIp, isBareSyn, type NatVerdict } from "../../lab/model/nat_packet.ts";
import type { Link, LinkBehavior } from "./link.ts";
import { type Packet, readdress, resetFor, unreachableFor } from "./packet.ts";
import type { Random } from "./random.ts";
import { type Node, type Observe, Subnet } from "./subnet.ts";

/** The settings of a router. */
export interface RouterOptions {
  /** `mapping: "none"` makes it a firewall; hosts behind it keep their public addresses. */
  readonly behavior: NatBehavior;
  /** The router in front of this one, such as a carrier's NAT. Default: none. */
  readonly behind?: Router;
  /** The external addresses. Default: one chosen automatically. */
  readonly externalIps?: readonly string[];
  /** The first three numbers of the addresses inside, such as `"192.168.1"`. Default: chosen automatically. */
  readonly lan?: string;
  /** The link between the router and the network outside. */
  readonly link?: LinkBehavior;
  /** Protocols that the router blocks in both directions. */
  readonly blocks?: readonly ("udp" | "tcp")[];
}

/**
 * The gateway of one subnet. It translates IPv4, and routes IPv6 through a firewall that filters as the
 * NAT does.
 */
export class Router implements Node {
  readonly name: string;
  readonly link: Link;
  readonly inside: Subnet;
  /** For IPv4. */
  readonly nat: Nat;
  /** Can be changed at any time. */
  blocks: readonly ("udp" | "tcp")[];
  /** Packets that the router loses without a word, such as those that are too long for a path. Can be changed at any time. */
  swallows: (packet: Packet) => boolean = () => false;
  readonly #nats: DualStackNat;
  readonly #observe: Observe;
  readonly #sendOutside: (packet: Packet) => void;

  constructor(name: string, options: {
    behavior: NatBehavior;
    externalIps: readonly string[];
    blocks: readonly ("udp" | "tcp")[];
    outside: Subnet;
    link: Link;
    random: Random;
    observe: Observe;
  }) {
    const { behavior, externalIps, random, observe } = options;
    this.name = name;
    this.link = options.link;
    this.blocks = options.blocks;
    this.#nats = new DualStackNat(externalIps, behavior, random);
    this.nat = this.#nats.ipv4;
    this.#observe = observe;
    this.inside = new Subnet(`inside ${name}`, observe, (packet) => this.#leave(packet));
    this.#sendOutside = options.outside.attach(this, options.link);
  }

  /** As {@linkcode Node.leadsTo}. */
  leadsTo(ip: string): boolean {
    if (this.nat.externalIps.includes(ip)) return true;
    return !this.#nats.translates(ip) && this.inside.leadsTo(ip);
  }

  /** Handles a packet from outside. */
  receive(packet: Packet): void {
    if (this.#isBlocked(packet)) return;
    const verdict = this.#nats.forDestination(destinationIp(packet))
      .inbound(packet, performance.now());
    this.#apply(verdict, packet, {
      forward: (translated) => this.inside.deliver(translated),
      reset: this.#sendOutside,
    });
  }

  /** Handles a packet from inside. */
  #leave(packet: Packet): void {
    if (this.#isBlocked(packet)) return;
    const verdict = this.#nats.forDestination(destinationIp(packet))
      .outbound(packet, performance.now());
    this.#apply(verdict, packet, {
      forward: this.#sendOutside,
      reset: (refusal) => this.inside.deliver(refusal),
    });
  }

  #apply(verdict: NatVerdict, packet: Packet, to: {
    forward: (packet: Packet) => void;
    reset: (packet: Packet) => void;
  }): void {
    switch (verdict.action) {
      case "drop":
        return this.#observe(this.name, `dropped: ${verdict.reason}`, packet);
      case "reset":
        this.#observe(this.name, "refused", packet);
        if (isBareSyn(packet)) to.reset(resetFor(packet));
        return;
      case "refuse": {
        this.#observe(this.name, "refused", packet);
        const error = unreachableFor(packet, verdict.packet.sourceIp, "port-unreachable");
        if (error !== undefined) to.reset(error);
        return;
      }
      case "hairpin":
      case "forward": {
        const translated = readdress(packet, verdict.packet);
        this.#observe(this.name, "translated", translated);
        return verdict.action === "hairpin"
          ? this.inside.deliver(translated)
          : to.forward(translated);
      }
    }
  }

  #isBlocked(packet: Packet): boolean {
    const isBlocked = packet.protocol !== "icmp-error" && this.blocks.includes(packet.protocol);
    if (!isBlocked && !this.swallows(packet)) return false;
    this.#observe(this.name, "blocked", packet);
    return true;
  }
}
