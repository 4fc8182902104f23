import { assertEquals } from "@std/assert";
import { equalBytes, toHex } from "../../lib/base/bytes.ts";
import { longTermKey, shortTermKey, userHash } from "../../lib/stun/credentials.ts";
import {
  type MessageIntegrity,
  verifyFingerprint,
  verifyIntegrity,
} from "../../lib/stun/integrity.ts";
import { decodeMessage, encodeMessage, type StunMessage } from "../../lib/stun/message.ts";
import {
  LONG_TERM_CREDENTIAL,
  LONG_TERM_REQUEST,
  SAMPLE_IPV4_RESPONSE,
  SAMPLE_IPV6_RESPONSE,
  SAMPLE_REQUEST,
  SHA256_REQUEST,
  SHORT_TERM_PASSWORD,
} from "../vectors/stun_rfc.ts";
import { STUND_RESPONSE } from "../vectors/stun_captures.ts";
import { fromHex } from "../vectors/stun_hex.ts";

const SHORT_TERM: MessageIntegrity = { algorithm: "sha1", key: shortTermKey(SHORT_TERM_PASSWORD) };
const MD5: MessageIntegrity = {
  algorithm: "sha1",
  key: longTermKey(LONG_TERM_CREDENTIAL, { realm: "example.org", algorithm: "MD5" }),
};
const SHA256: MessageIntegrity = {
  algorithm: "sha256",
  key: longTermKey(LONG_TERM_CREDENTIAL, { realm: "example.org", algorithm: "SHA-256" }),
};

Deno.test("RFC 5769 §2.1, the sample request, is decoded", () => {
  assertEquals(decodeMessage(SAMPLE_REQUEST), {
    class: "request",
    method: 1,
    transactionId: fromHex("b7e7a701bc34d686fa87dfae"),
    attributes: [
      { type: "SOFTWARE", value: "STUN test client" },
      { type: 0x0024, value: fromHex("6e0001ff") },
      { type: 0x8029, value: fromHex("932ff9b151263b36") },
      { type: "USERNAME", value: "evtj:h6vY" },
      { type: "MESSAGE-INTEGRITY", value: fromHex("9aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2") },
      { type: "FINGERPRINT", value: 0xe57a3bcf },
    ],
  });
});

Deno.test("RFC 5769 §2.2, the sample IPv4 response, is decoded", () => {
  assertEquals(decodeMessage(SAMPLE_IPV4_RESPONSE), {
    class: "success",
    method: 1,
    transactionId: fromHex("b7e7a701bc34d686fa87dfae"),
    attributes: [
      { type: "SOFTWARE", value: "test vector" },
      { type: "XOR-MAPPED-ADDRESS", value: { ip: "192.0.2.1", port: 32853 } },
      { type: "MESSAGE-INTEGRITY", value: fromHex("2b91f599fd9e90c38c7489f92af9ba53f06be7d7") },
      { type: "FINGERPRINT", value: 0xc07d4c96 },
    ],
  });
});

Deno.test("RFC 5769 §2.3, the sample IPv6 response, is decoded", () => {
  assertEquals(decodeMessage(SAMPLE_IPV6_RESPONSE).attributes, [
    { type: "SOFTWARE", value: "test vector" },
    {
      type: "XOR-MAPPED-ADDRESS",
      value: { ip: "2001:db8:1234:5678:11:2233:4455:6677", port: 32853 },
    },
    { type: "MESSAGE-INTEGRITY", value: fromHex("a382954e4be67bf11784c97c8292c275bfe3ed41") },
    { type: "FINGERPRINT", value: 0xc8fb0b4c },
  ]);
});

Deno.test("RFC 5769 §2.4, the long-term request, is encoded byte for byte", () => {
  const request = withoutChecks(decodeMessage(LONG_TERM_REQUEST));
  assertEquals(request.attributes, [
    { type: "USERNAME", value: "マトリックス" },
    { type: "NONCE", value: "f//499k954d6OL34oL9FSTvy64sA" },
    { type: "REALM", value: "example.org" },
  ]);
  assertEquals(toHex(encodeMessage(request, { integrity: MD5 })), toHex(LONG_TERM_REQUEST));
});

Deno.test("RFC 8489 §B.1 with erratum 6268 is encoded byte for byte", () => {
  const request: StunMessage = {
    class: "request",
    method: 1,
    transactionId: fromHex("78ad3433c6ad72c029da412e"),
    attributes: [
      { type: "USERHASH", value: userHash(LONG_TERM_CREDENTIAL.username, "example.org") },
      { type: "NONCE", value: "obMatJos2AAACf//499k954d6OL34oL9FSTvy64sA" },
      { type: "REALM", value: "example.org" },
      {
        type: "PASSWORD-ALGORITHM",
        value: { algorithm: "SHA-256", parameters: new Uint8Array() },
      },
    ],
  };
  assertEquals(toHex(encodeMessage(request, { integrity: SHA256 })), toHex(SHA256_REQUEST));
  assertEquals(withoutChecks(decodeMessage(SHA256_REQUEST)), request);
});

for (
  const [name, bytes, integrity] of [
    ["RFC 5769 §2.1", SAMPLE_REQUEST, SHORT_TERM],
    ["RFC 5769 §2.2", SAMPLE_IPV4_RESPONSE, SHORT_TERM],
    ["RFC 5769 §2.3", SAMPLE_IPV6_RESPONSE, SHORT_TERM],
    ["RFC 5769 §2.4", LONG_TERM_REQUEST, MD5],
    ["RFC 8489 §B.1", SHA256_REQUEST, SHA256],
  ] as const
) {
  Deno.test(`${name}: the integrity is valid, and invalid once a bit changes`, () => {
    assertEquals(verifyIntegrity(bytes, integrity), "valid");
    const changed = bytes.slice();
    changed[24]! ^= 1;
    assertEquals(verifyIntegrity(changed, integrity), "invalid");
    const otherKey = { ...integrity, key: Uint8Array.of(...integrity.key, 1) };
    assertEquals(verifyIntegrity(bytes, otherKey), "invalid");
  });
}

for (
  const [name, bytes] of [
    ["RFC 5769 §2.1", SAMPLE_REQUEST],
    ["RFC 5769 §2.2", SAMPLE_IPV4_RESPONSE],
    ["RFC 5769 §2.3", SAMPLE_IPV6_RESPONSE],
  ] as const
) {
  Deno.test(`${name}: the fingerprint is valid, and invalid once a bit changes`, () => {
    assertEquals(verifyFingerprint(bytes), "valid");
    const changed = bytes.slice();
    changed[24]! ^= 1;
    assertEquals(verifyFingerprint(changed), "invalid");
  });

  // The vectors pad with spaces, to catch implementations that compare padding; RFC 8489 §14 requires zeros.
  Deno.test(`${name} is encoded again with zero padding and an integrity to match`, () => {
    const message = withoutChecks(decodeMessage(bytes));
    const written = encodeMessage(message, { integrity: SHORT_TERM, fingerprint: true });
    assertEquals(written.length, bytes.length);
    assertEquals(verifyIntegrity(written, SHORT_TERM), "valid");
    assertEquals(verifyFingerprint(written), "valid");
    assertEquals(withoutChecks(decodeMessage(written)), message);
    const padding = bytes.findIndex((byte, index) => byte !== written[index]);
    assertEquals([bytes[padding], written[padding]], [0x20, 0]);
    assertEquals(equalBytes(bytes.subarray(0, padding), written.subarray(0, padding)), true);
  });
}

Deno.test("a response of an RFC 3489 server is decoded, and encoded again byte for byte", () => {
  const response = decodeMessage(STUND_RESPONSE);
  assertEquals(response, {
    class: "success",
    method: 1,
    transactionId: fromHex("000102030405060708090a0b0c0d0e0f"),
    attributes: [
      { type: "MAPPED-ADDRESS", value: { ip: "127.0.0.1", port: 54321 } },
      { type: "SOURCE-ADDRESS", value: { ip: "127.0.0.1", port: 43478 } },
      { type: "CHANGED-ADDRESS", value: { ip: "127.0.0.2", port: 43479 } },
      // XORed with the transaction ID, because there is no cookie.
      { type: "XOR-MAPPED-ADDRESS", value: { ip: "127.0.0.1", port: 54321 } },
      { type: "SOFTWARE", value: "Vovida.org 0.97\0" },
    ],
  });
  assertEquals(toHex(encodeMessage(response)), toHex(STUND_RESPONSE));
});

function withoutChecks(message: StunMessage): StunMessage {
  const checks: unknown[] = ["MESSAGE-INTEGRITY", "MESSAGE-INTEGRITY-SHA256", "FINGERPRINT"];
  return {
    ...message,
    attributes: message.attributes.filter(({ type }) => !checks.includes(type)),
  };
}
