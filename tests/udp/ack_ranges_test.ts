import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { addRange, hasNumber, type Ranges, removeRange } from "../../lib/udp/ack_ranges.ts";
import { missingFrom } from "../../lib/udp/send_buffer.ts";

const RANGE = fc.tuple(fc.nat(60), fc.nat(12)).map(([start, length]) => ({
  start,
  end: start + length,
}));
const CHANGES = fc.array(fc.tuple(fc.boolean(), RANGE), { maxLength: 30 });

Deno.test("ranges behave like a set of numbers, in order and without touching", () => {
  fc.assert(fc.property(CHANGES, RANGE, (changes, range) => {
    let ranges: Ranges = [];
    const set = new Set<number>();
    for (const [isAdded, change] of changes) {
      ranges = isAdded ? addRange(ranges, change) : removeRange(ranges, change);
      for (let i = change.start; i < change.end; i++) isAdded ? set.add(i) : set.delete(i);
    }
    for (let i = 0; i < 80; i++) assertEquals(hasNumber(ranges, i), set.has(i));
    ranges.forEach(({ start, end }, index) => {
      const before = ranges[index - 1]?.end ?? -1;
      assertEquals(start > before && end > start, true);
    });
    const missing = missingFrom(ranges, range);
    for (let i = 0; i < 80; i++) {
      const isMissing = range.start <= i && i < range.end && !set.has(i);
      assertEquals(hasNumber(missing, i), isMissing);
    }
  }));
});
