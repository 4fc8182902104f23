import { assert, assertEquals, assertMatch } from "@std/assert";
import { measurePathMtu, mtuFinding } from "../../lib/nat/path_mtu.ts";
import type { Network } from "../../lib/net/network.ts";
import { serveStun } from "../../lib/stun/server/server.ts";
import { parseTransportAddress } from "../../lib/net/address.ts";
import { NAT_BEHAVIORS } from "../../lab/model/nat_behavior.ts";
import type { LinkBehavior } from "../simnet/link.ts";
import { PRIMARY, withScene, withServer } from "../scenes/nat_scene.ts";

const SERVER = parseTransportAddress(PRIMARY);

Deno.test("measurePathMtu() takes one round trip if packets of all lengths get through", async () => {
  await withServer({}, async ({ client }) => {
    const startedAt = performance.now();
    const found = await measurePathMtu({ network: client.network, server: SERVER });
    assertEquals(found, { answeredBytes: 1500, lostBytes: null, refusedBytes: null, rttMs: 51 });
    assertEquals(performance.now() - startedAt, 51);
    assertEquals(mtuFinding(found), undefined);
  });
});

for (
  const [mtu, direction, answeredBytes, lostBytes] of [
    [1280, "both", 1280, 1400],
    [1420, "up", 1420, 1460],
    [1420, "down", 1420, 1460],
    [1499, "up", 1492, 1500],
  ] as const
) {
  Deno.test(`measurePathMtu() finds an MTU hole of ${mtu} bytes, ${direction}`, async () => {
    const link = direction === "both" ? { mtu } : { [direction]: { mtu } };
    await withServer({ link }, async ({ client }) => {
      const startedAt = performance.now();
      const found = await measurePathMtu({ network: client.network, server: SERVER });
      assertEquals([found.answeredBytes, found.lostBytes], [answeredBytes, lostBytes]);
      assertMatch(mtuFinding(found)!.remedy, new RegExp(`to ${answeredBytes} bytes`));
      assert(performance.now() - startedAt <= 700, `${performance.now() - startedAt}`);
    });
  });
}

Deno.test("measurePathMtu() takes no lost packet for a hole", async () => {
  for (let seed = 1; seed <= 30; seed++) {
    await withServer({ link: { loss: 0.1, jitterMs: 10 }, seed }, async ({ client }) => {
      const found = await measurePathMtu({ network: client.network, server: SERVER });
      assertEquals(found.lostBytes, null, `seed ${seed}`);
    });
  }
});

Deno.test("measurePathMtu() takes no limit on the number of packets for a hole", async () => {
  for (const burst of [1, 2, 3, 4, 5]) {
    await withServer({}, async ({ client }) => {
      const { network } = client;
      let left = burst;
      const limited: Network = {
        ...network,
        bindUdp: async (local, options) => {
          const socket = await network.bindUdp(local, options);
          return {
            local: socket.local,
            send: (data, to) => left-- > 0 ? socket.send(data, to) : Promise.resolve(),
            receive: (options) => socket.receive(options),
            close: () => socket.close(),
            [Symbol.dispose]: () => socket.close(),
          };
        },
      };
      const timer = setInterval(() => left = Math.min(burst, left + 1), 100);
      const found = await measurePathMtu({ network: limited, server: SERVER });
      clearInterval(timer);
      assertEquals(found.lostBytes, null, `${burst} packets at once`);
    });
  }
});

Deno.test("measurePathMtu() knows nothing of a server that is silent, and ends within a second or so", async () => {
  await withScene({}, async ({ client }) => {
    const startedAt = performance.now();
    const found = await measurePathMtu({ network: client.network, server: SERVER });
    assertEquals([found.answeredBytes, found.lostBytes, found.rttMs], [null, null, null]);
    assertEquals(mtuFinding(found), undefined);
    assert(performance.now() - startedAt <= 1100);
  });
});

Deno.test("measurePathMtu() is not misled by junk, nor by answers from elsewhere", async () => {
  await withScene({ link: { mtu: 1280 } }, async ({ client, server, internet }) => {
    await using _honest = await serveStun({ network: server.network, address: "203.0.113.10" });
    const liar = internet.host("liar", { addresses: ["203.0.113.66"] });
    using socket = await server.network.bindUdp(SERVER);
    using other = await liar.network.bindUdp({ ip: "203.0.113.66", port: 3478 });
    const finished = measurePathMtu({ network: client.network, server: SERVER });
    const { from, data } = await socket.receive();
    await socket.send(new Uint8Array([1, 2, 3]), from);
    await socket.send(crypto.getRandomValues(new Uint8Array(1200)), from);
    await socket.send(data, from); // a request is no answer
    await other.send(data, from);
    const found = await finished;
    assertEquals([found.answeredBytes, found.lostBytes], [null, null]);
  });
});

Deno.test("measurePathMtu() ends with what it knows on abort", async () => {
  await withServer({ link: { mtu: 1280 } }, async ({ client }) => {
    const signal = AbortSignal.timeout(80);
    const found = await measurePathMtu({ network: client.network, server: SERVER, signal });
    assertEquals([found.answeredBytes, found.lostBytes], [1280, null]); // too early to tell
  });
});

for (const mtu of [1280, 1420]) {
  Deno.test(`testNat() names an MTU hole of ${mtu} bytes, and takes hardly longer for it`, async () => {
    const testWith = (link: LinkBehavior) =>
      withServer({ link }, ({ test }) => test({ families: [4] }));
    const [without, hole] = [await testWith({}), await testWith({ mtu })];
    assertEquals(without.findings.map(({ kind }) => kind), []);
    assertEquals(hole.findings.map(({ kind }) => kind), ["mtu"]);
    assert(hole.elapsedMs <= without.elapsedMs + 300, `${hole.elapsedMs}, ${without.elapsedMs}`);
    assertEquals(hole.udp.ipv4!.reachable, true);
  });
}

Deno.test("testNat() takes no longer to measure the path MTU where all is well", async () => {
  for (const name of ["fullCone", "portRestricted"] as const) {
    await withServer({ nat: NAT_BEHAVIORS[name] }, async ({ test }) => {
      const { elapsedMs, udp, tcp } = await test({ families: [4] });
      const tests = Math.max(udp.ipv4!.elapsedMs, tcp.ipv4!.elapsedMs);
      assert(elapsedMs <= tests + 60, `${elapsedMs} and ${tests}`);
    });
  }
});

Deno.test("testNat() names an MTU hole even where everything else is known within a few milliseconds", async () => {
  const link = { delayMs: 0.5, mtu: 1420 };
  await withServer({ nat: NAT_BEHAVIORS.fullCone, link }, async ({ test }) => {
    const { findings } = await test({ families: [4] });
    assertEquals(findings.map(({ kind }) => kind), ["mtu"]);
  });
});
