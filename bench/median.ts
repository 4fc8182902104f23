/**
 * What benchmarks quote: the machine's moods are in the extremes.
 *
 * @module
 */

/** The middle one of the numbers; of an even number of them, the larger. */
export function median(numbers: readonly number[]): number {
  return numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)]!;
}
