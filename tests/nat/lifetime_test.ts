import { assert, assertEquals, assertRejects, assertStrictEquals } from "@std/assert";
import { withServer } from "../scenes/nat_scene.ts";

for (
  const [udpTimeoutMs, expected] of [
    [20_000, { atLeast: 16, lessThan: 32 }],
    [3000, { atLeast: 2, lessThan: 4 }],
    [300_000, { atLeast: 60, lessThan: null }],
  ] as const
) {
  Deno.test(`testNat() brackets a mapping's lifetime of ${udpTimeoutMs / 1000} s in one pass`, async () => {
    await withServer({ nat: { udpTimeoutMs } }, async ({ test, time }) => {
      const { udp } = await test({ lifetimeSeconds: 60, transports: ["udp"] });
      assertEquals(udp.ipv4!.details.lifetimeSeconds, expected);
      assert(time.nowMs <= 67_000, `${time.nowMs}`);
    });
  });
}

Deno.test("testNat() brackets a lifetime on a path with loss", async () => {
  for (let seed = 1; seed <= 5; seed++) {
    const scene = { seed, nat: { udpTimeoutMs: 20_000 }, link: { loss: 0.05, jitterMs: 10 } };
    await withServer(scene, async ({ test }) => {
      const { udp } = await test({ lifetimeSeconds: 60, transports: ["udp"] });
      assertEquals(udp.ipv4!.details.lifetimeSeconds, { atLeast: 16, lessThan: 32 });
    });
  }
});

Deno.test("testNat() stops a lifetime test on abort", async () => {
  await withServer({}, async ({ internet, server, test, time }) => {
    const signal = AbortSignal.timeout(5000);
    const error = await assertRejects(() => test({ signal, lifetimeSeconds: 60 }));
    assertStrictEquals(error, signal.reason);
    assertEquals(time.nowMs, 5000);
    const open = internet.openSockets().filter((socket) => !socket.startsWith(server.name));
    assertEquals(open, []);
  });
});
