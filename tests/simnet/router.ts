/**
 * Routers: a subnet behind a NAT or a firewall.
 *
 * @module
 */

import { DualStackNat } from "../../lab/model/dual_stack_nat.ts";
import type { Nat } from "../../lab/model/nat.ts";
import type { NatBehavior } from "../../lab/model/nat_behavior.ts";
import { destinationIp, isBareSyn, type NatVerdict } from "../../lab/model/nat_packet.ts";
import type { Link, LinkBehavior } from "./link.ts";
import { type Packet, readdress, resetFor } from "./packet.ts";
import type { Random } from "./random.ts";
import { type Node, type Observe, Subnet } from "./subnet.ts";

/** How to build a router. */
export interface RouterOptions {
  /** `mapping: "none"` makes a firewall: what is behind it keeps its public addresses. */
  readonly behavior: NatBehavior;
  /** The router that this one is behind, such as a carrier's NAT; the public internet without it. */
  readonly behind?: Router;
  /** The addresses outside; one is chosen if none is given. */
  readonly externalIps?: readonly string[];
  /** The first three numbers of the addresses inside, such as `"192.168.1"`. */
  readonly lan?: string;
  /** Between the router and the network outside. */
  readonly link?: LinkBehavior;
  /** Protocols that the router lets through in no direction. */
  readonly blocks?: readonly ("udp" | "tcp")[];
}

/**
 * One subnet's way out. IPv4 is treated by the NAT; IPv6 is routed, through a firewall that filters as the
 * NAT does.
 */
export class Router implements Node {
  readonly name: string;
  readonly link: Link;
  readonly inside: Subnet;
  /** For IPv4. */
  readonly nat: Nat;
  /** May be changed at any time. */
  blocks: readonly ("udp" | "tcp")[];
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

  /** A packet from outside. */
  receive(packet: Packet): void {
    if (this.#isBlocked(packet)) return;
    const verdict = this.#nats.forDestination(destinationIp(packet))
      .inbound(packet, performance.now());
    this.#apply(verdict, packet, {
      forward: (translated) => this.inside.deliver(translated),
      reset: this.#sendOutside,
    });
  }

  /** A packet from inside. */
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
    if (packet.protocol === "icmp-error" || !this.blocks.includes(packet.protocol)) return false;
    this.#observe(this.name, "blocked", packet);
    return true;
  }
}
