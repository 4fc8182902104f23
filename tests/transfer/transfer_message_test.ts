import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { concat, toHex } from "../../lib/base/bytes.ts";
import { MalformedMessageError } from "../../lib/base/errors.ts";
import {
  decodeTransferBody,
  decodeTransferHeader,
  encodeTransferMessage,
  HEADER_BYTES,
  MAX_REASON_BYTES,
  type TransferMessage,
} from "../../lib/transfer/message.ts";

const HASH = new Uint8Array(32).fill(0xab);
const AB = "ab".repeat(32);
const ENTRY = { kind: "file", path: "é/a", size: 2 ** 40 + 1, modifiedMs: 258, isExecutable: true };
const FOLDER = { kind: "folder", path: "é", size: 0, modifiedMs: 0, isExecutable: false };
const LINK = { ...FOLDER, kind: "link", path: "l", target: "é/a" };

for (
  const [message, hex] of [
    [{ type: "offer" }, "0100000005" + "504c4654" + "02"],
    [
      { type: "entries", entries: [FOLDER, ENTRY, LINK] },
      "0800000049" +
      "01" + "00" + "0000000000000000" + "0000000000000000" + "0002" + "c3a9" +
      "00" + "01" + "0000000000000102" + "0000010000000001" + "0004" + "c3a92f61" +
      "02" + "00" + "0000000000000000" + "0000000000000000" + "0001" + "6c" + "0004" + "c3a92f61",
    ],
    [
      { type: "skipped", skipped: [{ path: "é", reason: "link" }, { path: "b", reason: "other" }] },
      "0900000009" + "00" + "0002" + "c3a9" + "01" + "0001" + "62",
    ],
    [{ type: "offered", entries: 3, skipped: 258 }, "0a00000008" + "00000003" + "00000102"],
    [
      {
        type: "held",
        held: [
          { index: 0, state: "done" },
          { index: 1, state: "refused" },
          { index: 258, state: "part", length: 5, hash: HASH },
          { index: 259, state: "whole", length: 6, hash: HASH },
          { index: 260, state: "compare" },
        ],
      },
      "0b00000069" + "00000000" + "00" + "00000001" + "01" +
      `0000010202${"0000000000000005"}${AB}0000010303${"0000000000000006"}${AB}` + "0000010404",
    ],
    [{ type: "answer", held: 4 }, "0200000004" + "00000004"],
    [{ type: "failed", reason: "unreadable" }, "0c00000001" + "01"],
    [
      { type: "done", refused: [{ index: 258, reason: "link" }, { index: 3, reason: "hidden" }] },
      "060000000e" + "00000002" + "00000102" + "01" + "00000003" + "03",
    ],
    [
      { type: "plan", steps: ["keep", "send", "continue", "compare"] },
      "03000000080000000400010203",
    ],
    [{ type: "end", hash: HASH }, `0500000020${AB}`],
    [{ type: "refusal", code: "failed", reason: "é" }, "070000000301c3a9"],
  ] as [TransferMessage, string][]
) {
  Deno.test(`encodeTransferMessage() and decodeTransferBody() agree on the bytes of ${message.type}`, () => {
    const bytes = encodeTransferMessage(message);
    assertEquals(toHex(bytes), hex);
    const { type, length } = decodeTransferHeader(bytes.subarray(0, HEADER_BYTES));
    assertEquals([type, length], [message.type, bytes.length - HEADER_BYTES]);
    assertEquals(decodeTransferBody(message.type, bytes.subarray(HEADER_BYTES)), message);
  });

  Deno.test(`decodeTransferBody() rejects ${message.type} if it is truncated or has trailing bytes`, () => {
    if (message.type === "refusal") return; // its reason may have any length
    const body = encodeTransferMessage(message).subarray(HEADER_BYTES);
    const isList = message.type === "skipped" || message.type === "held" ||
      message.type === "entries";
    for (let length = isList ? body.length - 1 : 0; length < body.length; length++) {
      assertThrows(
        () => decodeTransferBody(message.type, body.subarray(0, length)),
        MalformedMessageError,
      );
    }
    const longer = concat(body, Uint8Array.of(0));
    assertThrows(() => decodeTransferBody(message.type, longer), MalformedMessageError);
  });
}

Deno.test("decodeTransferBody() rejects another version, and names it", () => {
  const body = encodeTransferMessage({ type: "offer" }).slice(HEADER_BYTES);
  body[4] = 3;
  assertThrows(() => decodeTransferBody("offer", body), MalformedMessageError, "version 3");
});

Deno.test("decodeTransferBody() rejects a size over 2^53 - 1", () => {
  const body = encodeTransferMessage({
    type: "entries",
    entries: [{ kind: "file", path: "a", size: 0, modifiedMs: 0, isExecutable: false }],
  }).slice(HEADER_BYTES);
  body.fill(0xff, 10, 18);
  assertThrows(
    () => decodeTransferBody("entries", body),
    MalformedMessageError,
    "size of an entry",
  );
});

Deno.test("decodeTransferBody() rejects a path that is not UTF-8", () => {
  const body = encodeTransferMessage({
    type: "entries",
    entries: [{ kind: "file", path: "a", size: 0, modifiedMs: 0, isExecutable: false }],
  }).slice(HEADER_BYTES);
  body[body.length - 1] = 0xff;
  assertThrows(() => decodeTransferBody("entries", body), MalformedMessageError, "UTF-8");
});

Deno.test("decodeTransferBody() rejects a count that exceeds the body without allocating memory", () => {
  for (const type of ["done", "plan"] as const) {
    const body = new Uint8Array(8).fill(0xff);
    assertThrows(() => decodeTransferBody(type, body), MalformedMessageError, "count");
  }
});

Deno.test("encodeTransferMessage() truncates a reason that is too long", () => {
  const bytes = encodeTransferMessage({
    type: "refusal",
    code: "failed",
    reason: "x".repeat(5000),
  });
  assertEquals(bytes.length, HEADER_BYTES + 1 + MAX_REASON_BYTES);
});

Deno.test("decodeTransferHeader() rejects unknown types", () => {
  for (const type of [0, 13, 255]) {
    assertThrows(
      () => decodeTransferHeader(Uint8Array.of(type, 0, 0, 0, 0)),
      MalformedMessageError,
      "type",
    );
  }
});

Deno.test("decodeTransferBody() is the inverse of encodeTransferMessage()", () => {
  fc.assert(fc.property(offers(), (message) => {
    assertEquals(
      decodeTransferBody("entries", encodeTransferMessage(message).subarray(HEADER_BYTES)),
      message,
    );
  }));
});

Deno.test("decodeTransferBody() throws nothing but MalformedMessageError, whatever it reads", () => {
  const types = fc.constantFrom(
    ...["offer", "entries", "skipped", "offered", "held", "answer"],
    ...["plan", "end", "failed", "done", "refusal"],
  );
  fc.assert(
    fc.property(types, fc.uint8Array({ maxLength: 200 }), fc.boolean(), (type, noise, isNear) => {
      const start = isNear ? new TextEncoder().encode("PLFT\x02") : new Uint8Array(0);
      try {
        decodeTransferBody(type as TransferMessage["type"], concat(start, noise));
      } catch (error) {
        if (!(error instanceof MalformedMessageError)) throw error;
      }
    }),
  );
});

function offers(): fc.Arbitrary<TransferMessage> {
  const entry = fc.record({
    kind: fc.constantFrom("file" as const, "folder" as const),
    path: fc.string({ unit: "grapheme", maxLength: 40 }),
    size: fc.maxSafeNat(),
    modifiedMs: fc.maxSafeNat(),
    isExecutable: fc.boolean(),
  }, { noNullPrototype: true });
  return fc.array(entry, { minLength: 1 }).map((entries) => ({ type: "entries", entries }));
}
