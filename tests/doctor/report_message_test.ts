import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { MalformedMessageError } from "../../lib/base/errors.ts";
import { expectPair, outlooks } from "../../lib/doctor/pair_plan.ts";
import { redacted } from "../../lib/doctor/redaction.ts";
import {
  CHECK_NAMES,
  decodeReport,
  MAX_REPORT_BYTES,
  type NetworkProfile,
} from "../../lib/doctor/report_message.ts";
import { mutate } from "../fuzz/mutate.ts";
import { labelledRandom } from "../simnet/random.ts";
import { doctorReport } from "./doctor_reports.ts";

Deno.test("decodeReport() reads what doctor --json prints, with shortened addresses or whole ones", () => {
  const report = doctorReport();
  for (const isFull of [true, false]) {
    const told = redacted(report, { isFull });
    assertEquals(decodeReport(JSON.stringify(told)), {
      summary: told.verdict.summary,
      profile: told.profile,
    });
  }
});

Deno.test("decodeReport() ignores fields that it does not know", () => {
  const report = { ...doctorReport(), news: { from: ["a later version"] } };
  assertEquals(decodeReport(JSON.stringify(report)).profile, report.profile);
});

Deno.test("a report lists all checks that there are", () => {
  assertEquals(doctorReport().checks.map(({ name }) => name), [...CHECK_NAMES]);
});

for (
  const [what, change, message] of [
    ["another program's report", { program: "x" }, "it was not made by"],
    ["another version", { version: 2 }, "its version is unknown"],
    ["no verdict", { verdict: null }, "verdict must be an object"],
    ["a list as the profile", { profile: [] }, "profile must be an object"],
    [
      "a summary of two lines",
      { verdict: { summary: "a\nb" } },
      "verdict.summary must be one line",
    ],
    [
      "a summary that turns the direction of text",
      { verdict: { summary: "\u202e" } },
      "verdict.summary must be one line",
    ],
    ["a long summary", { verdict: { summary: "x".repeat(601) } }, "at most 600 characters"],
    ["no UDP", { profile: { udp: undefined } }, "profile.udp must be an object"],
    ["an unknown mapping", facts({ mapping: "magic" }), "profile.udp.mapping must be one of"],
    ["a mapping of an object's", facts({ mapping: "toString" }), "profile.udp.mapping must be"],
    ["a delta that is no number", facts({ delta: "1" }), "profile.udp.delta must be"],
    ["a delta beyond all ports", facts({ delta: 1e9 }), "profile.udp.delta must be"],
    ["a fraction of a port", facts({ delta: 0.5 }), "profile.udp.delta must be"],
    ["a pool of a million", facts({ addresses: 1e6 }), "profile.udp.addresses must be 1 to 64"],
    ["no address", facts({ addresses: 0 }), "profile.udp.addresses must be 1 to 64"],
    ["a flag that is a word", { profile: { hasIpv6: "yes" } }, "profile.hasIpv6 must be true or"],
    ["too many servers", { profile: { meets: Array(17).fill("a") } }, "a list of at most 16"],
    ["servers that are numbers", { profile: { relays: [1] } }, "profile.relays must be one line"],
    ["an address that is an object", { profile: { external: {} } }, "profile.external must be"],
  ] as const
) {
  Deno.test(`decodeReport() rejects ${what}`, () => {
    const report = doctorReport();
    const { profile } = change as { profile?: Record<string, unknown> };
    const changed = {
      ...report,
      ...change,
      ...profile === undefined || Array.isArray(profile)
        ? {}
        : { profile: { ...report.profile, ...profile } },
    };
    const text = JSON.stringify(changed);
    assertThrows(() => decodeReport(text), MalformedMessageError, message);
  });
}

Deno.test("decodeReport() rejects what is not JSON, too long, or nested beyond all measure", () => {
  for (const text of ["", "{", "null", "[]", "1", '"x"', "[".repeat(60_000)]) {
    assertThrows(() => decodeReport(text), MalformedMessageError, "Cannot read report");
  }
  const long = JSON.stringify({ ...doctorReport(), more: "x".repeat(MAX_REPORT_BYTES) });
  assertThrows(() => decodeReport(long), MalformedMessageError, "it is longer than");
});

Deno.test("a mutated report is read or refused, and what is read can be predicted with", () => {
  const bytes = new TextEncoder().encode(JSON.stringify(doctorReport()));
  const { profile } = doctorReport();
  let read = 0;
  fc.assert(
    fc.property(fc.integer(), (seed) => {
      const text = new TextDecoder().decode(mutate(labelledRandom(seed, "report"), bytes));
      let there: NetworkProfile;
      try {
        there = decodeReport(text).profile;
      } catch (error) {
        assert(error instanceof MalformedMessageError, `${error}`);
        return;
      }
      read++;
      const { directChance } = expectPair(profile, there);
      assert(directChance >= 0 && directChance <= 1);
    }),
    { numRuns: 3000 },
  );
  assert(read > 100, `${read}`); // the others are refused
});

Deno.test("any profile that decodes has an outlook and an expectation for every pair", () => {
  const behavior = fc.constantFrom(
    ...["endpoint-independent", "address-dependent", "address-and-port-dependent"],
    ...["none", "unknown"],
  );
  const syn = fc.constantFrom("dropped", "reset", "accepted", "unknown");
  const transport = fc.option(
    fc.record({
      mapping: behavior,
      filtering: behavior,
      allocation: fc.constantFrom("preserving", "offset", "sequential", "random", "unknown"),
      delta: fc.option(fc.integer({ min: -65_535, max: 65_535 })),
      onlyForNeighbours: fc.boolean(),
      unsolicitedSyn: syn,
      crossingSyn: syn,
      addresses: fc.integer({ min: 1, max: 64 }),
    }),
  );
  const anyProfile = fc.record({
    udp: transport,
    tcp: transport,
    hasIpv6: fc.boolean(),
    opensPorts: fc.boolean(),
    external: fc.option(fc.string({ maxLength: 20, unit: fc.constantFrom(..."0123456789.x") })),
    meets: fc.array(fc.constantFrom("a:1", "b:2"), { maxLength: 3 }),
    relays: fc.array(fc.constantFrom("a:1", "b:2"), { maxLength: 3 }),
  });
  fc.assert(
    fc.property(anyProfile, anyProfile, (a, b) => {
      const [here, there] = [a, b].map((profile) =>
        decodeReport(JSON.stringify({ ...doctorReport(), profile })).profile
      ) as [NetworkProfile, NetworkProfile];
      const expected = expectPair(here, there);
      const reverse = expectPair(there, here);
      assertEquals(expected.expectation, reverse.expectation);
      assert((expected.fault === null) === (expected.expectation === "direct"));
      assertEquals(expected.remedies.length > 0, expected.fault !== null);
      for (const { directChance } of outlooks(here)) assert(directChance >= 0 && directChance <= 1);
    }),
    { numRuns: 500 },
  );
});

function facts(changes: Record<string, unknown>) {
  return { profile: { udp: { ...doctorReport().profile.udp, ...changes } } };
}
