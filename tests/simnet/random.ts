/**
 * Randomness that is the same in every run.
 *
 * @module
 */

import { seededRandom } from "../../lab/model/random.ts";
import { replaceProperty } from "./replace_property.ts";

/** Numbers from 0 to below 1, as `Math.random` gives them. */
export type Random = () => number;

/**
 * A stream of numbers that follows from a seed.
 *
 * @param label names who draws; streams with different labels do not depend on each other
 */
export function labelledRandom(seed: number, label: string): Random {
  return seededRandom(hash(`${seed} ${label}`));
}

/** A whole number from `min` to `max`, both included. */
export function randomInteger(random: Random, min: number, max: number): number {
  return min + Math.floor(random() * (max - min + 1));
}

/**
 * Makes `Math.random` and `crypto.getRandomValues` follow from a seed until it is disposed: transaction ids
 * and ports, which the code under test draws itself, are then the same in every run.
 */
export class SeededRandomness implements Disposable {
  readonly #restore: (() => void)[];

  constructor(seed: number) {
    const random = labelledRandom(seed, "platform");
    const fill = <T extends ArrayBufferView>(view: T): T => {
      const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
      bytes.forEach((_, index) => bytes[index] = randomInteger(random, 0, 255));
      return view;
    };
    this.#restore = [
      replaceProperty(Math, "random", random),
      replaceProperty(Crypto.prototype, "getRandomValues", fill),
    ];
  }

  /** Gives the platform its own randomness back. */
  [Symbol.dispose](): void {
    for (const restore of this.#restore.splice(0)) restore();
  }
}

/** FNV-1a. */
function hash(text: string): number {
  let state = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) {
    state = Math.imul(state ^ byte, 0x01000193);
  }
  return state;
}
