import { assert, assertEquals, assertRejects } from "@std/assert";
import { listMappings } from "../../lib/portmap/admin.ts";
import { NoMappingError, SILENCE_REMEDIES } from "../../lib/portmap/mapper.ts";
import { simulate } from "../simnet/simulate.ts";
import { GATEWAY_IP } from "./fixtures.ts";
import { atMapPortHome, type MapPortHomeOptions, UPNP_ALONE } from "./map_port_home.ts";

Deno.test("mapPort() takes PCP's grant after one round trip if the gateway speaks everything", async () => {
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
    Deno.test(`mapPort() maps ${transport.toUpperCase()} on a gateway that speaks only ${name}`, async () => {
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

Deno.test("mapPort() uses only the protocols that the caller names", async () => {
  await atMapPortHome({ igd: {} }, async ({ gateway, map }) => {
    await using mapping = await map({ protocols: ["upnp"] });
    assertEquals(mapping.protocol, "upnp");
    assertEquals(gateway.arrived, []);
  });
});

Deno.test("mapPort() uses NAT-PMP only after PCP has failed if strict", async () => {
  await atMapPortHome({ udp: { speaks: ["nat-pmp"] } }, async ({ gateway, map }) => {
    await using mapping = await map({ strict: true });
    assertEquals(mapping.protocol, "nat-pmp");
    assertEquals(gateway.arrived.map(({ data }) => data[0]), [2, 0, 0]);
  });
});

Deno.test("mapPort() reports after 5 s that every gateway failed, and how each protocol did", async () => {
  await atMapPortHome({ udp: { speaks: [] } }, async ({ map }) => {
    const startMs = performance.now();
    const error = await assertRejects(() => map(), NoMappingError);
    assert(performance.now() - startMs <= 5300);
    assertEquals(
      error.message,
      "Cannot map TCP port 8080: every gateway failed (192.168.1.1: PCP silent, NAT-PMP silent, UPnP silent; " +
        "192.0.0.9: PCP silent)",
    );
    assertEquals(
      error.attempts.map(({ strategy, outcome, remedy }) => [strategy, outcome, remedy]),
      [
        ["pcp", "timed-out", SILENCE_REMEDIES["pcp"]],
        ["pcp", "timed-out", "Nothing: only some providers answer PCP at this address"],
        ["nat-pmp", "timed-out", SILENCE_REMEDIES["nat-pmp"]],
        ["upnp", "timed-out", SILENCE_REMEDIES["upnp"]],
      ],
    );
  });
});

Deno.test("mapPort() says so if there is no gateway", async () => {
  await atMapPortHome({}, async ({ map }) => {
    const error = await assertRejects(() => map({ family: 6 }), NoMappingError);
    assertEquals(error.message, "Cannot map TCP port 8080: no gateway found");
  });
});

Deno.test("mapPort() rejects options out of range before it sends anything", async () => {
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

Deno.test("mapPort() rejects with the reason on abort at any time, and leaves nothing open", async () => {
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

Deno.test("mapPort() takes over the mapping of a crashed run with the same secret", async () => {
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

Deno.test("listMappings() without a gateway says what it could not do", async () => {
  await simulate(async ({ internet }) => {
    const { network } = internet.host("host", { addresses: ["198.51.100.7"] });
    await assertRejects(
      () => listMappings({ network }),
      NoMappingError,
      "Cannot list mappings: no gateway found",
    );
  });
});
