/**
 * Links of the lab: delay, jitter, loss, outages, blocked protocols, and a rate with a drop-tail buffer. Unlike the
 * simulated network's links, they do not duplicate packets, and jitter alone reorders them.
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
  /** When the link has sent all packets in its buffers. */
  readonly #freeMs = { up: 0, down: 0 };

  constructor(name: string, plan: LinkPlan) {
    this.name = name;
    this.plan = plan;
  }

  /** How long a packet of this many bytes that is sent now takes, or why it is dropped. */
  cross(
    direction: Direction,
    packet: NatPacket,
    bytes: number,
    nowMs: number,
    random: () => number,
  ): number | WireDropReason {
    const protocol = packet.protocol === "icmp-error" ? "icmp" : packet.protocol;
    if (this.blocked.has(protocol)) return "blocked";
    if (this.outages.some(({ fromMs, untilMs }) => fromMs <= nowMs && nowMs < untilMs)) {
      return "outage";
    }
    const { jitterMs, loss, only, mtu = Infinity } = this.plan;
    const delayMs = this.plan.delayMs[direction];
    if (only !== undefined && only !== protocol) return 0;
    if (bytes > mtu) return "too-long";
    if (loss[direction] > 0 && random() < loss[direction]) return "loss";
    const queueMs = this.#queue(direction, bytes, nowMs);
    if (queueMs === undefined) return "buffer-full";
    return queueMs + (jitterMs > 0 ? delayMs + random() * jitterMs : delayMs);
  }

  /** How long the packet waits and takes to be sent; `undefined` if the buffer has no room for it. */
  #queue(direction: Direction, bytes: number, nowMs: number): number | undefined {
    if (this.plan.line === undefined) return 0;
    const { bytesPerMs, bufferBytes } = this.plan.line;
    const waitMs = Math.max(this.#freeMs[direction] - nowMs, 0);
    if (waitMs * bytesPerMs + bytes > Math.max(bufferBytes, bytes)) return undefined;
    const queueMs = waitMs + bytes / bytesPerMs;
    this.#freeMs[direction] = nowMs + queueMs;
    return queueMs;
  }
}
