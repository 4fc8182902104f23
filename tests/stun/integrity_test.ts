import { assertEquals, assertThrows } from "@std/assert";
import { concat } from "../../lib/base/bytes.ts";
import { MalformedMessageError } from "../../lib/base/errors.ts";
import {
  type MessageIntegrity,
  verifyFingerprint,
  verifyIntegrity,
} from "../../lib/stun/integrity.ts";
import { BINDING, decodeMessage, encodeMessage, type StunMessage } from "../../lib/stun/message.ts";
import { hmac } from "../../lib/base/crypto.ts";
import { fromHex } from "../vectors/stun_hex.ts";

const KEY = new TextEncoder().encode("a key");
const SHA1: MessageIntegrity = { algorithm: "sha1", key: KEY };
const SHA256: MessageIntegrity = { algorithm: "sha256", key: KEY };
const MESSAGE: StunMessage = {
  class: "request",
  method: BINDING,
  transactionId: fromHex("000102030405060708090a0b"),
  attributes: [{ type: "SOFTWARE", value: "test" }],
};

Deno.test("encodeMessage() writes a valid SHA-1, SHA-256 and fingerprint, in this order", () => {
  const bytes = encodeMessage(MESSAGE, { integrity: [SHA256, SHA1], fingerprint: true });
  assertEquals(decodeMessage(bytes).attributes.map(({ type }) => type), [
    "SOFTWARE",
    "MESSAGE-INTEGRITY",
    "MESSAGE-INTEGRITY-SHA256",
    "FINGERPRINT",
  ]);
  assertEquals(verifyIntegrity(bytes, SHA1), "valid");
  assertEquals(verifyIntegrity(bytes, SHA256), "valid");
  assertEquals(verifyFingerprint(bytes), "valid");
});

Deno.test("verifyIntegrity() and verifyFingerprint() distinguish absent from invalid", () => {
  const bytes = encodeMessage(MESSAGE);
  assertEquals(verifyIntegrity(bytes, SHA1), "absent");
  assertEquals(verifyIntegrity(bytes, SHA256), "absent");
  assertEquals(verifyFingerprint(bytes), "absent");
});

Deno.test("verifyIntegrity() still succeeds when attributes are appended and the length is updated", () => {
  const bytes = encodeMessage(MESSAGE, { integrity: SHA1 });
  const longer = withLength(concat(bytes, fromHex("8022 0004 61626364")));
  assertEquals(verifyIntegrity(longer, SHA1), "valid");
});

Deno.test("verifyIntegrity() accepts SHA-256 truncated to 16 bytes, but not to fewer or to 18", () => {
  for (
    const [length, expected] of [[16, "valid"], [20, "valid"], [12, "invalid"], [
      18,
      "invalid",
    ]] as const
  ) {
    const start = encodeMessage(MESSAGE);
    const padded = Math.ceil(length / 4) * 4;
    const covered = withLength(concat(start, new Uint8Array(4 + padded)));
    const mac = hmac("sha256", KEY, covered.subarray(0, start.length)).subarray(0, length);
    covered.set([0x00, 0x1c, 0, length, ...mac], start.length);
    assertEquals(verifyIntegrity(covered, SHA256), expected);
  }
});

Deno.test("verifyIntegrity() ignores an integrity after the protected part", () => {
  const integrity = encodeMessage(MESSAGE, { integrity: SHA1 });
  const fingerprinted = encodeMessage(MESSAGE, { fingerprint: true });
  const behind = withLength(concat(fingerprinted, integrity.subarray(-24)));
  assertEquals(verifyIntegrity(behind, SHA1), "absent");
  assertEquals(verifyFingerprint(behind), "invalid");

  const sha256 = encodeMessage(MESSAGE, { integrity: SHA256 });
  const sha1Behind = withLength(concat(sha256, integrity.subarray(-24)));
  assertEquals(verifyIntegrity(sha1Behind, SHA1), "absent");
  assertEquals(verifyIntegrity(sha1Behind, SHA256), "valid");
});

Deno.test("verifyIntegrity() finds no integrity in an RFC 3489 message", () => {
  const old = { ...MESSAGE, transactionId: new Uint8Array(16) };
  assertEquals(verifyIntegrity(encodeMessage(old, { integrity: SHA1 }), SHA1), "absent");
});

Deno.test("verifyIntegrity() and verifyFingerprint() reject what is not a message", () => {
  assertThrows(() => verifyIntegrity(new Uint8Array(3), SHA1), MalformedMessageError);
  assertThrows(() => verifyFingerprint(new Uint8Array(3)), MalformedMessageError);
});

Deno.test("any changed bit of a message makes integrity or fingerprint invalid", () => {
  const bytes = encodeMessage(MESSAGE, { integrity: [SHA1, SHA256], fingerprint: true });
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const changed = bytes.slice();
    changed[bit >> 3]! ^= 1 << (bit & 7);
    assertEquals(holds(changed), false, `bit ${bit}`);
  }
});

function holds(bytes: Uint8Array): boolean {
  try {
    return verifyIntegrity(bytes, SHA1) === "valid" && verifyIntegrity(bytes, SHA256) === "valid" &&
      verifyFingerprint(bytes) === "valid";
  } catch (error) {
    if (error instanceof MalformedMessageError) return false;
    throw error;
  }
}

function withLength(bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  new DataView(bytes.buffer).setUint16(2, bytes.length - 20);
  return bytes;
}
