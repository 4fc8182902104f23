import { Buffer } from "node:buffer";
import { assertEquals, assertThrows } from "@std/assert";
import { MalformedMessageError } from "../../lib/base/errors.ts";
import type { StunAttribute } from "../../lib/stun/attributes.ts";
import {
  BINDING,
  decodeMessage,
  encodeMessage,
  getAttribute,
  protectedPart,
  type StunMessage,
  unknownRequiredAttributes,
} from "../../lib/stun/message.ts";
import { fromHex } from "../vectors/stun_hex.ts";

const ID = fromHex("000102030405060708090a0b");

Deno.test("encodeMessage() writes a Binding request of twenty bytes", () => {
  assertEquals(
    encodeMessage(request([])),
    fromHex("0001 0000 2112a442 000102030405060708090a0b"),
  );
});

Deno.test("encodeMessage() interleaves class and method in the message type", () => {
  const type = (kind: StunMessage["class"], method: number) =>
    encodeMessage({ class: kind, method, transactionId: ID, attributes: [] }).slice(0, 2);
  assertEquals(type("indication", BINDING), fromHex("0011"));
  assertEquals(type("success", BINDING), fromHex("0101"));
  assertEquals(type("error", BINDING), fromHex("0111"));
  assertEquals(type("request", 0xfff), fromHex("3eef"));
  assertEquals(type("error", 0xfff), fromHex("3fff"));
  assertEquals(type("success", 0x080), fromHex("0300"));
});

Deno.test("decodeMessage() reads every class of every method", () => {
  for (const kind of ["request", "indication", "success", "error"] as const) {
    for (let method = 0; method <= 0xfff; method++) {
      const message = { class: kind, method, transactionId: ID, attributes: [] };
      assertEquals(decodeMessage(encodeMessage(message)), message);
    }
  }
});

Deno.test("encodeMessage() encodes a transaction ID of sixteen bytes as an RFC 3489 message", () => {
  const transactionId = fromHex("000102030405060708090a0b0c0d0e0f");
  const message = { class: "request", method: BINDING, transactionId, attributes: [] } as const;
  const bytes = encodeMessage(message);
  assertEquals(bytes, fromHex("0001 0000 000102030405060708090a0b0c0d0e0f"));
  assertEquals(decodeMessage(bytes), message);
});

Deno.test("encodeMessage() rejects values that do not fit their fields", () => {
  const refused = (message: Partial<StunMessage>, field: string) =>
    assertThrows(() => encodeMessage({ ...request([]), ...message }), RangeError, field);
  refused({ method: 0x1000 }, "method 4096");
  refused({ method: -1 }, "method -1");
  refused({ transactionId: new Uint8Array(11) }, "12 or 16 bytes, not 11");
  refused({ transactionId: fromHex("2112a442 000102030405060708090a0b") }, "magic cookie");
  refused({ attributes: [{ type: 0x10000, value: ID }] }, "65536");
  refused({ attributes: [{ type: 1.5, value: ID }] }, "1.5");
  refused({ attributes: [{ type: "PADDING", value: new Uint8Array(0x10000) }] }, "65536");
  refused({ attributes: [padding(0xffff), padding(0)] }, "do not fit");
});

Deno.test("encodeMessage() writes every byte, even into memory that was used before", () => {
  const message = request([
    { type: "SOFTWARE", value: "a" },
    { type: "XOR-MAPPED-ADDRESS", value: { ip: "192.0.2.1", port: 1 } },
    { type: "ERROR-CODE", value: { code: 438, reason: "" } },
    { type: "PASSWORD-ALGORITHM", value: { algorithm: "MD5", parameters: Uint8Array.of(1) } },
  ]);
  const expected = fromHex(`0001 0028 2112a442 000102030405060708090a0b
      8022 0001 61 000000
      0020 0008 0001 2113 e112a643
      0009 0004 0000 04 26
      001d 0008 0001 0001 01 000000`);
  // Enough messages to reuse the whole memory pool, which is overwritten meanwhile.
  for (let i = 0; i < 1000; i++) {
    const bytes = encodeMessage(message);
    assertEquals(bytes, expected);
    bytes.fill(0xff);
  }
});

Deno.test("decodeMessage() reads a message in the middle of other bytes", () => {
  const bytes = encodeMessage(request([{ type: "SOFTWARE", value: "middle" }]));
  const around = new Uint8Array(bytes.length + 20).fill(0xee);
  around.set(bytes, 7);
  const decoded = decodeMessage(around.subarray(7, 7 + bytes.length));
  assertEquals(decoded, decodeMessage(bytes));
});

Deno.test("decodeMessage() returns copies, even of a Buffer, whose slice() is a view", () => {
  const bytes = encodeMessage(
    request([
      { type: "XOR-MAPPED-ADDRESS", value: { ip: "2001:db8::1", port: 1 } },
      { type: 0xc001, value: Uint8Array.of(1, 2, 3, 4) },
    ]),
  );
  const buffer = Buffer.from(bytes);
  const decoded = decodeMessage(buffer);
  assertEquals(new Uint8Array(buffer), bytes);
  buffer.fill(0);
  assertEquals(decoded, decodeMessage(bytes));
});

Deno.test("decodeMessage() returns copies", () => {
  const bytes = encodeMessage(request([{ type: 0xc001, value: Uint8Array.of(1, 2, 3, 4) }]));
  const decoded = decodeMessage(bytes);
  bytes.fill(0);
  assertEquals(decoded.transactionId, ID);
  assertEquals(decoded.attributes, [{ type: 0xc001, value: Uint8Array.of(1, 2, 3, 4) }]);
});

for (
  const [what, hex, message] of [
    ["no bytes", "", "a header has 20 bytes, this is 0"],
    ["a truncated header", "0001 0000 2112a442 000102030405060708090a", "this is 19"],
    ["a first bit of 1", "8001 0000 2112a442 000102030405060708090a0b", "first two bits"],
    ["a second bit of 1", "4001 0000 2112a442 000102030405060708090a0b", "first two bits"],
    ["HTTP", "485454502f312e3120343030204261642052657175657374", "first two bits"],
    ["a length beyond the end", "0001 0004 2112a442 000102030405060708090a0b", "0 bytes follow"],
    [
      "bytes after the end",
      "0001 0000 2112a442 000102030405060708090a0b 00000000",
      "4 bytes follow",
    ],
    [
      "a length that is not a multiple of 4",
      "0001 0002 2112a442 000102030405060708090a0b 0000",
      "not 2",
    ],
    [
      "an attribute beyond the end",
      "0001 0004 2112a442 000102030405060708090a0b 80220001",
      "0 are left",
    ],
  ] as const
) {
  Deno.test(`decodeMessage() rejects ${what}`, () => {
    assertThrows(() => decodeMessage(fromHex(hex)), MalformedMessageError, message);
  });
}

Deno.test("decodeMessage() accepts at most 64 attributes", () => {
  const message = (count: number) => {
    const attributes = Array.from({ length: count }, (_, i) => ({ type: 0xc000 + i, value: ID }));
    return encodeMessage(request(attributes));
  };
  assertEquals(decodeMessage(message(64)).attributes.length, 64);
  assertThrows(() => decodeMessage(message(65)), MalformedMessageError, "more than 64");
});

Deno.test("decodeMessage() accepts RFC 3489 attributes with and without padding", () => {
  const header = "000102030405060708090a0b0c0d0e0f";
  const expected = [
    { type: 0xc001, value: fromHex("61") },
    { type: "RESPONSE-PORT", value: 3478 },
  ];
  const padded = fromHex(`0101 0010 ${header} c001 0001 61 000000 0027 0002 0d96 0000`);
  assertEquals<unknown>(decodeMessage(padded).attributes, expected);
  const unpadded = fromHex(`0101 000b ${header} c001 0001 61 0027 0002 0d96`);
  assertEquals<unknown>(decodeMessage(unpadded).attributes, expected);
});

Deno.test("decodeMessage() rejects RFC 3489 attributes that fit neither with nor without padding", () => {
  const bytes = fromHex("0101 0006 000102030405060708090a0b0c0d0e0f c001 0009 6162");
  assertThrows(() => decodeMessage(bytes), MalformedMessageError, "attribute 0xc001 has 9 bytes");
});

Deno.test("getAttribute() returns the first attribute of several", () => {
  const message = request([
    { type: 0x8022, value: fromHex("00") },
    { type: "SOFTWARE", value: "first" },
    { type: "SOFTWARE", value: "second" },
  ]);
  assertEquals(getAttribute(message, "SOFTWARE"), "first");
  assertEquals(getAttribute(message, "REALM"), undefined);
});

Deno.test("unknownRequiredAttributes() lists each unknown comprehension-required attribute once", () => {
  const message = request([
    { type: 0x0024, value: ID },
    { type: "USERNAME", value: "someone" },
    { type: 0x7fff, value: ID },
    { type: 0x8000, value: ID },
    { type: 0x0024, value: ID },
  ]);
  assertEquals(unknownRequiredAttributes(message), [0x0024, 0x7fff]);
  assertEquals(unknownRequiredAttributes(message, () => false), [0x0024, 0x0006, 0x7fff]);
});

Deno.test("protectedPart() drops what follows the integrity, except SHA-256 and the fingerprint", () => {
  const before: StunAttribute = { type: "SOFTWARE", value: "before" };
  const after: StunAttribute = { type: "SOFTWARE", value: "after" };
  const sha1: StunAttribute = { type: "MESSAGE-INTEGRITY", value: new Uint8Array(20) };
  const sha256: StunAttribute = { type: "MESSAGE-INTEGRITY-SHA256", value: new Uint8Array(32) };
  const fingerprint: StunAttribute = { type: "FINGERPRINT", value: 0 };
  const kept = (...attributes: StunAttribute[]) => protectedPart(request(attributes)).attributes;

  assertEquals(kept(before, sha1, after, sha256, after, fingerprint), [
    before,
    sha1,
    sha256,
    fingerprint,
  ]);
  assertEquals(kept(before, sha256, after, sha1, fingerprint), [before, sha256, fingerprint]);
  assertEquals(kept(before, after), [before, after]);
});

function request(attributes: StunAttribute[]): StunMessage {
  return { class: "request", method: BINDING, transactionId: ID, attributes };
}

function padding(length: number): StunAttribute {
  return { type: "PADDING", value: new Uint8Array(length) };
}
