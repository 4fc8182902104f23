import { assertEquals, assertMatch } from "@std/assert";
import { addressFindings, nat64Prefixes } from "../../lib/nat/hints.ts";

const CASES: readonly [string | null, string | null, RegExp | undefined][] = [
  ["192.168.1.2:5000", "198.18.0.1:5000", undefined],
  [null, null, undefined],
  ["100.64.3.4:5000", null, /^carrier-grade NAT: the local address 100\.64\.3\.4:5000/],
  ["192.0.0.2:5000", null, /^DS-Lite or 464XLAT/],
  ["192.168.1.2:5000", "100.99.0.1:5000", /^carrier-grade NAT: the server sees 100\.99\.0\.1:5000/],
  ["192.168.1.2:5000", "10.0.0.1:5000", /^the server sees the private address 10\.0\.0\.1, so/],
  ["127.0.0.1:5000", "127.0.0.1:5000", /^the server is on this machine/],
  ["[fd00::1]:5000", "[fd00::1]:5000", /^the server sees the private address/],
];

for (const [local, external, expected] of CASES) {
  Deno.test(`addressFindings() of ${local} and ${external}: ${expected ?? "none"}`, () => {
    const hints = addressFindings([{ local, external }], []);
    assertEquals(hints.length, expected === undefined ? 0 : 1);
    if (expected !== undefined) assertMatch(hints[0]!.summary, expected);
  });
}

Deno.test("addressFindings() does not repeat a hint", () => {
  const addresses = { local: "100.64.3.4:5000", external: "100.64.3.4:5000" };
  assertEquals(addressFindings([addresses, addresses], ["64:ff9b::/96", "64:ff9b::/96"]).length, 3);
});

Deno.test("nat64Prefixes() removes the well-known IPv4 addresses", () => {
  const found = ["64:ff9b::c000:aa", "64:ff9b::c000:ab", "2001:db8:1:2:3:4:c000:aa", "2001:db8::1"];
  assertEquals(nat64Prefixes(found), [
    "64:ff9b::/96",
    "64:ff9b::/96",
    "2001:db8:1:2:3:4::/96",
    "2001:db8::1",
  ]);
});

Deno.test("a private address is named once, whatever its ports over UDP and TCP", () => {
  const seen = [5000, 5001].map((port) => ({ local: null, external: `10.0.0.1:${port}` }));
  assertEquals(addressFindings(seen, []).map(({ summary }) => summary), [
    "the server sees the private address 10.0.0.1, so at least one more NAT is between the server and the internet",
  ]);
});
