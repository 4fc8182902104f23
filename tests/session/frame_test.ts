import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { concat, toHex } from "../../lib/base/bytes.ts";
import { MalformedMessageError } from "../../lib/base/errors.ts";
import { MAX_PLAINTEXT_LENGTH } from "../../lib/noise/record.ts";
import {
  type ControlFrame,
  decodeSessionFrame,
  encodeSessionFrame,
  MAX_DATA_FRAME_LENGTH,
  MAX_DATA_LENGTH,
  SessionFrameReader,
  writeDataHeader,
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

Deno.test("SessionFrameReader finds the same frames and data wherever the chunks are cut", () => {
  const data = Uint8Array.from({ length: 20 }, (_, index) => index);
  const header = new Uint8Array(3);
  writeDataHeader(header, 0, data.length);
  const frames = GOLDEN.map(([, frame]) => frame);
  const stream = concat(...frames.flatMap((frame) => [header, data, encodeSessionFrame(frame)]));
  fc.assert(fc.property(fc.array(fc.integer({ min: 1, max: 60 })), (lengths) => {
    const reader = new SessionFrameReader();
    const found: ControlFrame[] = [];
    const received: number[] = [];
    for (let at = 0, i = 0; at < stream.length; i++) {
      const chunk = stream.slice(at, at += lengths[i % lengths.length] ?? stream.length);
      reader.push(chunk);
      for (let part; (part = reader.next()) !== undefined;) {
        if (part instanceof Uint8Array) received.push(...part);
        else found.push(part);
      }
      chunk.fill(0xff); // its memory is reused
    }
    assertEquals(found, frames);
    assertEquals(received, frames.flatMap(() => [...data]));
  }));
});

Deno.test("SessionFrameReader refuses DATA without data, with too much, and unknown types", () => {
  for (const bytes of [[4, 0, 0, 1], [4, 0, 0], [4, 0xff, 0xff, 1], [99]]) {
    const reader = new SessionFrameReader();
    reader.push(Uint8Array.from(bytes));
    assertThrows(() => reader.next(), MalformedMessageError);
  }
});
