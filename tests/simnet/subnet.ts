/**
 * Subnets of the simulated internet: nodes that reach each other by address, and the router that leads out.
 *
 * @module
 */

import { ipScope } from "../../lib/net/address.ts";
import type { Link } from "./link.ts";
import { destinationIp } from "../../lab/model/nat_packet.ts";
import { lengthOf, type Packet } from "./packet.ts";

/** A host or router at the end of a link. */
export interface Node {
  readonly name: string;
  /** Whether packets to this address go to this node. */
  leadsTo(ip: string): boolean;
  /** Handles a packet that arrives over the node's link. */
  receive(packet: Packet): void;
}

/** Something that happened to a packet, for tests that inspect packets. */
export interface PacketEvent {
  readonly atMs: number;
  /** The name of the host, router or subnet where it happened. */
  readonly at: string;
  readonly what:
    | "sent"
    | "received"
    | "translated"
    | "refused" // by a NAT that answers with RST
    | "blocked" // by a router that blocks the whole protocol
    | "lost" // on the node's link
    | "no-route"
    | `dropped: ${string}`; // by a NAT, with the reason
  readonly packet: Packet;
}

/** Receives packet events. */
export type Observe = (at: string, what: PacketEvent["what"], packet: Packet) => void;

/** A subnet, or the public internet. */
export class Subnet {
  readonly name: string;
  readonly #observe: Observe;
  readonly #wayOut: ((packet: Packet) => void) | undefined;
  readonly #nodes: { node: Node; link: Link }[] = [];

  /** @param wayOut receives packets to addresses that no node leads to */
  constructor(name: string, observe: Observe, wayOut?: (packet: Packet) => void) {
    this.name = name;
    this.#observe = observe;
    this.#wayOut = wayOut;
  }

  /** Connects a node. Returns the function that sends the node's packets up its link into the subnet. */
  attach(node: Node, link: Link): (packet: Packet) => void {
    this.#nodes.push({ node, link });
    return (packet) => {
      const passed = link.up.carry(() => {
        if (ipScope(destinationIp(packet)) === "multicast") this.#spread(packet, node);
        else this.carry(packet);
      }, lengthOf(packet));
      if (!passed) this.#observe(node.name, "lost", packet);
    };
  }

  /** Whether a node of this subnet leads to the address. */
  leadsTo(ip: string): boolean {
    return this.#nodes.some(({ node }) => node.leadsTo(ip));
  }

  /** Forwards a packet towards its destination: to a node of this subnet, or out. */
  carry(packet: Packet): void {
    if (this.#wayOut !== undefined && !this.leadsTo(destinationIp(packet))) this.#wayOut(packet);
    else this.deliver(packet);
  }

  /** Delivers a packet to a node of this subnet. */
  deliver(packet: Packet): void {
    const next = this.#nodes.find(({ node }) => node.leadsTo(destinationIp(packet)));
    if (next === undefined) return this.#observe(this.name, "no-route", packet);
    this.#handOver(packet, next);
  }

  /** Delivers a packet to all members of a multicast group but its sender. Multicast does not leave the subnet. */
  #spread(packet: Packet, sender: Node): void {
    for (const next of this.#nodes) {
      if (next.node !== sender && next.node.leadsTo(destinationIp(packet))) {
        this.#handOver(packet, next);
      }
    }
  }

  #handOver(packet: Packet, { node, link }: { node: Node; link: Link }): void {
    const passed = link.down.carry(() => node.receive(packet), lengthOf(packet));
    if (!passed) this.#observe(node.name, "lost", packet);
  }
}
