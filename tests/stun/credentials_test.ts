import { assertEquals, assertThrows } from "@std/assert";
import { toHex } from "../../lib/base/bytes.ts";
import {
  longTermKey,
  opaqueString,
  securityFeatures,
  shortTermKey,
  userHash,
} from "../../lib/stun/credentials.ts";
import { nonceWithFeatures } from "./nonces.ts";

Deno.test("longTermKey() is the MD5 or SHA-256 of username, realm and password", () => {
  const credential = { username: "user", password: "pass" };
  // RFC 5389 §15.4 gives this MD5.
  assertEquals(
    toHex(longTermKey(credential, { realm: "realm", algorithm: "MD5" })),
    "8493fbc53ba582fb4c044c456bdc40eb",
  );
  // printf user:realm:pass | sha256sum
  assertEquals(
    toHex(longTermKey(credential, { realm: "realm", algorithm: "SHA-256" })),
    "07e934117abd40836e7c6329b54731b2b2d2a5f9a71f544922d75e0730d8251b",
  );
});

Deno.test("longTermKey() prepares all three strings", () => {
  const prepared = { username: "é a", password: "é b" };
  const raw = { username: "e\u0301\u00a0a", password: "e\u0301\u2003b" };
  for (const algorithm of ["MD5", "SHA-256"] as const) {
    assertEquals(
      longTermKey(raw, { realm: "e\u0301\u3000c", algorithm }),
      longTermKey(prepared, { realm: "é c", algorithm }),
    );
  }
});

Deno.test("shortTermKey() is the password itself", () => {
  assertEquals(toHex(shortTermKey("ü")), "c3bc");
});

Deno.test("userHash() matches RFC 8489 §B.1", () => {
  assertEquals(
    toHex(userHash("マトリックス", "example.org")),
    "4a3cf38fef6992bda952c6780417da0f24819415569e60b205c46e41407f1704",
  );
});

// The examples of RFC 8265 §4.3.
for (
  const [text, expected] of [
    ["correct horse battery staple", "correct horse battery staple"],
    ["Correct Horse Battery Staple", "Correct Horse Battery Staple"],
    ["πßå", "πßå"],
    ["Jack of ♦s", "Jack of ♦s"],
    ["foo\u1680bar", "foo bar"],
  ] as const
) {
  Deno.test(`opaqueString() maps ${JSON.stringify(text)} to ${JSON.stringify(expected)}`, () => {
    assertEquals(opaqueString(text), expected);
  });
}

for (
  const [text, message] of [
    ["", "it is empty"],
    ["my cat is a \u0009by", "U+0009"],
    ["The\u00ADMatrix", "U+00AD"],
    ["\u1100", "U+1100"],
    ["a\u2028b", "U+2028"],
    ["\ud800", "U+D800"],
    ["\u{e0001}", "U+E0001"],
    ["\u0378", "U+0378"],
  ] as const
) {
  Deno.test(`opaqueString() rejects ${JSON.stringify(text)}`, () => {
    assertThrows(() => opaqueString(text), TypeError, message);
  });
}

Deno.test("securityFeatures() reads the nonce of RFC 8489 §B.1", () => {
  assertEquals(securityFeatures("obMatJos2AAACf//499k954d6OL34oL9FSTvy64sA"), {
    passwordAlgorithms: false,
    usernameAnonymity: true,
  });
});

Deno.test("securityFeatures() is undefined for a nonce without the cookie", () => {
  assertEquals(securityFeatures("f//499k954d6OL34oL9FSTvy64sA"), undefined);
  assertEquals(securityFeatures("obMatJos2AAA"), undefined);
  assertEquals(securityFeatures("obMatJos2AA=C"), undefined);
  assertEquals(securityFeatures(" obMatJos2AAAC"), undefined);
});

Deno.test("nonceWithFeatures() writes what securityFeatures() reads", () => {
  assertEquals(
    nonceWithFeatures({ passwordAlgorithms: true, usernameAnonymity: false }, "xyz"),
    "obMatJos2AAABxyz",
  );
  for (const passwordAlgorithms of [false, true]) {
    for (const usernameAnonymity of [false, true]) {
      const features = { passwordAlgorithms, usernameAnonymity };
      assertEquals(securityFeatures(nonceWithFeatures(features, "random")), features);
    }
  }
});
