/**
 * Two sides that know their NATs only from what they gather connect as two sides with NAT test reports do, over all
 * ordered pairs of kinds.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { NAT_KINDS } from "../../lab/scenarios/punches/nat_kinds.ts";
import type { PunchPlan } from "../../lib/punch/plan_types.ts";
import { play } from "../scenes/punch_scene.ts";
import { simulate } from "../simnet/simulate.ts";

/** All kinds that a host can be behind. */
const KINDS = Object.entries(NAT_KINDS).filter(([name]) => name !== "public");

for (const isWarm of [true, false]) {
  for (const [a, { behavior }] of KINDS) {
    const when = isWarm ? "once it had time to learn" : "at once";
    Deno.test(`punch() does the same without reports as with them, ${when}: ${a} x every kind`, async () => {
      for (const [b, { behavior: other }] of KINDS) {
        const scene = { a: behavior, b: other, isWarm, warmForMs: isWarm ? 1000 : 0 };
        const reported = await outcomeOf({ ...scene, isReported: true });
        const gathered = await outcomeOf({ ...scene, isReported: false });
        // If both external ports are known, filters do not matter, so nothing waits for them.
        const isHard = [behavior, other].some(({ mapping }) => mapping === SYMMETRIC);
        if (isWarm || isHard) assertEquals(gathered.plans, reported.plans, `${a} x ${b}`);
        if (reported.isByChance) continue;
        assertEquals(gathered.isHeard, reported.isHeard, `${a} x ${b}`);
        if (isWarm || isHard) assertEquals(gathered.outcome, reported.outcome, `${a} x ${b}`);
      }
    });
  }
}

for (const rttMs of [20, 80, 200]) {
  for (const isWarm of [true, false]) {
    const when = isWarm ? "" : ", at once";
    Deno.test(`a full cone and random ports connect directly, every time, at ${rttMs} ms${when}`, async () => {
      const { fullCone, random } = NAT_KINDS;
      for (let seed = 1; seed <= 20; seed++) {
        for (const [a, b] of [[fullCone, random], [random, fullCone]] as const) {
          const scene = {
            a: a.behavior,
            b: b.behavior,
            rttMs,
            isWarm,
            warmForMs: isWarm ? 2000 : 0,
          };
          const { outcome, isHeard } = await outcomeOf({ ...scene, isReported: false }, seed);
          assertEquals([outcome, isHeard], [["direct", "direct"], true], `${a.name}, seed ${seed}`);
        }
      }
    });
  }
}

const SYMMETRIC = "address-and-port-dependent";

async function outcomeOf(scene: Parameters<typeof play>[1], seed = 1) {
  const plans: PunchPlan[] = [];
  const onPlan = (plan: PunchPlan) => void plans.push(plan);
  return await simulate(async ({ internet }) => {
    const { a, b } = await play(internet, { ...scene, options: { onPlan } });
    const outcome = [a, b].map((end) => end instanceof Error ? end.message : end.punch.kind);
    let isHeard = false;
    if (!(a instanceof Error) && !(b instanceof Error)) {
      await a.write(Uint8Array.of(1));
      isHeard = await b.read(new Uint8Array(1)) === 1;
    }
    for (const end of [a, b]) if (!(end instanceof Error)) end.close();
    return {
      outcome,
      isHeard,
      isByChance: plans[0]!.method === "birthday" || plans[0]!.successEstimate < 0.9,
      plans: plans.slice(0, 2).map(({ method, reason, reachable }) => ({
        method,
        reachable,
        // How many ports an attempt tries follows from the ports sampled.
        reason: reason.replace(/\d+ of \d+|\d+ sockets/g, "N"),
      })),
    };
  }, { seed });
}
