import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { toBase64url } from "../../lib/base/bytes.ts";
import { redacted, serverName, shortened, withoutKeys } from "../../lib/doctor/redaction.ts";
import { encodeTicket } from "../../lib/peer/ticket.ts";

const TICKET = encodeTicket({
  publicKey: new Uint8Array(32).fill(7),
  secret: new Uint8Array(16).fill(9),
  signaling: ["ws://192.0.2.1:3480"],
});
const KEY = toBase64url(new Uint8Array(32).fill(5));

/** What a text must not show, in the places where texts have it. */
const SECRETS: readonly (readonly [text: string, secret: string])[] = [
  [`Cannot use ${TICKET}: it is old`, TICKET.slice(12, 40)],
  [`the ID ${KEY}`, KEY],
  ["Cannot log in to mqtts://me:hunter2@broker.example:8883", "hunter2"],
  ["Cannot use turn:me:hunter2@relay.example", "hunter2"],
  ["the proxy http://me:hunter2@proxy.example:3128 refuses", "hunter2"],
  ["Cannot open ws://meet.example:3480/abcdefgh12345678: 404", "abcdefgh12345678"],
  ["Cannot open wss://meet.example/key_0123456789abcdef/topics", "key_0123456789abcdef"],
  ["see https://login.example/?token=abcdef for it", "token"],
];

for (const [text, secret] of SECRETS) {
  Deno.test(`a report does not show what is secret in: ${text.slice(0, 40)}`, () => {
    assert(text.includes(secret));
    for (const isFull of [true, false]) {
      const told = JSON.stringify(redacted({ deep: [{ text }] }, { isFull }));
      assert(!told.includes(secret), told);
    }
    assertEquals(withoutKeys(withoutKeys(text)), withoutKeys(text));
  });
}

for (
  const [text, expected] of [
    ["servers see 203.0.113.9", "servers see 203.0.x.x"],
    ["203.0.113.9:3478 is silent", "203.0.x.x:3478 is silent"],
    ["192.168.1.2 and 10.0.0.1", "192.168.x.x and 10.0.x.x"],
    ["127.0.0.1:3480", "127.0.0.1:3480"],
    ["[2001:db8:1:2::3]:443 answers", "[2001:db8:…]:443 answers"],
    ["fe80::1%eth0", "fe80::…"],
    ["::1", "::1"],
    ["at 64:ff9b::/96 or 100.64.0.0/10", "at 64:ff9b::/96 or 100.64.0.0/10"],
    ["at 12:30:45 in 1.2 s, version 0.1.0", "at 12:30:45 in 1.2 s, version 0.1.0"],
    ["999.1.2.3", "999.1.2.3"],
  ] as const
) {
  Deno.test(`without --full, ${text} becomes ${expected}`, () => {
    assertEquals(shortened(text), expected);
  });
}

Deno.test("no whole public address survives in any text around it", () => {
  const ip = fc.ipV4().filter((ip) => !ip.startsWith("127.") && ip !== "0.0.0.0");
  const edge = fc.constantFrom(" ", "", "(", ")", "[", "]", ",", "; ", "/", "=", '"', ": ");
  fc.assert(
    fc.property(ip, edge, edge, (ip, before, after) => {
      assert(
        !shortened(`seen${before || " "}${ip}${after}x`.replace(/(\d)x$/, "$1 x")).includes(ip),
      );
    }),
  );
});

Deno.test("the data of a report keep their shape", () => {
  const data = { a: null, b: [1, true, "198.51.100.7"], c: { d: "x" } };
  assertEquals(redacted(data, { isFull: false }), { ...data, b: [1, true, "198.51.x.x"] });
});

for (
  const [url, name] of [
    ["ws://192.0.2.1:3480", "192.0.2.1:3480"],
    ["wss://me:secret@meet.example/abcdefgh12345678", "meet.example"],
    ["mqtts://broker.example:8883", "broker.example:8883"],
    ["ws://[2001:db8::1]:3480", "[2001:db8::1]:3480"],
  ] as const
) {
  Deno.test(`the server of ${url} is called ${name}`, () => assertEquals(serverName(url), name));
}
