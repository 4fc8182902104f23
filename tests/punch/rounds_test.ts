import { assert, assertEquals } from "@std/assert";
import { delay } from "@std/async/delay";
import { UnreachableError } from "../../lib/base/errors.ts";
import type { Network } from "../../lib/net/network.ts";
import type { PunchPlan } from "../../lib/punch/plan_types.ts";
import type { PunchedConn } from "../../lib/punch/punch.ts";
import { NAT_BEHAVIORS, type NatBehavior, natBehavior } from "../../lab/model/nat_behavior.ts";
import type { Host } from "../simnet/host.ts";
import { simulate } from "../simnet/simulate.ts";
import { playBetween } from "../scenes/punch_scene.ts";

const { portRestricted, symmetric, symmetricSequential } = NAT_BEHAVIORS;
const LINK = { delayMs: 20 };

for (
  const { name, behavior, rounds } of [
    { name: "any port", behavior: symmetric, rounds: 1 },
    {
      name: "a block of 1024",
      behavior: natBehavior({ portRange: [20_000, 21_023] }, symmetric),
      rounds: 3,
    },
  ]
) {
  Deno.test(`punch() sends at most 1300 SYNs for birthday attempts over ${name}`, () =>
    simulate(async ({ internet }) => {
      const host = (name: "a" | "b") => {
        const router = internet.router(`${name}/nat`, {
          behavior: name === "a" ? portRestricted : behavior,
          link: LINK,
        });
        return {
          network: reachingOnlyServers(internet.host(name, { behind: router, reusePort: true })),
        };
      };
      const plans: PunchPlan[] = [];
      const results = await playBetween(internet, { a: host("a"), b: host("b") }, {
        a: portRestricted,
        b: behavior,
        options: { onPlan: (plan) => void plans.push(plan) },
      });
      assertEquals(plans.length, 2 * rounds);
      let tries = 0;
      for (const error of [results.a, results.b]) {
        assert(error instanceof UnreachableError, `${error}`);
        assert(error.message.startsWith("Cannot punch: all attempts failed"), error.message);
        tries += error.attempts.reduce((sum, attempt) => sum + attempt.tries, 0);
      }
      assert(tries <= 1300, `${tries} SYNs`);
      assert(results.doneMs < 10_000, `${results.doneMs} ms`);
    }));
}

Deno.test("punch() predicts again within two seconds if other hosts have taken the predicted ports", () =>
  simulate(async ({ internet }) => {
    const router = (name: string, behavior: NatBehavior = symmetricSequential) =>
      internet.router(`${name}/nat`, { behavior, link: LINK });
    const crowded = router("b");
    const neighbour = internet.host("neighbour", { behind: crowded });
    const [a, b] = [
      internet.host("a", { behind: router("a", portRestricted), reusePort: true }),
      internet.host("b", { behind: crowded, reusePort: true }),
    ];
    const plans: PunchPlan[] = [];
    const crowd = new AbortController();
    const result = await playBetween(internet, { a, b }, {
      a: portRestricted,
      b: symmetricSequential,
      options: {
        onPlan: (plan) => {
          if (plans.push(plan) === 1) void takePorts(neighbour, crowd.signal);
        },
      },
    });
    crowd.abort();
    for (const side of [result.a, result.b]) {
      if (side instanceof Error) throw side;
      assertEquals((side as PunchedConn).punch.rounds, 2);
      side.close();
    }
    assert(result.doneMs < 2000, `${result.doneMs} ms`);
  }));

/** Takes more ports than are predicted. */
async function takePorts({ network }: Host, signal: AbortSignal): Promise<void> {
  const dials = Array.from({ length: 40 }, async () => {
    const connection = await network.connectTcp({ ip: "203.0.113.10", port: 3478 }, { signal });
    await delay(1000);
    connection.reset();
  });
  await Promise.allSettled(dials);
}

/** The network of a host whose SYNs reach only servers. */
function reachingOnlyServers({ network }: Host): Network {
  return {
    ...network,
    connectTcp: (remote, options = {}) => {
      if (remote.ip.startsWith("203.0.113.1")) return network.connectTcp(remote, options);
      const { promise, reject } = Promise.withResolvers<never>();
      options.signal?.addEventListener("abort", () => reject(options.signal!.reason));
      return promise;
    },
  };
}
