import { assertEquals } from "@std/assert";
import { UnreachableError } from "../../lib/base/errors.ts";
import { parseTransportAddress } from "../../lib/net/address.ts";
import type { PunchPlan } from "../../lib/punch/plan_types.ts";
import {
  acceptedKindOf,
  type DirectPathKind,
  methodOf,
  pathKindOf,
} from "../../lib/punch/path_kinds.ts";
import type { PunchedConn } from "../../lib/punch/punch.ts";
import { NAT_BEHAVIORS } from "../../lab/model/nat_behavior.ts";
import { simulate } from "../simnet/simulate.ts";
import type { Internet } from "../simnet/internet.ts";
import { punchSide } from "./fixtures.ts";
import { play, playBetween, type Scene, type SceneResult } from "../scenes/punch_scene.ts";

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

/** Addresses of the peer, the method, and the kind of path that each is, dialled and accepted. */
const KINDS = [
  ["203.0.113.2:7000", "direct", "mapped", "mapped"],
  ["127.0.0.1:4000", "direct", "host", "host"],
  ["192.168.1.9:4000", "simultaneous-open", "lan", "lan"],
  ["100.64.0.9:4000", "simultaneous-open", "lan", "lan"],
  ["[2001:db8::9]:4000", "simultaneous-open", "ipv6", "ipv6"],
  ["203.0.113.2:4000", "direct", "direct", "mapped"],
  ["203.0.113.2:4000", "simultaneous-open", "punch-tcp", "punch-tcp"],
] as const;

for (const [address, method, dialled, accepted] of KINDS) {
  Deno.test(`${address} is ${dialled} if dialled and ${accepted} if accepted on a mapped port, with ${method}`, () => {
    const candidates = [{ kind: "mapped" as const, address: { ip: "203.0.113.2", port: 7000 } }];
    const remote = punchSide("203.0.113.2", {}, { candidates });
    const local = punchSide("203.0.113.1", {}, {
      candidates: [{ kind: "mapped", address: { ip: "203.0.113.1", port: 7000 } }],
    });
    const target = parseTransportAddress(address);
    assertEquals(pathKindOf(target, { local, remote, method }), dialled);
    assertEquals(acceptedKindOf(target, { local, remote, method }), accepted);
  });
}

Deno.test("a connection accepted without a mapped port, or past an open filter, is direct", () => {
  const remote = punchSide("203.0.113.2");
  const mapped = [{ kind: "mapped" as const, address: { ip: "203.0.113.1", port: 7000 } }];
  const open = punchSide("203.0.113.1", { filtering: "none" }, { candidates: mapped });
  for (const local of [punchSide("203.0.113.1"), open]) {
    const context = { local, remote, method: "direct" } as const;
    assertEquals(acceptedKindOf({ ip: "203.0.113.2", port: 4000 }, context), "direct");
  }
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
