/**
 * The plans of both sides, played against each other through model NATs: they must match, and must succeed as often
 * as they estimate.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { NAT_BEHAVIORS, type NatBehavior, natBehavior } from "../../lab/model/nat_behavior.ts";
import { simulatePunch, type SimulationOptions } from "./simulation.ts";

const { symmetric } = NAT_BEHAVIORS;

const KINDS = {
  "full cone": NAT_BEHAVIORS.fullCone,
  "address-restricted": NAT_BEHAVIORS.addressRestricted,
  "port-restricted": NAT_BEHAVIORS.portRestricted,
  "port-restricted that resets": natBehavior({ unsolicitedSyn: "reset", resetEndsMapping: true }),
  firewall: NAT_BEHAVIORS.firewall,
  preserving: NAT_BEHAVIORS.symmetricPreserving,
  offset: natBehavior({ allocation: { kind: "offset", delta: 100 } }, symmetric),
  sequential: NAT_BEHAVIORS.symmetricSequential,
  "sequential by -3": natBehavior({ allocation: { kind: "sequential", delta: -3 } }, symmetric),
  dependent: natBehavior({ allocation: { kind: "dependent", delta: 2 } }, symmetric),
  "random in a block": natBehavior({ portRange: [20_000, 21_023] }, symmetric),
  random: symmetric,
  "random that resets": natBehavior(
    { unsolicitedSyn: "reset", resetEndsMapping: true },
    symmetric,
  ),
} as const;

type Kind = keyof typeof KINDS;

for (const a of Object.keys(KINDS) as Kind[]) {
  Deno.test(`two plans connect as often as estimated: ${a} x every kind`, () => {
    for (const b of Object.keys(KINDS) as Kind[]) {
      const { met, runs, estimate } = play(KINDS[a], KINDS[b], { rttMs: 80 }, RUNS);
      assert(
        met >= atLeast(estimate, runs),
        `${a} x ${b}: ${met} of ${runs}, ${estimate} estimated`,
      );
    }
  });
}

for (
  const [name, options] of Object.entries(
    {
      "round trips of 20 ms": { rttMs: 20 },
      "round trips of 200 ms": { rttMs: 200 },
      "5 % loss and 30 ms of jitter": { loss: 0.05, jitterMs: 30 },
      "a side that calls a second later": { skewMs: 1000 },
      "a side that calls ten seconds later": { skewMs: -10_000 },
      "no listener beside the dials": { canListenBeside: false },
      "nothing known of filters and resets": { knowsFilters: false },
    } satisfies Record<string, Partial<SimulationOptions>>,
  )
) {
  Deno.test(`two plans with known or predicted addresses connect despite ${name}`, () => {
    for (const [a, b] of NOT_BY_CHANCE) {
      const { met, runs } = play(KINDS[a], KINDS[b], options, 20);
      assertEquals(met, runs, `${a} x ${b}`);
    }
  });
}

for (const [name, ends] of [["keep the mapping", false], ["end the mapping", true]] as const) {
  for (const skewMs of [-1000, -100, 0, 30, 100, 1000]) {
    Deno.test(`two plans connect if both NATs reset, resets ${name}, and the skew is ${skewMs} ms`, () => {
      const resetting = { unsolicitedSyn: "reset", resetEndsMapping: ends } as const;
      for (
        const [a, b] of [["port-restricted", "port-restricted"], [
          "port-restricted",
          "preserving",
        ]] as const
      ) {
        for (const rttMs of [20, 80, 200]) {
          const behaviors = [
            natBehavior(resetting, KINDS[a]),
            natBehavior(resetting, KINDS[b]),
          ] as const;
          const { met, runs, timesMs } = play(...behaviors, { rttMs, skewMs }, 20);
          assertEquals(met, runs, `${a} x ${b}`);
          const slowestMs = Math.max(...timesMs);
          // A redial that fails costs one round trip, and the last one needs one and a half.
          assert(slowestMs <= 4 * rttMs + 20, `${a} x ${b}: ${slowestMs} of ${rttMs} ms`);
        }
      }
    });
  }
}

Deno.test("two plans connect within one round trip of the later start if both NATs drop", () => {
  for (const rttMs of [20, 80, 200]) {
    const known = KINDS["port-restricted"];
    for (const skewMs of [0, 30, 2000]) {
      const { timesMs } = play(known, known, { rttMs, skewMs, signalRttMs: 0 }, 5);
      // Both ends know after one round trip if their SYNs crossed; otherwise the accepting end knows half of one later.
      const floorMs = skewMs < rttMs / 2 ? rttMs : 1.5 * rttMs;
      assert(Math.max(...timesMs) <= floorMs + 1, `${timesMs} of ${rttMs} ms`);
    }
  }
});

Deno.test("two plans connect while other hosts make five new mappings per second at both NATs", () => {
  for (
    const [a, b] of [
      ["port-restricted", "sequential"],
      ["port-restricted", "sequential by -3"],
      ["preserving", "sequential"],
      ["sequential", "sequential"],
      ["sequential", "sequential by -3"],
    ] as const
  ) {
    const { met, runs, estimate } = play(KINDS[a], KINDS[b], { othersPerSecond: 5 }, 40);
    assert(met >= 0.95 * runs && met >= estimate * runs, `${a} x ${b}: ${met} of ${runs}`);
  }
});

Deno.test("a birthday attempt costs at most 1300 SYNs, retransmissions included, and hits a block within a second", () => {
  const known = KINDS["port-restricted"];
  for (const rttMs of [20, 80, 200]) {
    const wide = play(known, KINDS.random, { rttMs }, 40);
    assert(wide.met >= 0.95 * wide.runs && wide.mostSyns <= 1300, `${wide.met} ${wide.mostSyns}`);
    const block = play(known, KINDS["random in a block"], { rttMs }, 100);
    assert(
      block.met >= 0.98 * block.runs && block.mostSyns < 250,
      `${block.met} ${block.mostSyns}`,
    );
    assert(Math.max(...block.timesMs) <= 1000);
  }
});

Deno.test("two plans agree for any NATs and any timing", () => {
  const kind = fc.constantFrom(...Object.values<NatBehavior>(KINDS));
  fc.assert(
    fc.property(
      kind,
      kind,
      fc.record({
        seed: fc.integer(),
        rttMs: fc.integer({ min: 1, max: 400 }),
        skewMs: fc.integer({ min: -500, max: 500 }),
        canListenBeside: fc.boolean(),
        knowsFilters: fc.boolean(),
        loss: fc.constantFrom(0, 0.05),
      }),
      (a, b, options) => {
        const [controlling, controlled] = simulatePunch([a, b], options).plans;
        assertEquals(controlling.method, controlled.method);
        assertEquals(controlling.successEstimate, controlled.successEstimate);
        assertEquals(controlling.reason, controlled.reason);
      },
    ),
    { numRuns: 60 },
  );
});

/** Pairs for every method but birthday, which depends on chance. */
const NOT_BY_CHANCE: readonly (readonly [Kind, Kind])[] = [
  ["full cone", "random"],
  ["port-restricted", "firewall"],
  ["port-restricted", "port-restricted that resets"],
  ["address-restricted", "sequential"],
  ["preserving", "port-restricted"],
  ["port-restricted", "offset"],
  ["sequential", "port-restricted"],
  ["preserving", "preserving"],
];

/** Runs if hardly anything depends on chance. */
const ENOUGH = 10;

/** Runs of each pair if chance decides. */
const RUNS = 25;

interface Tally {
  readonly runs: number;
  readonly met: number;
  /** The mean over all runs. */
  readonly estimate: number;
  readonly timesMs: readonly number[];
  readonly mostSyns: number;
}

function play(
  a: NatBehavior,
  b: NatBehavior,
  options: Partial<SimulationOptions>,
  maxRuns: number,
): Tally {
  const timesMs: number[] = [];
  let [estimates, mostSyns, runs] = [0, 0, 0];
  while (runs < maxRuns) {
    const { metMs, plans, syns } = simulatePunch([a, b], { ...options, seed: 7919 * runs++ + 13 });
    if (metMs !== null) timesMs.push(metMs);
    estimates += plans[0].successEstimate;
    mostSyns = Math.max(mostSyns, syns);
    if (plans[0].method === "impossible") break;
    if (plans[0].method !== "birthday" && runs >= ENOUGH) break;
  }
  return { runs, met: timesMs.length, estimate: estimates / runs, timesMs, mostSyns };
}

/** Two standard deviations below the expected number of successes. */
function atLeast(estimate: number, runs: number): number {
  return runs * estimate - 2 * Math.sqrt(runs * estimate * (1 - estimate));
}
