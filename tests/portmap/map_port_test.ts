import { assert, assertEquals, assertRejects } from "@std/assert";
import { mapPort } from "../../lib/portmap/map_port.ts";
import { atHome, GATEWAY_IP } from "./fixtures.ts";

Deno.test("mapPort() takes PCP's grant where a gateway speaks everything, after one round trip", async () => {
  await atHome({}, async ({ gateway, network }) => {
    const startMs = performance.now();
    await using mapping = await mapPort({ protocol: "tcp", internalPort: 8080, network });
    assertEquals(mapping.report, {
      protocol: "pcp",
      transport: "tcp",
      internal: "192.168.1.2:8080",
      external: "203.0.113.7:8080",
      lifetimeSeconds: 3600,
      gateway: GATEWAY_IP,
      verdict: "unverified",
    });
    assert(performance.now() - startMs < 10);
    assertEquals(gateway.table.entries.length, 1);
    await mapping[Symbol.asyncDispose]();
    assertEquals(gateway.table.entries, []);
  });
});

Deno.test("mapPort() says within 2 s that no router helps, and why", async () => {
  await atHome({ speaks: [] }, async ({ network }) => {
    const startMs = performance.now();
    const error = await assertRejects(() =>
      mapPort({ protocol: "tcp", internalPort: 80, network })
    );
    console.log(error, performance.now() - startMs);
  });
});
