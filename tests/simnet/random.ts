/**
 * Randomness that is the same in every run.
 *
 * @module
 */

import { seededRandom } from "../lab/random.ts";

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

/** FNV-1a. */
function hash(text: string): number {
  let state = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) {
    state = Math.imul(state ^ byte, 0x01000193);
  }
  return state;
}
