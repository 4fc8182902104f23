import { assertEquals, assertMatch, assertRejects, assertThrows } from "@std/assert";
import { openRelay, openStreamRelay } from "../../lib/turn/open_relay.ts";
import { parseTurnUri } from "../../lib/turn/turn_uri.ts";
import { remedyFor, renewalDelayMs, RFC8656_TIMINGS } from "../../lib/turn/protocol.ts";
import { timeLimitedCredential } from "../../lib/turn/time_limited_credential.ts";

for (
  const [uri, host, port, transport] of [
    ["turn:example.org", "example.org", 3478, "udp"],
    ["turn:example.org:8000", "example.org", 8000, "udp"],
    ["turn:example.org?transport=tcp", "example.org", 3478, "tcp"],
    ["turn:192.0.2.1:1?transport=udp", "192.0.2.1", 1, "udp"],
    ["turns:example.org", "example.org", 5349, "tls"],
    ["turns:[2001:db8::1]:443?transport=tcp", "2001:db8::1", 443, "tls"],
    ["TURN:example.org?transport=TCP", "example.org", 3478, "tcp"],
  ] as const
) {
  Deno.test(`parseTurnUri() reads ${uri}`, () => {
    assertEquals(parseTurnUri(uri), { host, port, transport });
  });
}

for (
  const uri of [
    "example.org",
    "stun:example.org",
    "turn://example.org",
    "turn:user@example.org",
    "turn:example.org?transport=sctp",
    "turns:example.org?transport=udp",
    "turn:example.org:0",
    "turn:",
  ]
) {
  Deno.test(`parseTurnUri() rejects ${uri}`, () => {
    assertThrows(() => parseTurnUri(uri), TypeError);
  });
}

Deno.test("parseTurnUri() does not repeat a password from the URI in its message", () => {
  const error = assertThrows(() => parseTurnUri("turn:ann:hunter2@example.org"), TypeError);
  assertEquals(error.message.includes("hunter2"), false);
  assertMatch(error.message, /as the credential/);
});

Deno.test("openStreamRelay() rejects a URI that names UDP", async () => {
  await assertRejects(() => openStreamRelay("turn:192.0.2.1"), TypeError, "?transport=tcp");
});

Deno.test("openRelay() rejects an invalid credential before it sends anything", async () => {
  const credential = { username: "", password: "secret" };
  await assertRejects(() => openRelay("turn:192.0.2.1", { credential }), TypeError, "empty");
});

Deno.test("timeLimitedCredential() matches the output of openssl", () => {
  // printf 1893456000:ann | openssl dgst -sha1 -hmac north -binary | base64
  assertEquals(timeLimitedCredential("north", { expiresAtSeconds: 1893456000.9, user: "ann" }), {
    username: "1893456000:ann",
    password: "JIagwY65BbxnoeLULbPhgspXzeU=",
  });
  assertEquals(
    timeLimitedCredential("north", { expiresAtSeconds: 1893456000 }).username,
    "1893456000",
  );
});

Deno.test("remedyFor() has a remedy for every error code of TURN", () => {
  const codes = [300, 400, 401, 403, 405, 420, 437, 438, 440, 441, 442, 443, 446, 447, 486, 487];
  for (const code of [...codes, 500, 508]) assertEquals(typeof remedyFor(code), "string");
  assertEquals(remedyFor(699), undefined);
});

Deno.test("renewalDelayMs() is a minute less than the lifetime, or half of it", () => {
  const delays = [600_000, 300_000, 60_000, 2000, 0];
  assertEquals(delays.map((lifetimeMs) => renewalDelayMs(lifetimeMs, RFC8656_TIMINGS)), [
    540_000,
    240_000,
    30_000,
    1000,
    500,
  ]);
});
