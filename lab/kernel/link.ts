/**
 * What crossing a link does to a packet: delay, jitter, loss, outages, and protocols that do not get through.
 *
 * @module
 */

import type { WireDropReason } from "./counters.ts";
import type { NatPacket, SessionProtocol } from "../model/nat_packet.ts";
import type { LinkPlan } from "./topology.ts";

/** Up is away from the host or the NAT that the link attaches. */
export type Direction = "up" | "down";

/** A link and its present state. */
export class LabLink {
  /** Where drops are counted. */
  readonly name: string;
  plan: LinkPlan;
  blocked: ReadonlySet<SessionProtocol> = new Set();
  readonly outages: { readonly fromMs: number; readonly untilMs: number }[] = [];

  constructor(name: string, plan: LinkPlan) {
    this.name = name;
    this.plan = plan;
  }

  /** How long a packet that sets out now takes, or why it does not arrive. */
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
