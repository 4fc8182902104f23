/**
 * The median, which ignores outliers caused by other load on the machine.
 *
 * @module
 */

/** The median of the numbers; the larger of the two middle ones if their count is even. */
export function median(numbers: readonly number[]): number {
  return numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)]!;
}
