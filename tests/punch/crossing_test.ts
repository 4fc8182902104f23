/**
 * NATs that keep out SYNs that cross their own, and NATs with a pool of addresses: what is planned is what happens.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { NAT_BEHAVIORS, natBehavior } from "../../lab/model/nat_behavior.ts";
import type { PunchPlan } from "../../lib/punch/plan_types.ts";
import { play } from "../scenes/punch_scene.ts";
import { simulate } from "../simnet/simulate.ts";

const { fullCone, addressRestricted, portRestricted, firewall, symmetricSequential } =
  NAT_BEHAVIORS;
const FILTERS = { fullCone, addressRestricted, portRestricted, firewall };
const CROSSED = ["accept", "drop", "reset", "strict"] as const;

for (const [name, base] of Object.entries(FILTERS)) {
  for (const crossedSyn of CROSSED) {
    Deno.test(`punch() connects wherever SYNs need not cross: ${name} that would ${crossedSyn} them, and every other`, async () => {
      const a = natBehavior({ crossedSyn }, base);
      for (const [otherName, otherBase] of Object.entries(FILTERS)) {
        for (const otherCrossed of CROSSED) {
          const b = natBehavior({ crossedSyn: otherCrossed }, otherBase);
          const mustCross = [a, b].every((each) =>
            each.filtering === "address-and-port-dependent" && each.crossedSyn !== "accept"
          );
          for (const isReported of [true, false]) {
            const { ends, plans } = await outcomeOf({
              a,
              b,
              isReported,
              isWarm: true,
              warmForMs: 2000,
            });
            const pair = `${name}/${crossedSyn} x ${otherName}/${otherCrossed}, ${isReported}`;
            assertEquals(ends, mustCross ? ["failed", "failed"] : ["connected", "connected"], pair);
            if (!mustCross) continue;
            assertEquals(plans.map(({ method }) => method), ["impossible", "impossible"], pair);
            assert(plans[0]!.reason.includes("keep out SYNs that cross their own"), pair);
          }
        }
      }
    });
  }
}

for (const crossedSyn of CROSSED) {
  Deno.test(`punch() predicts the ports of a symmetric NAT for one that would ${crossedSyn} crossing SYNs`, async () => {
    for (const unsolicitedSyn of ["drop", "reset"] as const) {
      const a = natBehavior({ crossedSyn, unsolicitedSyn }, portRestricted);
      const { ends } = await outcomeOf({ a, b: symmetricSequential });
      assertEquals(ends, ["connected", "connected"], unsolicitedSyn);
    }
  });
}

async function outcomeOf(scene: Parameters<typeof play>[1]) {
  const plans: PunchPlan[] = [];
  return await simulate(async ({ internet }) => {
    const onPlan = (plan: PunchPlan) => void plans.push(plan);
    const { a, b } = await play(internet, { ...scene, options: { onPlan } });
    const ends = [a, b].map((end) => end instanceof Error ? "failed" : "connected");
    for (const end of [a, b]) if (!(end instanceof Error)) end.close();
    return { ends, plans };
  });
}
