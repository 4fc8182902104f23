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

for (
  const [message, hex] of [
    [
      { type: "offer", manifest: [FOLDER, ENTRY] },
      "0100000037" + "504c4654" + "01" + "00000002" +
      "01" + "00" + "0000000000000000" + "0000000000000000" + "0002" + "c3a9" +
      "00" + "01" + "0000000000000102" + "0000010000000001" + "0004" + "c3a92f61",
    ],
    [
      {
        type: "answer",
        held: [
          { state: "nothing" },
          { state: "done" },
          { state: "part", length: 5, hash: HASH },
          { state: "whole", length: 6, hash: HASH },
        ],
      },
      `0200000058000000040001020000000000000005${AB}030000000000000006${AB}`,
    ],
    [{ type: "plan", steps: ["keep", "send", "continue"] }, "030000000700000003000102"],
    [{ type: "end", hash: HASH }, `0500000020${AB}`],
    [{ type: "done" }, "0600000000"],
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
    for (let length = 0; length < body.length; length++) {
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
  const body = encodeTransferMessage({ type: "offer", manifest: [] }).slice(HEADER_BYTES);
  body[4] = 2;
  assertThrows(() => decodeTransferBody("offer", body), MalformedMessageError, "version 2");
});

Deno.test("decodeTransferBody() rejects a size over 2^53 - 1", () => {
  const body = encodeTransferMessage({
    type: "offer",
    manifest: [{ kind: "file", path: "a", size: 0, modifiedMs: 0, isExecutable: false }],
  }).slice(HEADER_BYTES);
  body.fill(0xff, 19, 27);
  assertThrows(() => decodeTransferBody("offer", body), MalformedMessageError, "size of an entry");
});

Deno.test("decodeTransferBody() rejects a path that is not UTF-8", () => {
  const body = encodeTransferMessage({
    type: "offer",
    manifest: [{ kind: "file", path: "a", size: 0, modifiedMs: 0, isExecutable: false }],
  }).slice(HEADER_BYTES);
  body[body.length - 1] = 0xff;
  assertThrows(() => decodeTransferBody("offer", body), MalformedMessageError, "UTF-8");
});

Deno.test("decodeTransferBody() rejects a count that exceeds the body without allocating memory", () => {
  for (const type of ["answer", "plan"] as const) {
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
  for (const type of [0, 8, 255]) {
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
      decodeTransferBody("offer", encodeTransferMessage(message).subarray(HEADER_BYTES)),
      message,
    );
  }));
});

Deno.test("decodeTransferBody() throws nothing but MalformedMessageError, whatever it reads", () => {
  const types = fc.constantFrom("offer", "answer", "plan", "end", "done", "refusal");
  fc.assert(
    fc.property(types, fc.uint8Array({ maxLength: 200 }), fc.boolean(), (type, noise, isNear) => {
      const start = isNear ? new TextEncoder().encode("PLFT\x01") : new Uint8Array(0);
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
  return fc.array(entry).map((manifest) => ({ type: "offer", manifest }));
}
