/**
 * Links of the simulated network: delay, jitter, loss, duplication, reordering and outages, in a queue per direction.
 * The lab's links (lab/kernel/link.ts) know fewer impairments, and leave the queueing to their caller.
 *
 * @module
 */

import type { Random } from "./random.ts";

/** The behavior of one direction of a link. Probabilities are from 0 to 1. */
export interface WireBehavior {
  /** One-way delay. */
  readonly delayMs: number;
  /** The maximum additional delay. Packets keep their order, as in a queue. */
  readonly jitterMs: number;
  /** The probability that a packet is lost. */
  readonly loss: number;
  /** The probability that a packet arrives twice. */
  readonly duplication: number;
  /** The probability that a packet is held back for `reorderingMs` while later ones pass. */
  readonly reordering: number;
  readonly reorderingMs: number;
  /** When all packets are lost: pairs of the first and the last millisecond, on the clock. */
  readonly outages: readonly (readonly [fromMs: number, toMs: number])[];
  /** The longest packet; longer ones are lost without a word (an MTU hole). */
  readonly mtu: number;
}

/** The behavior of both directions, with differences for `up` (towards the network) and `down`. */
export interface LinkBehavior extends Partial<WireBehavior> {
  readonly up?: Partial<WireBehavior>;
  readonly down?: Partial<WireBehavior>;
}

/** A link: two wires. Their behavior can be changed while packets are in transit. */
export class Link {
  readonly up: Wire;
  readonly down: Wire;

  /** @param random a separate random stream for each direction */
  constructor(behavior: LinkBehavior, random: (direction: "up" | "down") => Random) {
    const { up, down, ...both } = behavior;
    this.up = new Wire({ ...PERFECT, ...both, ...up }, random("up"));
    this.down = new Wire({ ...PERFECT, ...both, ...down }, random("down"));
  }
}

/** One direction of a link. */
export class Wire {
  behavior: WireBehavior;
  readonly #random: Random;
  #lastArrivalMs = 0;

  constructor(behavior: WireBehavior, random: Random) {
    this.behavior = behavior;
    this.#random = random;
  }

  /**
   * Calls `arrive` for each copy of a packet that gets through; returns whether any does.
   *
   * @param bytes the length of the packet, with its headers
   */
  carry(arrive: () => void, bytes = 0): boolean {
    const { loss, duplication, outages, mtu } = this.behavior;
    const nowMs = performance.now();
    if (bytes > mtu) return false;
    if (outages.some(([fromMs, toMs]) => fromMs <= nowMs && nowMs <= toMs)) return false;
    if (this.#happens(loss)) return false;
    const copies = this.#happens(duplication) ? 2 : 1;
    for (let i = 0; i < copies; i++) this.#schedule(nowMs, arrive);
    return true;
  }

  #schedule(nowMs: number, arrive: () => void): void {
    const { delayMs, jitterMs, reordering, reorderingMs } = this.behavior;
    const jitter = jitterMs > 0 ? this.#random() * jitterMs : 0;
    let arrivalMs = Math.max(nowMs + delayMs + jitter, this.#lastArrivalMs);
    if (this.#happens(reordering)) arrivalMs += reorderingMs;
    else this.#lastArrivalMs = arrivalMs;
    if (arrivalMs > nowMs) setTimeout(arrive, arrivalMs - nowMs);
    else arrive();
  }

  /** Draws a random number only if needed, so that unused settings do not change the others' randomness. */
  #happens(chance: number): boolean {
    return chance > 0 && this.#random() < chance;
  }
}

const PERFECT: WireBehavior = {
  delayMs: 0,
  jitterMs: 0,
  loss: 0,
  duplication: 0,
  reordering: 0,
  reorderingMs: 10,
  outages: [],
  mtu: Infinity,
};
