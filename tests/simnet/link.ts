/**
 * Links: what happens to packets between two nodes.
 *
 * @module
 */

import type { Random } from "./random.ts";

/** How one direction of a link treats packets. Chances are from 0 to 1. */
export interface WireBehavior {
  /** How long a packet takes, one way. */
  readonly delayMs: number;
  /** Up to how much longer it may take. Packets keep their order all the same, as in a queue. */
  readonly jitterMs: number;
  /** The chance that a packet is lost. */
  readonly loss: number;
  /** The chance that a packet arrives twice. */
  readonly duplication: number;
  /** The chance that a packet is held back by `reorderingMs` while those behind it go on. */
  readonly reordering: number;
  readonly reorderingMs: number;
  /** When nothing gets through: pairs of the first and the last millisecond of the clock. */
  readonly outages: readonly (readonly [fromMs: number, toMs: number])[];
}

/** How a link treats packets: both directions alike, but for what `up` (to the network) and `down` say. */
export interface LinkBehavior extends Partial<WireBehavior> {
  readonly up?: Partial<WireBehavior>;
  readonly down?: Partial<WireBehavior>;
}

/** Two wires. Their behaviour may be changed while packets travel. */
export class Link {
  readonly up: Wire;
  readonly down: Wire;

  /** @param random a stream of its own for each direction */
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

  /** Calls `arrive` for each copy of a packet that gets through; whether any does. */
  carry(arrive: () => void): boolean {
    const { loss, duplication, outages } = this.behavior;
    const nowMs = performance.now();
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

  /** Draws only where there is a choice, so that a setting which is off does not change the others' luck. */
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
};
