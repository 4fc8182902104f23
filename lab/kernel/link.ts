/**
 * Links of the lab: delay, jitter, loss, outages and blocked protocols. Unlike the simulated network's links, they
 * neither queue nor duplicate packets: jitter alone reorders them.
 *
 * @module
 */

import type { WireDropReason } from "./counters.ts";
import type { NatPacket, SessionProtocol } from "../model/nat_packet.ts";
import type { LinkPlan } from "./topology.ts";

/** "Up" leads away from the link's host or NAT. */
export type Direction = "up" | "down";

/** A link and its current state. */
export class LabLink {
  /** The place under which its drops are counted. */
  readonly name: string;
  plan: LinkPlan;
  blocked: ReadonlySet<SessionProtocol> = new Set();
  readonly outages: { readonly fromMs: number; readonly untilMs: number }[] = [];

  constructor(name: string, plan: LinkPlan) {
    this.name = name;
    this.plan = plan;
  }

  /** How long a packet sent now takes, or why it is dropped. */
  cross(
    direction: Direction,
    packet: NatPacket,
    nowMs: number,
    random: () => number,
  ): number | WireDropReason {
    const protocol = packet.protocol === "icmp-error" ? "icmp" : packet.protocol;
    if (this.blocked.has(protocol)) return "blocked";
    if (this.outages.some(({ fromMs, untilMs }) => fromMs <= nowMs && nowMs < untilMs)) {
      return "outage";
    }
    const { delayMs, jitterMs, loss } = this.plan;
    if (loss[direction] > 0 && random() < loss[direction]) return "loss";
    return jitterMs > 0 ? delayMs + random() * jitterMs : delayMs;
  }
}
