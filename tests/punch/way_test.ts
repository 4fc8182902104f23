import { assertEquals } from "@std/assert";
import { UnreachableError } from "../../lib/base/errors.ts";
import type { PunchPlan } from "../../lib/punch/plan_types.ts";
import type { PunchedConn } from "../../lib/punch/punch.ts";
import type { PathKind } from "../../lib/punch/plan_types.ts";
import { NAT_BEHAVIORS } from "../../lab/model/nat_behavior.ts";
import { simulate } from "../simnet/simulate.ts";
import type { Internet } from "../simnet/internet.ts";
import { play, playBetween, type Scene, type SceneResult } from "../scenes/punch_scene.ts";

const { portRestricted, fullCone, symmetric } = NAT_BEHAVIORS;
const CONES = { a: portRestricted, b: portRestricted };

Deno.test("punch() says through which filters a connection came, by the technique", async () => {
  assertEquals(await strategies((internet) => play(internet, CONES)), ["crossing", "crossing"]);
});

Deno.test("punch() says which side can be dialled, as the controlling side sees it", async () => {
  const toB = { a: portRestricted, b: fullCone };
  assertEquals(await strategies((internet) => play(internet, toB)), ["direct", "direct"]);
  const toA = { a: fullCone, b: portRestricted };
  assertEquals(await strategies((internet) => play(internet, toA)), ["reverse", "reverse"]);
});

Deno.test("punch() says that a peer is in the same LAN", async () => {
  assertEquals(await strategies(neighbours()), ["lan", "lan"]);
});

Deno.test("punch() names the way of each dial in its trace", async () => {
  await simulate(async ({ internet }) => {
    const { a, b } = await neighbours()(internet);
    for (const side of [a, b]) {
      if (side instanceof Error) throw side;
      const strategies = new Set(side.punch.attempts.map(({ strategy }) => strategy));
      assertEquals(strategies.has("lan"), true, [...strategies].join());
      side.reset();
    }
  });
});

Deno.test("punch() goes by no way that is ruled out", async () => {
  const [a, b] = await strategies(neighbours(["punch"]));
  assertEquals([a, b].includes("lan"), false);
  const none = await strategies((internet) =>
    play(internet, { ...CONES, options: { pathKinds: pathKinds("lan"), timeoutMs: 3000 } })
  );
  assertEquals(none, ["UnreachableError", "UnreachableError"]);
});

Deno.test("punch() tells its plan as soon as there is one, also that there is no way", async () => {
  const plans: PunchPlan[] = [];
  const onPlan = (plan: PunchPlan) => void plans.push(plan);
  await strategies((internet) => play(internet, { ...CONES, options: { onPlan } }));
  assertEquals(plans.map(({ method }) => method), ["crossing", "crossing"]);
  plans.length = 0;
  const hopeless = { a: symmetric, b: symmetric, options: { onPlan } };
  await strategies((internet) => play(internet, hopeless));
  assertEquals(plans.map(({ method }) => method), ["impossible", "impossible"]);
});

function neighbours(only?: PathKind[]): (internet: Internet) => Promise<SceneResult> {
  return (internet) => {
    const link = { delayMs: 20 };
    const router = internet.router("nat", { behavior: portRestricted, link });
    const [a, b] = [
      internet.host("a", { behind: router, reusePort: true }),
      internet.host("b", { behind: router, reusePort: true }),
    ];
    const options: Scene["options"] = only === undefined
      ? {}
      : { pathKinds: pathKinds(...only), timeoutMs: 3000 };
    return playBetween(internet, { a, b }, { ...CONES, options });
  };
}

function pathKinds(...names: PathKind[]): ReadonlySet<PathKind> {
  return new Set(names);
}

/** What both sides say of their connection, or the name of the error. */
async function strategies(
  scene: (internet: Internet) => Promise<SceneResult>,
): Promise<string[]> {
  return await simulate(async ({ internet }) => {
    const { a, b } = await scene(internet);
    return [a, b].map((result) => {
      if (result instanceof UnreachableError) return result.name;
      if (result instanceof Error) throw result;
      const { strategy } = (result as PunchedConn).punch;
      (result as PunchedConn).reset();
      return strategy;
    });
  });
}
