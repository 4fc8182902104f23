/** What happens to a mapping after it was granted. */

import { assert, assertEquals } from "@std/assert";
import { delay } from "@std/async/delay";
import { atMapPortHome, nextEvent, UPNP_ALONE } from "./map_port_home.ts";

const HOUR_MS = 3600 * 1000;

Deno.test("mapPort() renews between 1/2 and 5/8 of the lifetime", async () => {
  for (const options of [{}, { udp: { speaks: ["nat-pmp"] } }, UPNP_ALONE] as const) {
    await atMapPortHome(options, async ({ map }) => {
      const startMs = performance.now();
      await using mapping = await map({ checkSeconds: Infinity });
      const { atMs } = await nextEvent(mapping, "renewed");
      const share = (atMs - startMs) / HOUR_MS;
      assert(share >= 0.5 && share < 0.626, `${share}`);
    });
  }
});

Deno.test("mapPort() restores a mapping 0 to 5 s after the gateway announces a restart", async () => {
  for (const speaks of [["pcp"], ["nat-pmp"]] as const) {
    await atMapPortHome({ udp: { speaks } }, async ({ gateway, map, open, announce }) => {
      await using mapping = await map({ checkSeconds: Infinity });
      await delay(60_000);
      gateway.table.restart();
      await announce();
      const lost = await nextEvent(mapping, "lost");
      assertEquals(lost.reason, "the gateway has restarted");
      const { atMs } = await nextEvent(mapping, "mapped");
      assert(atMs - lost.atMs < 5010);
      assertEquals(open(), [8080]);
    });
  }
});

Deno.test("mapPort() ignores announcements of other gateways", async () => {
  await atMapPortHome({}, async ({ internet, gateway, map }) => {
    await using _mapping = await map({ checkSeconds: Infinity });
    await delay(60_000);
    const asked = gateway.arrived.length;
    const far = internet.host("far");
    using socket = await far.network.bindUdp({ ip: "0.0.0.0", port: 5351 });
    await socket.send(new Uint8Array(12), { ip: "224.0.0.1", port: 5350 });
    await delay(10_000);
    assertEquals(gateway.arrived.length, asked);
  });
});

Deno.test("mapPort() asks at most every 4 s, however often the gateway announces", async () => {
  await atMapPortHome({ udp: { speaks: ["pcp"] } }, async ({ gateway, map, announce }) => {
    await using _mapping = await map({ checkSeconds: Infinity });
    await delay(60_000);
    const asked = gateway.arrived.length;
    for (let round = 0; round < 200; round++) {
      await announce();
      await delay(100);
    }
    const more = gateway.arrived.length - asked;
    assert(more >= 1 && more <= 6, `${more} requests in 20 s`);
  });
});

Deno.test("mapPort() notices an unannounced restart at the next check, and restores the mapping", async () => {
  for (const options of [{}, { udp: { speaks: ["nat-pmp"] } }, UPNP_ALONE] as const) {
    await atMapPortHome(options, async ({ gateway, igd, map, open }) => {
      await using mapping = await map({ checkSeconds: 60 });
      await delay(100_000);
      gateway.table.restart();
      igd?.table.entries.splice(0);
      assertEquals(open(), []);
      const restartedMs = performance.now();
      await nextEvent(mapping, "lost");
      const { atMs } = await nextEvent(mapping, "mapped");
      assert(atMs - restartedMs < 61_000);
      assertEquals(open(), [8080]);
    });
  }
});

Deno.test("mapPort() restores a mapping that the gateway lost without a trace", async () => {
  for (const speaks of [["pcp"], ["nat-pmp"]] as const) {
    await atMapPortHome({ udp: { speaks } }, async ({ gateway, map, open }) => {
      await using _mapping = await map({ checkSeconds: 60 });
      await delay(100_000);
      gateway.table.forget();
      await delay(60_000);
      assertEquals(open(), [8080]);
    });
  }
});

Deno.test("mapPort() reports a change of the external address", async () => {
  for (const options of [{}, { udp: { speaks: ["nat-pmp"] } }, UPNP_ALONE] as const) {
    await atMapPortHome(options, async ({ gateway, igd, map }) => {
      await using mapping = await map({ checkSeconds: 60 });
      await delay(10_000);
      const before = mapping.external.ip;
      gateway.externalIp = "203.0.113.99";
      if (igd !== undefined) igd.table.externalIp = "203.0.113.99";
      const changed = await nextEvent(mapping, "changed");
      assertEquals(changed.external, "203.0.113.99:8080");
      assertEquals(changed.reason, `the external address was ${before}`);
      assertEquals(mapping.external.ip, "203.0.113.99");
    });
  }
});

Deno.test("mapPort() fails over to another protocol when the current one stops working", async () => {
  await atMapPortHome({ igd: {} }, async ({ gateway, igd, map }) => {
    igd!.table.externalIp = gateway.externalIp;
    await using mapping = await map({ checkSeconds: 60 });
    assertEquals(mapping.protocol, "pcp");
    gateway.script = () => [];
    const changed = await nextEvent(mapping, "changed");
    assertEquals([changed.protocol, changed.reason], [
      "upnp",
      "pcp at 192.168.1.1 no longer works",
    ]);
  });
});

Deno.test("mapPort() reports a mapping as lost when its lease expires, and gets it back", async () => {
  await atMapPortHome({ udp: { speaks: ["nat-pmp"] } }, async ({ gateway, map, open }) => {
    const startMs = performance.now();
    await using mapping = await map({ lifetimeSeconds: 600, checkSeconds: Infinity });
    gateway.script = () => [];
    const lost = await nextEvent(mapping, "lost");
    assertEquals([lost.reason, Math.round((lost.atMs - startMs) / 1000)], [
      "the lease has expired",
      600,
    ]);
    assertEquals(mapping.isLost, true);
    gateway.table.restart();
    gateway.script = undefined;
    const backMs = performance.now();
    const { atMs } = await nextEvent(mapping, "mapped");
    assert(atMs - backMs < 310_000);
    assertEquals([mapping.isLost, open()], [false, [8080]]);
  });
});

Deno.test("mapPort() backs off while no gateway answers", async () => {
  await atMapPortHome({ udp: { speaks: ["pcp"] } }, async ({ gateway, map }) => {
    await using mapping = await map({ lifetimeSeconds: 120, checkSeconds: Infinity });
    gateway.script = () => [];
    await nextEvent(mapping, "lost");
    const asked = gateway.arrived.length;
    await delay(HOUR_MS);
    assert(gateway.arrived.length - asked < 200, `${gateway.arrived.length - asked} in an hour`);
  });
});

Deno.test("mapPort() renews by the lifetime that the gateway granted", async () => {
  const lifetimes = { minSeconds: 0, maxSeconds: 60 };
  await atMapPortHome({ udp: { speaks: ["pcp"], lifetimes } }, async ({ map }) => {
    const startMs = performance.now();
    await using mapping = await map();
    assertEquals(mapping.lifetimeSeconds, 60);
    const { atMs } = await nextEvent(mapping, "renewed");
    assert(atMs - startMs >= 30_000 && atMs - startMs < 38_000);
  });
});

Deno.test("mapPort() reports events until the mapping is released, and none after", async () => {
  await atMapPortHome({}, async ({ map }) => {
    const mapping = await map();
    const reading = Array.fromAsync(mapping.events, ({ event }) => event);
    await delay(2 * HOUR_MS);
    await mapping[Symbol.asyncDispose]();
    const events = await reading;
    assertEquals([events[0], events.at(-1)], ["mapped", "released"]);
    assert(events.slice(1, -1).every((event) => event === "renewed"));
  });
});

Deno.test("mapPort() reports that the gateway did not confirm the release", async () => {
  await atMapPortHome({}, async ({ gateway, map }) => {
    const mapping = await map();
    gateway.script = () => [];
    const startMs = performance.now();
    await mapping[Symbol.asyncDispose]();
    assert(performance.now() - startMs <= 4010);
    const { reason } = await nextEvent(mapping, "released");
    assertEquals(reason, "the gateway did not confirm it");
  });
});
