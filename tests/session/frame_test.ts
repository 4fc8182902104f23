import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { toHex } from "../../lib/base/bytes.ts";
import { MalformedMessageError } from "../../lib/base/errors.ts";
import { MAX_PLAINTEXT_LENGTH } from "../../lib/noise/record.ts";
import {
  type ControlFrame,
  decodeSessionFrame,
  encodeSessionFrame,
  MAX_DATA_FRAME_LENGTH,
  MAX_DATA_LENGTH,
} from "../../lib/session/frame.ts";

/** Written by hand from the table in `docs/session.md`. */
const GOLDEN: readonly [string, ControlFrame][] = [
  [
    "01" + "01" + "00000007" + "0000000000000102" + "0000000100000000",
    { kind: "hello", version: 1, pathNumber: 7, received: 258, limit: 2 ** 32 },
  ],
  ["02" + "001fffffffffffff", { kind: "start", offset: Number.MAX_SAFE_INTEGER }],
  ["03" + "0000000000000001" + "0000000000010000", { kind: "ack", received: 1, limit: 65_536 }],
  ["05" + "0000000000000100", { kind: "fin", offset: 256 }],
  ["06" + "ffffffff", { kind: "ping", token: 0xffffffff }],
  ["07" + "00000001", { kind: "pong", token: 1 }],
  ["08" + "0002" + "abcd", { kind: "message", message: Uint8Array.of(0xab, 0xcd) }],
  ["09", { kind: "done" }],
  ["0a", { kind: "reset" }],
  ["0b0102", { kind: "abort", code: 258 }],
];

Deno.test("encodeSessionFrame() writes the bytes that docs/session.md defines", () => {
  for (const [hex, frame] of GOLDEN) {
    assertEquals(toHex(encodeSessionFrame(frame)), hex);
    assertEquals(decodeSessionFrame(encodeSessionFrame(frame)), { frame, length: hex.length / 2 });
  }
});

Deno.test("decodeSessionFrame() returns undefined for an incomplete frame", () => {
  for (const [, frame] of GOLDEN) {
    const bytes = encodeSessionFrame(frame);
    for (let length = 0; length < bytes.length; length++) {
      assertEquals(decodeSessionFrame(bytes.subarray(0, length)), undefined);
    }
  }
});

for (
  const [what, bytes] of [
    ["an unknown type", [12]],
    ["type 0", [0]],
    ["DATA without bytes", [4, 0, 0]],
    ["DATA too long for a record", [
      4,
      (MAX_DATA_LENGTH + 1) >> 8,
      (MAX_DATA_LENGTH + 1) & 0xff,
    ]],
    ["a MESSAGE over 4096 bytes", [8, 0x10, 0x01]],
    ["an offset of 2^53", [2, 0, 0x20, 0, 0, 0, 0, 0, 0]],
  ] as const
) {
  Deno.test(`decodeSessionFrame() rejects ${what}`, () => {
    assertThrows(() => decodeSessionFrame(Uint8Array.from(bytes)), MalformedMessageError);
  });
}

Deno.test("decodeSessionFrame() throws nothing but MalformedMessageError, whatever it reads", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
    try {
      decodeSessionFrame(bytes);
    } catch (error) {
      if (!(error instanceof MalformedMessageError)) throw error;
    }
  }));
});

Deno.test("the longest DATA frame fills one record of Noise", () => {
  assertEquals(MAX_DATA_FRAME_LENGTH, MAX_PLAINTEXT_LENGTH);
});
