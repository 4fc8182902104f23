import { assertEquals, assertThrows } from "@std/assert";
import { parseServer, plainServer } from "../../lib/nat/servers.ts";
import { parseStunServer, type StunServer } from "../../lib/stun/uri.ts";

for (
  const [text, host, port, transport] of [
    ["stun.example.org", "stun.example.org", 3478, undefined],
    ["192.0.2.1:19302", "192.0.2.1", 19302, undefined],
    ["[2001:db8::1]:3479", "2001:db8::1", 3479, undefined],
    ["stun:stun.example.org", "stun.example.org", 3478, undefined],
    ["stun:stun.example.org:19302", "stun.example.org", 19302, undefined],
    ["STUN:[2001:db8::1]", "2001:db8::1", 3478, undefined],
    ["stun:stun.example.org?transport=tcp", "stun.example.org", 3478, "tcp"],
    ["stun:stun.example.org:3479?transport=UDP", "stun.example.org", 3479, "udp"],
    ["stuns:stun.example.org", "stun.example.org", 5349, "tls"],
    ["stuns:192.0.2.1:443?transport=tcp", "192.0.2.1", 443, "tls"],
  ] as const satisfies readonly (readonly [string, string, number, StunServer["transport"]])[]
) {
  Deno.test(`parseStunServer() reads ${text}`, () => {
    assertEquals(parseStunServer(text), { host, port, transport });
  });
}

for (
  const text of [
    ...[
      "stun:",
      "stuns:",
      "stun://stun.example.org",
      "stun:a.example?transport=sctp",
      "stun:a:b:c",
    ],
    ...[
      "stuns:a.example?transport=udp",
      "stun:a.example:0",
      "stun:a.example:70000",
      "turn:a.example",
    ],
  ]
) {
  Deno.test(`parseStunServer() refuses ${text}`, () => {
    assertThrows(() => parseStunServer(text), TypeError);
  });
}

Deno.test("parseServer() reads the same, and refuses what asks for TLS", () => {
  assertEquals(parseServer("stun:a.example?transport=udp"), { host: "a.example", port: 3478 });
  assertEquals(parseServer("stun:[2001:db8::1]:3479"), { host: "2001:db8::1", port: 3479 });
  assertThrows(() => parseServer("stuns:a.example"), TypeError, "write stun:");
  assertThrows(() => parseServer("stun:a.example?transport=sctp"), TypeError);
});

Deno.test("plainServer() writes what parseServer() reads", () => {
  assertEquals(plainServer("stun:a.example"), "a.example:3478");
  assertEquals(plainServer("stun:[2001:db8::1]:3479"), "[2001:db8::1]:3479");
});
