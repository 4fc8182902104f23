import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { concat } from "../../lib/base/bytes.ts";
import { MalformedMessageError } from "../../lib/base/errors.ts";
import {
  decodeStreamFrame,
  encodeStreamFrame,
  type StreamFrame,
  StreamFrameReader,
} from "../../lib/session/frame.ts";

const GOLDEN: readonly [StreamFrame, string][] = [
  [{ kind: "open", id: 1 }, "0100000001"],
  [{ kind: "data", id: 0x01020304, length: 258 }, "02010203040101"],
  [{ kind: "data", id: 1, length: 65_536 }, "0200000001ffff"],
  [{ kind: "window", id: 2, limit: 2 ** 40 + 1 }, "03000000020000010000000001"],
  [{ kind: "end", id: 0 }, "0400000000"],
  [{ kind: "reset", id: 3, code: 0xff02 }, "0500000003ff02"],
];

for (const [frame, hex] of GOLDEN) {
  Deno.test(`a ${frame.kind} frame of a stream has the documented bytes`, () => {
    const bytes = encodeStreamFrame(frame);
    assertEquals(bytes.toHex(), hex);
    assertEquals(decodeStreamFrame(bytes), { frame, length: bytes.length });
    for (let length = 0; length < bytes.length; length++) {
      assertEquals(decodeStreamFrame(bytes.subarray(0, length)), undefined);
    }
  });
}

for (
  const [what, hex] of [
    ["an unknown type", "0000000001"],
    ["an unknown type", "06"],
    ["a limit of 2^53", "03000000010020000000000000"],
  ] as const
) {
  Deno.test(`decodeStreamFrame() rejects ${what}: ${hex}`, () => {
    assertThrows(() => decodeStreamFrame(Uint8Array.fromHex(hex)), MalformedMessageError);
  });
}

Deno.test("StreamFrameReader finds the same frames and data however the bytes are cut", () => {
  const id = fc.nat({ max: 0xffff_ffff });
  const frame = fc.oneof(
    fc.record({ kind: fc.constant("open" as const), id }),
    fc.record({ kind: fc.constant("end" as const), id }),
    fc.record({ kind: fc.constant("reset" as const), id, code: fc.nat({ max: 0xffff }) }),
    fc.record({ kind: fc.constant("window" as const), id, limit: fc.maxSafeNat() }),
    fc.record({ kind: fc.constant("data" as const), id, length: fc.integer({ min: 1, max: 40 }) }),
  );
  const cuts = fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 1 });
  fc.assert(fc.property(fc.array(frame), cuts, (frames, cuts) => {
    const bytes = concat(...frames.flatMap((each) => {
      const head = encodeStreamFrame(each);
      return each.kind === "data" ? [head, new Uint8Array(each.length).fill(each.id)] : [head];
    }));
    const seen: string[] = [];
    const reader = new StreamFrameReader(
      (each) => seen.push(JSON.stringify(each)),
      (id, data) => {
        for (const byte of data) seen.push(`${id}:${byte}`);
      },
    );
    for (let at = 0, turn = 0; at < bytes.length; turn++) {
      const length = cuts[turn % cuts.length]!;
      reader.push(bytes.subarray(at, at + length));
      at += length;
    }
    const expected = frames.flatMap((each) =>
      each.kind === "data"
        ? Array<string>(each.length).fill(`${each.id}:${each.id & 0xff}`)
        : [JSON.stringify(each)]
    );
    assertEquals(seen, expected);
  }));
});

Deno.test("StreamFrameReader throws nothing but MalformedMessageError, whatever it is given", () => {
  fc.assert(fc.property(fc.array(fc.uint8Array({ maxLength: 30 })), (pieces) => {
    const reader = new StreamFrameReader(() => {}, () => {});
    try {
      for (const piece of pieces) reader.push(piece);
    } catch (error) {
      if (!(error instanceof MalformedMessageError)) throw error;
    }
  }));
});
