import { assertEquals, assertNotStrictEquals } from "@std/assert";
import { copyOf, takeUnwritten } from "../../lib/base/bytes.ts";

Deno.test("takeUnwritten() never hands out the same bytes twice", () => {
  const parts = Array.from({ length: 3000 }, (_, index) => {
    const part = takeUnwritten(index % 100);
    assertEquals(part.length, index % 100);
    return part.fill(index);
  });
  for (const [index, part] of parts.entries()) {
    assertEquals(part.every((byte) => byte === index % 256), true);
  }
});

Deno.test("copyOf() copies a view", () => {
  const bytes = Uint8Array.of(1, 2, 3, 4).subarray(1, 3);
  const copy = copyOf(bytes);
  bytes.fill(0);
  assertEquals(copy, Uint8Array.of(2, 3));
  assertNotStrictEquals(copy.buffer, bytes.buffer);
});
