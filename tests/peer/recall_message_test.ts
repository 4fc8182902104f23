import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { concat, toHex } from "../../lib/base/bytes.ts";
import { MalformedMessageError } from "../../lib/base/errors.ts";
import { decodeRecall, encodeRecall } from "../../lib/peer/recall_message.ts";

const KEY = new Uint8Array(32).fill(7);
const TIME_MS = 1_800_000_000_000;

Deno.test("a recall is its time and an HMAC", () => {
  const bytes = encodeRecall(TIME_MS, KEY);
  assertEquals(toHex(bytes.subarray(0, 8)), "000001a3185c5000");
  assertEquals(bytes.length, 24);
  assertEquals(decodeRecall(bytes, KEY), TIME_MS);
});

Deno.test("a recall of another connection is rejected", () => {
  const bytes = encodeRecall(TIME_MS, KEY);
  assertThrows(() => decodeRecall(bytes, new Uint8Array(32)), MalformedMessageError, "HMAC");
});

Deno.test("a recall that was changed, cut or extended is rejected", () => {
  const bytes = encodeRecall(TIME_MS, KEY);
  for (let index = 0; index < bytes.length; index++) {
    const changed = bytes.map((byte, at) => at === index ? byte ^ 1 : byte);
    assertThrows(() => decodeRecall(changed, KEY), MalformedMessageError, "HMAC");
  }
  for (const wrong of [bytes.subarray(1), bytes.subarray(0, 23), concat(bytes, Uint8Array.of(0))]) {
    assertThrows(() => decodeRecall(wrong, KEY), MalformedMessageError);
  }
});

Deno.test("decoding a recall throws nothing but MalformedMessageError", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
    assertThrows(() => decodeRecall(bytes, KEY), MalformedMessageError);
  }));
});
