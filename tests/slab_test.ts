import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { Slab } from "../lib/slab.ts";

Deno.test("take() hands out arrays of zeros that do not overlap, whatever their lengths", () => {
  const lengths = fc.array(fc.nat(1500), { maxLength: 200 });
  fc.assert(fc.property(lengths, (lengths) => {
    const slab = new Slab();
    const parts = lengths.map((length, index) => {
      const part = slab.take(length);
      assertEquals([part.length, part.every((byte) => byte === 0)], [length, true]);
      return part.fill(1 + index % 255);
    });
    for (const [index, part] of parts.entries()) {
      assertEquals(part.every((byte) => byte === 1 + index % 255), true);
    }
  }));
});
