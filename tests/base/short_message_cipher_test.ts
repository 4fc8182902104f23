import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { toHex } from "../../lib/base/bytes.ts";
import { ChaChaPolySealer } from "../../lib/base/crypto.ts";
import { Poly1305, ShortMessageCipher } from "../../lib/base/short_message_cipher.ts";

/** The values at which carries and reductions go wrong, and others. */
const byte = fc.oneof(
  fc.constantFrom(0, 1, 4, 0xfa, 0xfb, 0xff),
  fc.integer({ min: 0, max: 0xff }),
);
const bytes = (minLength: number, maxLength = minLength) =>
  fc.array(byte, { minLength, maxLength }).map((values) => Uint8Array.from(values));

Deno.test("ShortMessageCipher encrypts as the platform does, whatever the length", () => {
  fc.assert(fc.property(bytes(32), bytes(12), bytes(0, 300), (key, nonce, plaintext) => {
    const target = new Uint8Array(plaintext.length + 20).fill(0xee);
    new ShortMessageCipher(key).sealInto(target, 3, nonce, plaintext);
    assertEquals(toHex(target.subarray(3, -1)), toHex(sealedByPlatform(key, nonce, plaintext)));
    assertEquals([...target.subarray(0, 3), ...target.subarray(-1)], [0xee, 0xee, 0xee, 0xee]);
  }));
});

Deno.test("ShortMessageCipher decrypts what the platform has encrypted, one message after the other", () => {
  fc.assert(fc.property(bytes(32), fc.array(bytes(0, 150), { maxLength: 4 }), (key, messages) => {
    const cipher = new ShortMessageCipher(key);
    messages.forEach((message, i) => {
      const nonce = new Uint8Array(12).fill(i);
      assertEquals(cipher.open(nonce, sealedByPlatform(key, nonce, message)), message);
    });
  }));
});

Deno.test("ShortMessageCipher refuses a message with any bit changed, and one that is too short", () => {
  const [key, nonce] = [new Uint8Array(32).fill(7), new Uint8Array(12)];
  const cipher = new ShortMessageCipher(key);
  const sealed = sealedByPlatform(key, nonce, new Uint8Array(20));
  for (let bit = 0; bit < 8 * sealed.length; bit++) {
    const changed = sealed.slice();
    changed[bit >> 3]! ^= 1 << (bit & 7);
    assertEquals(cipher.open(nonce, changed), undefined);
  }
  for (let length = 0; length < sealed.length; length++) {
    assertEquals(cipher.open(nonce, sealed.subarray(0, length)), undefined);
  }
  assertEquals(cipher.open(nonce, sealed), new Uint8Array(20));
});

Deno.test("ShortMessageCipher.destroy() erases the key: nothing is encrypted or decrypted any more", () => {
  const [key, nonce] = [new Uint8Array(32).fill(7), new Uint8Array(12)];
  const cipher = new ShortMessageCipher(key);
  cipher.destroy();
  cipher.destroy();
  const destroyed = "Cannot use the key: it was destroyed";
  for (const sealed of [sealedByPlatform(key, nonce, new Uint8Array(20)), new Uint8Array(36)]) {
    assertThrows(() => cipher.open(nonce, sealed), TypeError, destroyed);
  }
  const target = new Uint8Array(36);
  assertThrows(() => cipher.sealInto(target, 0, nonce, key.subarray(0, 20)), TypeError, destroyed);
  assertEquals(target, new Uint8Array(36), "nothing leaves in the clear");
  assertEquals([...key], Array(32).fill(7), "the caller's key is left alone");
});

// RFC 8439, appendix A.3: what overflows somewhere. The key's first half, its second half, the blocks, the tag.
for (
  const [name, r, s, blocks, tag] of [
    ["#7", "02", "00", ["ff".repeat(16)], "03"],
    ["#8", "02", "ff".repeat(16), ["02"], "03"],
    ["#9", "01", "00", ["ff".repeat(16), "f0" + "ff".repeat(15), "11"], "05"],
    ["#10", "01", "00", ["ff".repeat(16), "fbfe" + "fe".repeat(14), "01".repeat(16)], "00"],
    ["#11", "02", "00", ["fd" + "ff".repeat(15)], "fa" + "ff".repeat(15)],
    [
      "#12",
      "010000000000000004",
      "00",
      ["e33594d7505e43b9", "3394d7505e4379cd01", "00", "01"],
      "140000000000000055",
    ],
  ] as const
) {
  Deno.test(`Poly1305 computes the tag of RFC 8439 A.3 ${name}`, () => {
    const words = (hex: string) => new Int32Array(Uint8Array.fromHex(hex.padEnd(32, "0")).buffer);
    const poly = new Poly1305();
    poly.start(Int32Array.of(...words(r), ...words(s)));
    for (const block of blocks) {
      const [w0, w1, w2, w3] = words(block) as unknown as [number, number, number, number];
      poly.add(w0, w1, w2, w3);
    }
    poly.finish();
    assertEquals(toHex(new Uint8Array(poly.tag.buffer)), tag.padEnd(32, "0"));
  });
}

Deno.test("Poly1305 computes what integers of any size give", () => {
  const block = bytes(16);
  fc.assert(fc.property(block, block, fc.array(block, { maxLength: 20 }), (r, s, blocks) => {
    const poly = new Poly1305();
    poly.start(new Int32Array(Uint8Array.of(...r, ...s).buffer));
    let sum = 0n;
    for (const each of blocks) {
      const [w0, w1, w2, w3] = new Int32Array(each.slice().buffer);
      poly.add(w0!, w1!, w2!, w3!);
      sum = (sum + toInteger(each) + 2n ** 128n) * (toInteger(r) & CLAMP) % (2n ** 130n - 5n);
    }
    poly.finish();
    const tag = toInteger(new Uint8Array(poly.tag.buffer));
    assertEquals(tag, BigInt.asUintN(128, sum + toInteger(s)));
  }));
});

function sealedByPlatform(key: Uint8Array, nonce: Uint8Array, plaintext: Uint8Array): Uint8Array {
  const target = new Uint8Array(plaintext.length + 16);
  return new ChaChaPolySealer(key, nonce).seal(new Uint8Array(0), plaintext, target);
}

/** Little-endian. */
function toInteger(bytes: Uint8Array): bigint {
  return BigInt("0x" + toHex(bytes.toReversed()));
}

const CLAMP = 0x0ffffffc0ffffffc0ffffffc0fffffffn;
