import { assertEquals, assertThrows } from "@std/assert";
import { parseRelay } from "../../lib/peer/options.ts";

Deno.test("parseRelay() reads a user and a percent-encoded password", () => {
  assertEquals(parseRelay("turn:ann:p%40ss@turn.example.org:3479"), {
    url: "turn:turn.example.org:3479?transport=tcp",
    credential: { username: "ann", password: "p@ss" },
  });
});

Deno.test("parseRelay() accepts a server without a login", () => {
  assertEquals(parseRelay("turns:turn.example.org"), { url: "turns:turn.example.org" });
});

for (
  const [what, text] of [
    ["another scheme", "http://turn.example.org"],
    ["UDP", "turn:turn.example.org?transport=udp"],
    ["a password that is not percent-encoded", "turn:ann:100%@turn.example.org"],
    ["no host", "turn:ann:secret@"],
    ["a password with an @", "turn:ann:se@cret@turn.example.org"],
    [
      "a user with a colon, as time-limited ones have",
      "turn:1893456000:ann:secret@turn.example.org",
    ],
    ["a URL with slashes", "turn://ann:secret@turn.example.org"],
    ["another scheme with a password", "trn:ann:secret@turn.example.org"],
  ] as const
) {
  Deno.test(`parseRelay() rejects ${what}`, () => {
    const error = assertThrows(() => parseRelay(text), TypeError);
    assertEquals(/secret|cret@/.test(error.message), false, error.message);
  });
}

Deno.test("parseRelay() does not repeat an invalid password", () => {
  const error = assertThrows(() => parseRelay("turn:ann:secret%@turn.example.org"), TypeError);
  assertEquals(error.message.includes("secret"), false);
});
