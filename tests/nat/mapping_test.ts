import { assertEquals, assertGreater, assertStringIncludes } from "@std/assert";
import { parseTransportAddress } from "../../lib/net/address.ts";
import type { Behavior } from "../../lib/nat/behavior.ts";
import { classifyMapping } from "../../lib/nat/mapping.ts";
import type { MappingSample } from "../../lib/nat/probe.ts";

const OWN = "192.168.1.2:5000";

/** What each destination sees, and the expected behavior. */
const CASES: readonly [string, Record<string, string>[], Behavior][] = [
  ["nothing", [], "unknown"],
  ["one server's view", [{ "A1:1": "X:9" }], "unknown"],
  ["two ports of one host that agree", [{ "A1:1": "X:9" }, { "A1:2": "X:9" }], "unknown"],
  ["two hosts that agree", [{ "A1:1": "X:9" }, { "A2:2": "X:9" }], "endpoint-independent"],
  ["two hosts that differ, alone", [{ "A1:1": "X:9" }, { "A2:2": "X:8" }], "unknown"],
  [
    "two hosts that differ in the address only",
    [{ "A1:1": "X:9" }, { "A2:2": "Y:9" }, { "A1:2": "X:9" }],
    "address-dependent",
  ],
  [
    "two hosts that differ, each agreeing with itself",
    [{ "A1:1": "X:9" }, { "A1:2": "X:9" }, { "A2:1": "X:8" }, { "A2:2": "X:8" }],
    "address-dependent",
  ],
  [
    "two ports of one host that differ",
    [{ "A1:1": "X:9" }, { "A1:2": "X:8" }],
    "address-and-port-dependent",
  ],
  [
    "all that differ",
    [{ "A1:1": "X:9" }, { "A1:2": "X:8" }, { "A2:1": "X:7" }, { "A2:2": "X:6" }],
    "address-and-port-dependent",
  ],
  [
    "two hosts that agree and one that is wrong",
    [{ "A1:1": "X:9" }, { "A2:1": "X:9" }, { "A3:1": "Z:1" }],
    "endpoint-independent",
  ],
  [
    "two hosts that agree and one that contradicts itself",
    [{ "A1:1": "X:9" }, { "A2:1": "X:9" }, { "A3:1": "X:8" }, { "A3:2": "X:7" }],
    "unknown",
  ],
  [
    "a destination that sees another address later",
    [{ "A1:1": "X:9" }, { "A2:1": "X:9" }, { "A1:1": "X:8" }],
    "unknown",
  ],
  // Retransmissions on slow paths produce these.
  [
    "two answers of one destination, beside another that differs",
    [{ "A1:1": "X:9" }, { "A1:1": "X:9" }, { "A2:2": "X:8" }],
    "unknown",
  ],
  [
    "two answers of one destination, beside a port of it that differs",
    [{ "A1:1": "X:9" }, { "A1:1": "X:9" }, { "A1:2": "X:7" }, { "A2:2": "X:8" }],
    "address-and-port-dependent",
  ],
];

for (const [name, seen, behavior] of CASES) {
  Deno.test(`classifyMapping() calls ${name} ${behavior}`, () => {
    const verdict = classifyMapping(seen.map(sample), () => false);
    assertEquals(verdict.behavior, behavior);
    assertEquals(verdict.confidence > 0, behavior !== "unknown");
    assertGreater(verdict.evidence.length, 0);
  });

  Deno.test(`classifyMapping() calls ${name} ${behavior} in reverse order too`, () => {
    const verdict = classifyMapping(seen.map(sample).reverse(), () => false);
    assertEquals(verdict.behavior, behavior);
  });
}

Deno.test("classifyMapping() finds no NAT if a server sees the host's own address", () => {
  const own = { to: parseTransportAddress("203.0.113.9:3478"), mapped: parseTransportAddress(OWN) };
  const verdict = classifyMapping([own], ({ ip }) => ip === "192.168.1.2");
  assertEquals(verdict.behavior, "none");
  assertStringIncludes(verdict.evidence[0]!, OWN);
});

/** `{ "A2:1": "X:9" }`: port 1 of host A2 sees port 9 of address X. */
function sample(seen: Record<string, string>): MappingSample {
  const [[to, mapped]] = Object.entries(seen) as [[string, string]];
  return { to: address(to), mapped: address(mapped) };
}

function address(text: string) {
  const names: Record<string, string> = {
    A1: "203.0.113.1",
    A2: "203.0.113.2",
    A3: "203.0.113.3",
    X: "198.51.100.1",
    Y: "198.51.100.2",
    Z: "198.51.100.3",
  };
  const [host, port] = text.split(":") as [string, string];
  return { ip: names[host]!, port: Number(port) };
}
