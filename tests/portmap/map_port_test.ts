import { assert, assertEquals, assertRejects } from "@std/assert";
import { NoMappingError } from "../../lib/portmap/mapper.ts";
import { GATEWAY_IP } from "./fixtures.ts";
import { atMapPortHome, type MapPortHomeOptions, UPNP_ALONE } from "./map_port_home.ts";

Deno.test("mapPort() takes PCP's grant where a gateway speaks everything, after one round trip", async () => {
  await atMapPortHome({ igd: {} }, async ({ igd, map, open }) => {
    const startMs = performance.now();
    await using mapping = await map();
    assert(performance.now() - startMs < 3);
    assertEquals(mapping.report, {
      protocol: "pcp",
      transport: "tcp",
      internal: "192.168.1.2:8080",
      external: "203.0.113.7:8080",
      lifetimeSeconds: 3600,
      gateway: GATEWAY_IP,
      verdict: "unverified",
    });
    assertEquals(open(), [8080]);
    await mapping[Symbol.asyncDispose]();
    assertEquals(open(), []);
    assertEquals(igd!.actions, []);
  });
});

const speakers: readonly (readonly [string, MapPortHomeOptions, string, number])[] = [
  ["PCP", { udp: { speaks: ["pcp"] } }, "pcp", 3],
  ["NAT-PMP", { udp: { speaks: ["nat-pmp"] } }, "nat-pmp", 10],
  ["UPnP", UPNP_ALONE, "upnp", 120],
];

for (const [name, options, protocol, limitMs] of speakers) {
  for (const transport of ["tcp", "udp"] as const) {
    Deno.test(`mapPort() maps ${transport.toUpperCase()} with a gateway that speaks ${name} alone`, async () => {
      await atMapPortHome(options, async ({ map, open }) => {
        const startMs = performance.now();
        const mapping = await map({ protocol: transport });
        assertEquals([mapping.protocol, mapping.transport], [protocol, transport]);
        assert(performance.now() - startMs < limitMs, `${performance.now() - startMs} ms`);
        assertEquals(open(), [8080]);
        await mapping[Symbol.asyncDispose]();
        await mapping[Symbol.asyncDispose]();
        assertEquals(open(), []);
      });
    });
  }
}

Deno.test("mapPort() asks only by the protocols that it is told", async () => {
  await atMapPortHome({ igd: {} }, async ({ gateway, map }) => {
    await using mapping = await map({ protocols: ["upnp"] });
    assertEquals(mapping.protocol, "upnp");
    assertEquals(gateway.arrived, []);
  });
});

Deno.test("mapPort() asks by NAT-PMP only after PCP has failed, if it is strict", async () => {
  await atMapPortHome({ udp: { speaks: ["nat-pmp"] } }, async ({ gateway, map }) => {
    await using mapping = await map({ strict: true });
    assertEquals(mapping.protocol, "nat-pmp");
    assertEquals(gateway.arrived.map(({ data }) => data[0]), [2, 0, 0]);
  });
});

Deno.test("mapPort() says within 2 s that no router helps, and what each protocol came to", async () => {
  await atMapPortHome({ udp: { speaks: [] } }, async ({ map }) => {
    const startMs = performance.now();
    const error = await assertRejects(() => map(), NoMappingError);
    assert(performance.now() - startMs <= 2000);
    assertEquals(
      error.message,
      "Cannot map TCP port 8080: no gateway does it (192.168.1.1: PCP silent, UPnP silent, NAT-PMP silent)",
    );
    assertEquals(
      error.attempts.map(({ strategy, outcome, remedy }) => [strategy, outcome, remedy]),
      [
        ["pcp", "timed-out", "PCP is off or unknown to the router: enable it there"],
        ["upnp", "timed-out", "UPnP is off: enable it in the router"],
        ["nat-pmp", "timed-out", "NAT-PMP is off or unknown to the router: enable it there"],
      ],
    );
  });
});

Deno.test("mapPort() without a gateway says so", async () => {
  await atMapPortHome({}, async ({ map }) => {
    const error = await assertRejects(() => map({ family: 6 }), NoMappingError);
    assertEquals(error.message, "Cannot map TCP port 8080: no gateway is known");
  });
});

Deno.test("mapPort() refuses what is out of range before it asks anybody", async () => {
  await atMapPortHome({}, async ({ gateway, map }) => {
    const wrong = [
      { internalPort: 0 },
      { externalPort: 65_536 },
      { lifetimeSeconds: 0 },
      { timeoutMs: 0 },
      { checkSeconds: -1 },
      { secret: new Uint8Array(15) },
    ];
    for (const options of wrong) await assertRejects(() => map(options), RangeError);
    for (const options of [{ protocols: [] }, { gateway: "router" }, { servers: ["a b"] }]) {
      await assertRejects(() => map(options), TypeError);
    }
    assertEquals(gateway.arrived, []);
  });
});

Deno.test("mapPort() rejects with the reason on abort, and leaves nothing open, whenever that is", async () => {
  for (const delayMs of [0, 0.5, 1.5, 5, 50]) {
    for (const options of [{}, { udp: { speaks: ["nat-pmp"] } }, UPNP_ALONE] as const) {
      await atMapPortHome(options, async ({ map, open }) => {
        const abort = new AbortController();
        setTimeout(() => abort.abort("enough"), delayMs);
        try {
          const mapping = await map({ signal: abort.signal });
          for await (const event of mapping.events) assert(event !== undefined);
        } catch (error) {
          assertEquals(error, "enough");
        }
        assertEquals(open(), []);
      });
    }
  }
});

Deno.test("mapPort() with the secret of a run that died takes over what that one left", async () => {
  const secret = new Uint8Array(16).fill(7);
  await atMapPortHome({ udp: { speaks: ["pcp"] } }, async ({ gateway, map, open }) => {
    const first = await map({ secret });
    await first.leave();
    assertEquals(open(), [8080]);
    await assertRejects(() => map(), NoMappingError, "PCP refused");
    await using second = await map({ secret });
    assertEquals(second.external.port, 8080);
    await second[Symbol.asyncDispose]();
    assertEquals(gateway.table.entries, []);
  });
});
