/**
 * Randomness that is the same in every run.
 *
 * @module
 */

/** Numbers from 0 to below 1, as `Math.random` gives them. */
export type Random = () => number;

/**
 * A stream of numbers that its seed and label determine: mulberry32, a 32-bit generator good enough for
 * losing packets and choosing ports.
 *
 * @param label names who draws; streams with different labels do not depend on each other
 */
export function seededRandom(seed: number, label = ""): Random {
  let state = hash(label, seed);
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A whole number from `min` to `max`, both included. */
export function randomInteger(random: Random, min: number, max: number): number {
  return min + Math.floor(random() * (max - min + 1));
}

/** FNV-1a over the label and the seed. */
function hash(label: string, seed: number): number {
  let state = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(`${seed} ${label}`)) {
    state = Math.imul(state ^ byte, 0x01000193);
  }
  return state;
}
