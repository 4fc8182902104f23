import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { ipToBytes, parseIp } from "../../lib/net/address.ts";
import type { StunAttribute } from "../../lib/stun/attributes.ts";
import { verifyFingerprint, verifyIntegrity } from "../../lib/stun/integrity.ts";
import {
  decodeMessage,
  encodeMessage,
  type EncodeMessageOptions,
  type StunMessage,
} from "../../lib/stun/message.ts";
import { checkDecoded, tryDecode } from "./fuzz_check.ts";

Deno.test("decodeMessage() reverses encodeMessage()", () => {
  fc.assert(fc.property(messages(), (message) => {
    assertEquals(decodeMessage(encodeMessage(message)), message);
  }));
});

Deno.test("encodeMessage() reverses decodeMessage()", () => {
  fc.assert(fc.property(messages(), options(), (message, options) => {
    const bytes = encodeMessage(message, options);
    assertEquals(encodeMessage(decodeMessage(bytes)), bytes);
  }));
});

Deno.test("encodeMessage() adds a valid integrity and fingerprint to any message", () => {
  fc.assert(fc.property(messages(12), fc.uint8Array({ maxLength: 100 }), (message, key) => {
    const sha1 = { algorithm: "sha1", key } as const;
    const sha256 = { algorithm: "sha256", key } as const;
    const free = { ...message, attributes: message.attributes.filter((one) => !isCheck(one)) };
    const bytes = encodeMessage(free, { integrity: [sha1, sha256], fingerprint: true });
    assertEquals(verifyIntegrity(bytes, sha1), "valid");
    assertEquals(verifyIntegrity(bytes, sha256), "valid");
    assertEquals(verifyFingerprint(bytes), "valid");
  }));
});

Deno.test("decodeMessage() throws nothing but MalformedMessageError for any bytes", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
    const message = tryDecode(bytes);
    if (message !== undefined) checkDecoded(bytes, message);
  }));
});

Deno.test("decodeMessage() treats a view like a copy, and changes neither", () => {
  fc.assert(fc.property(messages(), fc.nat(40), (message, offset) => {
    const bytes = encodeMessage(message);
    const around = new Uint8Array(bytes.length + offset + 3);
    around.set(bytes, offset);
    const view = around.subarray(offset, offset + bytes.length);
    assertEquals(decodeMessage(view), message);
    assertEquals(view, bytes);
    assert(around.subarray(0, offset).every((byte) => byte === 0));
  }));
});

function messages(idLength?: 12): fc.Arbitrary<StunMessage> {
  const id = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
  // A transaction ID of 16 bytes that starts with the magic cookie would be read as one of 12.
  const oldId = id(16).filter((bytes) => bytes[0] !== 0x21);
  return fc.record({
    class: fc.constantFrom("request", "indication", "success", "error"),
    method: fc.integer({ min: 0, max: 0xfff }),
    transactionId: idLength === 12 ? id(12) : fc.oneof(id(12), oldId),
    attributes: fc.array(attributes(), { maxLength: 8 }),
  });
}

function attributes(): fc.Arbitrary<StunAttribute> {
  const named = <const Type extends StunAttribute["type"], Value>(
    types: readonly Type[],
    value: fc.Arbitrary<Value>,
  ) => fc.record({ type: fc.constantFrom(...types), value });
  const bytes = (minLength: number, maxLength = minLength) =>
    fc.uint8Array({ minLength, maxLength });
  const text = (maxLength: number) =>
    fc.string({ unit: "binary", maxLength: Math.floor(maxLength / 4) });
  const address = fc.record({
    ip: fc.oneof(fc.ipV4(), fc.ipV6()).map(parseIp).filter((ip) => ipToBytes(ip).length > 0),
    port: fc.integer({ min: 0, max: 0xffff }),
  });
  const algorithm = fc.record({
    algorithm: fc.oneof(fc.constantFrom("MD5", "SHA-256"), fc.integer({ min: 3, max: 0xffff })),
    parameters: bytes(0, 9),
  });
  return fc.oneof(
    named([
      "MAPPED-ADDRESS",
      "XOR-MAPPED-ADDRESS",
      "ALTERNATE-SERVER",
      "RESPONSE-ORIGIN",
      "OTHER-ADDRESS",
      "RESPONSE-ADDRESS",
      "SOURCE-ADDRESS",
      "CHANGED-ADDRESS",
      "REFLECTED-FROM",
    ], address),
    named(["USERNAME"], text(513)),
    named(["REALM", "NONCE", "SOFTWARE"], text(763)),
    named(["ALTERNATE-DOMAIN"], text(255)),
    named(["USERHASH"], bytes(32)),
    named(["MESSAGE-INTEGRITY"], bytes(20)),
    named(["MESSAGE-INTEGRITY-SHA256"], bytes(16, 32)),
    named(["FINGERPRINT"], fc.integer({ min: 0, max: 0xffff_ffff })),
    named(
      ["ERROR-CODE"],
      fc.record({ code: fc.integer({ min: 300, max: 699 }), reason: text(763) }),
    ),
    named(["PASSWORD-ALGORITHM"], algorithm),
    named(["PASSWORD-ALGORITHMS"], fc.array(algorithm, { maxLength: 5 })),
    named(["UNKNOWN-ATTRIBUTES"], fc.array(fc.integer({ min: 0, max: 0xffff }))),
    named(
      ["CHANGE-REQUEST"],
      fc.record({ changeIp: fc.boolean(), changePort: fc.boolean() }),
    ),
    named(["RESPONSE-PORT"], fc.integer({ min: 0, max: 0xffff })),
    named(["PADDING", "PASSWORD"], bytes(0, 50)),
    fc.record({ type: fc.integer({ min: 0xc000, max: 0xffff }), value: bytes(0, 50) }),
  );
}

function options(): fc.Arbitrary<EncodeMessageOptions> {
  const integrity = fc.record({
    algorithm: fc.constantFrom("sha1", "sha256"),
    key: fc.uint8Array({ maxLength: 100 }),
  });
  return fc.record({ integrity: fc.array(integrity, { maxLength: 2 }), fingerprint: fc.boolean() });
}

function isCheck({ type }: StunAttribute): boolean {
  const checks: unknown[] = ["MESSAGE-INTEGRITY", "MESSAGE-INTEGRITY-SHA256", "FINGERPRINT"];
  return checks.includes(type);
}
