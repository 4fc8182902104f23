import { assertEquals } from "@std/assert";
import { UnreachableError } from "../../lib/base/errors.ts";
import type { PunchPlan } from "../../lib/punch/plan_types.ts";
import { type DirectPathKind, methodOf } from "../../lib/punch/path_kinds.ts";
import type { PunchedConn } from "../../lib/punch/punch.ts";
import { NAT_BEHAVIORS } from "../../lab/model/nat_behavior.ts";
import { simulate } from "../simnet/simulate.ts";
import type { Internet } from "../simnet/internet.ts";
import { play, playBetween, type Scene, type SceneResult } from "./scene.ts";

const { portRestricted, fullCone, symmetric } = NAT_BEHAVIORS;
const CONES = { a: portRestricted, b: portRestricted };

Deno.test("punch() reports the method that got through the filters of both sides", async () => {
  const expected = "punch-tcp by simultaneous-open over tcp";
  assertEquals(await paths((internet) => play(internet, CONES)), [expected, expected]);
});

Deno.test("punch() reports a direct path, whichever side accepts connections from anywhere", async () => {
  const direct = "direct by null over tcp";
  const toB = { a: portRestricted, b: fullCone };
  assertEquals(await paths((internet) => play(internet, toB)), [direct, direct]);
  const toA = { a: fullCone, b: portRestricted };
  assertEquals(await paths((internet) => play(internet, toA)), [direct, direct]);
});

Deno.test("punch() reports that the peer is on the same LAN", async () => {
  const lan = "lan by null over tcp";
  assertEquals(await paths(neighbours()), [lan, lan]);
});

Deno.test("punch() records the kind of path of each attempt", async () => {
  await simulate(async ({ internet }) => {
    const { a, b } = await neighbours()(internet);
    for (const side of [a, b]) {
      if (side instanceof Error) throw side;
      const { attempts, plan } = side.punch;
      const kinds = attempts.map(({ kind }) => kind);
      assertEquals(kinds.includes("lan"), true, kinds.join());
      for (const { kind, method } of attempts) {
        assertEquals(method, methodOf(kind as DirectPathKind, plan.method));
      }
      side.reset();
    }
  });
});

Deno.test("punch() tries only the kinds of path that are allowed", async () => {
  const [a, b] = await paths(neighbours(["punch-tcp"]));
  assertEquals([a, b].some((path) => path?.startsWith("lan")), false);
  const none = await paths((internet) =>
    play(internet, { ...CONES, options: { pathKinds: new Set(["lan"]), timeoutMs: 3000 } })
  );
  assertEquals(none, ["UnreachableError", "UnreachableError"]);
});

Deno.test("punch() reports its plan as soon as it has one, an impossible one too", async () => {
  const plans: PunchPlan[] = [];
  const onPlan = (plan: PunchPlan) => void plans.push(plan);
  await paths((internet) => play(internet, { ...CONES, options: { onPlan } }));
  assertEquals(plans.map(({ method }) => method), ["simultaneous-open", "simultaneous-open"]);
  plans.length = 0;
  const hopeless = { a: symmetric, b: symmetric, options: { onPlan } };
  await paths((internet) => play(internet, hopeless));
  assertEquals(plans.map(({ method }) => method), ["impossible", "impossible"]);
});

function neighbours(only?: DirectPathKind[]): (internet: Internet) => Promise<SceneResult> {
  return (internet) => {
    const link = { delayMs: 20 };
    const router = internet.router("nat", { behavior: portRestricted, link });
    const [a, b] = [
      internet.host("a", { behind: router, reusePort: true }),
      internet.host("b", { behind: router, reusePort: true }),
    ];
    const options: Scene["options"] = only === undefined
      ? {}
      : { pathKinds: new Set(only), timeoutMs: 3000 };
    return playBetween(internet, { a, b }, { ...CONES, options });
  };
}

/** What both sides report of their path, or the name of the error. */
async function paths(scene: (internet: Internet) => Promise<SceneResult>): Promise<string[]> {
  return await simulate(async ({ internet }) => {
    const { a, b } = await scene(internet);
    return [a, b].map((result) => {
      if (result instanceof UnreachableError) return result.name;
      if (result instanceof Error) throw result;
      const { kind, method, transport } = (result as PunchedConn).punch;
      (result as PunchedConn).reset();
      return `${kind} by ${method} over ${transport}`;
    });
  });
}
