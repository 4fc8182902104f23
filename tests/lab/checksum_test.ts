import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { adjustChecksum, checksum, sumWords } from "../../lab/kernel/checksum.ts";

Deno.test("checksum() computes the complemented sum of the example in RFC 1071 §3", () => {
  const bytes = Uint8Array.of(0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7);
  assertEquals(sumWords(bytes), 0x2ddf0);
  assertEquals(checksum(bytes), ~0xddf2 & 0xffff);
});

Deno.test("checksum() pads an odd last byte with zero", () => {
  assertEquals(checksum(Uint8Array.of(1, 2, 3)), checksum(Uint8Array.of(1, 2, 3, 0)));
});

Deno.test("adjustChecksum() computes the values of RFC 1624 §4", () => {
  assertEquals(adjustChecksum(0xdd2f, 0x5555, 0x3285), 0x0000);
});

Deno.test("adjustChecksum() agrees with a new computation of the checksum", () => {
  const word = fc.integer({ min: 1, max: 0xffff });
  fc.assert(fc.property(fc.uint8Array({ minLength: 4, maxLength: 20 }), word, (bytes, newWord) => {
    const oldWord = (bytes[0]! << 8) | bytes[1]!;
    const before = checksum(bytes);
    bytes.set([newWord >> 8, newWord & 0xff]);
    assertEquals(adjustChecksum(before, oldWord, newWord), checksum(bytes));
  }));
});
