/**
 * Randomness that is the same in every run: independent streams, and replacements for the platform's.
 *
 * @module
 */

import { seededRandom } from "../../lab/model/random.ts";
import { replaceProperty } from "./replace_property.ts";

/** A function like `Math.random`. */
export type Random = () => number;

/**
 * A random stream that depends only on the seed and the label.
 *
 * @param label names the user of the stream; streams with different labels are independent
 */
export function labelledRandom(seed: number, label: string): Random {
  return seededRandom(hash(`${seed} ${label}`));
}

/** An integer from `min` to `max`, inclusive. */
export function randomInteger(random: Random, min: number, max: number): number {
  return min + Math.floor(random() * (max - min + 1));
}

/**
 * Seeds `Math.random` and `crypto.getRandomValues` until it is disposed of, so that the transaction IDs
 * and ports that the code under test chooses are the same in every run.
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

  /** Restores the platform's randomness. */
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
