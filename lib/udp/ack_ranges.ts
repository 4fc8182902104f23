/**
 * Sets of whole numbers as ranges: packet numbers that have been received, bytes that have been acknowledged. Pure.
 *
 * @module
 */

/** The numbers from `start` to before `end`. */
export interface Range {
  readonly start: number;
  readonly end: number;
}

/** Ranges in ascending order, which neither overlap nor touch. */
export type Ranges = readonly Range[];

/** The set with a range added. */
export function addRange(ranges: Ranges, added: Range): Ranges {
  if (added.end <= added.start) return ranges;
  const last = ranges.at(-1);
  if (last === undefined || added.start > last.end) return [...ranges, added];
  if (added.start >= last.start) { // at the end, as nearly always
    return added.end <= last.end
      ? ranges
      : [...ranges.slice(0, -1), { start: last.start, end: added.end }];
  }
  const before = ranges.filter(({ end }) => end < added.start);
  const after = ranges.filter(({ start }) => start > added.end);
  const touching = ranges.slice(before.length, ranges.length - after.length);
  const start = Math.min(added.start, touching[0]?.start ?? Infinity);
  const end = Math.max(added.end, touching.at(-1)?.end ?? 0);
  return [...before, { start, end }, ...after];
}

/** The set without a range. */
export function removeRange(ranges: Ranges, { start, end }: Range): Ranges {
  if (end <= start || !ranges.some((each) => each.start < end && start < each.end)) return ranges;
  return ranges.flatMap((each) => {
    if (each.end <= start || end <= each.start) return [each];
    const left = { start: each.start, end: Math.min(each.end, start) };
    const right = { start: Math.max(each.start, end), end: each.end };
    return [left, right].filter((part) => part.start < part.end);
  });
}

/** Whether the set has a number. */
export function hasNumber(ranges: Ranges, number: number): boolean {
  for (let i = ranges.length - 1; i >= 0; i--) {
    const { start, end } = ranges[i]!;
    if (number >= end) return false;
    if (number >= start) return true;
  }
  return false;
}
