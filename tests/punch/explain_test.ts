import { assert, assertEquals } from "@std/assert";
import { explainMatrix, explainPair } from "../../lib/punch/explain.ts";
import { nameNat, NAT_KINDS, type NatProfile } from "../../lib/punch/nat_profile.ts";

/** The best that each pair of NATs allows: method, chance in percent, round trips. */
const OPTIMUM: readonly (readonly [a: string, b: string, expected: string])[] = [
  ["open", "symmetric, random", "direct 99 % 1"],
  ["full cone", "port-restricted", "direct 99 % 1"],
  ["full cone", "symmetric, random", "direct 99 % 1"],
  ["address-restricted", "port-restricted", "simultaneous-open 99 % 1"],
  ["address-restricted", "symmetric, port-preserving", "one-sided-open 99 % 1"],
  ["address-restricted", "symmetric, sequential", "one-sided-open 99 % 1"],
  ["address-restricted", "symmetric, random", "one-sided-open 99 % 1"],
  ["port-restricted", "port-restricted", "simultaneous-open 99 % 1"],
  ["port-restricted", "firewall", "simultaneous-open 99 % 1"],
  ["port-restricted", "port-restricted (resets)", "simultaneous-open 99 % 1.5"],
  ["port-restricted (resets)", "port-restricted (resets)", "simultaneous-open 98 % 2"],
  ["port-restricted", "symmetric, port-preserving", "port-prediction 99 % 1"],
  ["port-restricted", "symmetric, offset", "port-prediction 99 % 1"],
  ["port-restricted", "symmetric, sequential", "port-prediction 95 % 1"],
  ["port-restricted", "symmetric, dependent", "port-prediction 80 % 1"],
  ["port-restricted", "symmetric, random in a block", "birthday 98 % 2"],
  ["port-restricted", "symmetric, random", "birthday 96 % 7"],
  ["symmetric, port-preserving", "symmetric, port-preserving", "port-prediction 98 % 1"],
  ["symmetric, port-preserving", "symmetric, sequential", "port-prediction 75 % 1"],
  ["symmetric, sequential", "symmetric, sequential", "port-prediction 72 % 1"],
  ["symmetric, sequential", "symmetric, random", "impossible 0 % 0"],
  ["symmetric, random in a block", "symmetric, random in a block", "impossible 0 % 0"],
  ["symmetric, random", "symmetric, random", "impossible 0 % 0"],
  ["port-restricted", "unknown NAT", "simultaneous-open 64 % 1"],
  ["unknown NAT", "unknown NAT", "simultaneous-open 42 % 1"],
  ["symmetric, random", "unknown NAT", "impossible 0 % 0"],
];

for (const [a, b, expected] of OPTIMUM) {
  Deno.test(`explainPair() of ${a} x ${b}: ${expected}`, () => {
    for (const pair of [[a, b], [b, a]] as const) {
      const { method, success, roundTrips } = explainPair(kind(pair[0]), kind(pair[1]));
      assertEquals(`${method} ${Math.round(100 * success)} % ${roundTrips}`, expected);
    }
  });
}

Deno.test("explainPair() puts the expectation in one line", () => {
  const text = (a: string, b: string) => explainPair(kind(a), kind(b)).text;
  assertEquals(
    text("port-restricted", "symmetric, sequential"),
    "port-restricted x symmetric, sequential: predicted, about 95 %",
  );
  assertEquals(
    text("port-restricted", "symmetric, random"),
    "port-restricted x symmetric, random: birthday, 200 sockets and 1100 of 64512 ports, about 96 %",
  );
  assertEquals(
    text("symmetric, random", "symmetric, random"),
    "symmetric, random x symmetric, random: impossible: neither side's port can be known before it dials; " +
      "a relay, a port mapped on a router, or IPv6 would help",
  );
});

Deno.test("explainMatrix() is symmetric", () => {
  const matrix = explainMatrix();
  assertEquals(matrix.length, NAT_KINDS.length);
  for (const [row, pairs] of matrix.entries()) {
    for (const [column, { method, success, roundTrips }] of pairs.entries()) {
      const mirrored = matrix[column]![row]!;
      assertEquals({ method, success, roundTrips }, {
        method: mirrored.method,
        success: mirrored.success,
        roundTrips: mirrored.roundTrips,
      });
    }
  }
});

Deno.test("nameNat() gives every kind a different name", () => {
  const names = NAT_KINDS.map(nameNat);
  assertEquals(new Set(names).size, names.length);
});

Deno.test("nameNat() names every possible profile", () => {
  const behaviors = ["endpoint-independent", "address-dependent", "none", "unknown"] as const;
  const kinds = ["preserving", "offset", "sequential", "random", "unknown"] as const;
  for (const mapping of behaviors) {
    for (const filtering of behaviors) {
      for (const allocation of kinds) {
        const name = nameNat({
          ...NAT_KINDS[0]!,
          mapping,
          filtering,
          allocation: { kind: allocation, delta: null, range: null },
        });
        assert(/^[a-zA-Z-]+(?:[, ]+[a-zA-Z-]+)*$/.test(name), name);
      }
    }
  }
});

function kind(name: string): NatProfile {
  const found = NAT_KINDS.find((profile) => nameNat(profile) === name);
  if (found === undefined) throw new RangeError(`Cannot find NAT: no kind is named ${name}`);
  return found;
}
