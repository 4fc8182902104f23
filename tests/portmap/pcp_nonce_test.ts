import { assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { toHex } from "../../lib/base/bytes.ts";
import { derivePcpNonce, pcpNonceFromHex } from "../../lib/portmap/pcp/client.ts";

const SECRET = Uint8Array.from({ length: 16 }, (_, index) => index);
const INTERNAL = { ip: "192.168.1.2", port: 8080 };

Deno.test("derivePcpNonce() matches OpenSSL's HMAC-SHA256", () => {
  // { printf 'punchline pcp nonce\x06'; printf '\0%.0s' {1..10}; printf '\xff\xff\xc0\xa8\x01\x02\x1f\x90'; } |
  //   openssl dgst -sha256 -mac HMAC -macopt hexkey:000102030405060708090a0b0c0d0e0f
  assertEquals(toHex(derivePcpNonce(SECRET, 6, INTERNAL)), "edd5a061b50fa81e6be1a69e");
});

Deno.test("derivePcpNonce() differs by secret, protocol, address and port", () => {
  const nonce = derivePcpNonce(SECRET, 6, INTERNAL);
  assertNotEquals(derivePcpNonce(SECRET.map((byte) => byte + 1), 6, INTERNAL), nonce);
  assertNotEquals(derivePcpNonce(SECRET, 17, INTERNAL), nonce);
  assertNotEquals(derivePcpNonce(SECRET, 6, { ...INTERNAL, ip: "192.168.1.3" }), nonce);
  assertNotEquals(derivePcpNonce(SECRET, 6, { ...INTERNAL, port: 8081 }), nonce);
});

Deno.test("derivePcpNonce() rejects a secret of 15 bytes", () => {
  assertThrows(() => derivePcpNonce(SECRET.slice(1), 6, INTERNAL), RangeError, "not 15");
});

Deno.test("pcpNonceFromHex() reads the nonce in a grant's handle", () => {
  const nonce = derivePcpNonce(SECRET, 6, INTERNAL);
  assertEquals(pcpNonceFromHex(toHex(nonce)), nonce);
  assertThrows(() => pcpNonceFromHex("00"), TypeError, "24 hexadecimal digits");
});
