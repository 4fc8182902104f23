/** A gateway behind another NAT. */

import { assertEquals, assertMatch } from "@std/assert";
import { mapPort, type MapPortOptions } from "../../lib/portmap/map_port.ts";
import type { PortMapping } from "../../lib/portmap/mapping.ts";
import { NAT_BEHAVIORS } from "../../lab/model/nat_behavior.ts";
import { simulate } from "../simnet/simulate.ts";
import { FakeGateway, type FakeGatewayOptions } from "./fake_gateway/fake_gateway.ts";

interface Nested {
  readonly inner: FakeGateway;
  readonly outer: FakeGateway;
  map(options?: Partial<MapPortOptions>): Promise<PortMapping>;
}

/** Host 192.168.1.2, gateway 192.168.1.1 alias 10.0.0.2, gateway 10.0.0.1 alias 203.0.113.7. */
function behindTwo(outside: FakeGatewayOptions, job: (nested: Nested) => Promise<void>) {
  return simulate(async ({ internet }) => {
    const behavior = NAT_BEHAVIORS.portRestricted;
    const carrier = internet.router("carrier", { behavior, lan: "10.0.0" });
    const home = internet.router("home", {
      behavior,
      lan: "192.168.1",
      behind: carrier,
      externalIps: ["10.0.0.2"],
    });
    const { network: outerNetwork } = internet.host("outer", {
      behind: carrier,
      addresses: ["10.0.0.1"],
    });
    const { network: innerNetwork } = internet.host("inner", {
      behind: home,
      addresses: ["192.168.1.1"],
    });
    const { network } = internet.host("host", { behind: home, addresses: ["192.168.1.2"] });
    using outer = await FakeGateway.start(outerNetwork, { ip: "10.0.0.1", port: 5351 }, outside);
    using inner = await FakeGateway.start(innerNetwork, { ip: "192.168.1.1", port: 5351 }, {
      externalIp: "10.0.0.2",
    });
    await job({
      inner,
      outer,
      map: (options) => mapPort({ protocol: "tcp", internalPort: 8080, network, ...options }),
    });
  });
}

for (const speaks of [["pcp"], ["nat-pmp"]] as const) {
  Deno.test(`mapPort() also opens the port on the upstream NAT by ${speaks}, and closes both`, async () => {
    await behindTwo({ speaks, externalIp: "44.0.0.7" }, async ({ inner, outer, map }) => {
      const mapping = await map();
      assertEquals(mapping.external, { ip: "44.0.0.7", port: 8080 });
      assertEquals(outer.table.entries[0]!.internal, { ip: "10.0.0.2", port: 8080 });
      assertEquals(mapping.verdict.kind, "unverified");
      assertMatch(
        mapping.verdict.evidence,
        /private: there is a second NAT upstream; the upstream router 10\.0\.0\.1 opened/,
      );
      await mapping[Symbol.asyncDispose]();
      assertEquals([inner.table.entries, outer.table.entries], [[], []]);
    });
  });
}

Deno.test("mapPort() does not claim that a mapping on the inner of two NATs is reachable", async () => {
  await behindTwo({ speaks: [] }, async ({ map }) => {
    await using mapping = await map();
    assertEquals(mapping.verdict.kind, "double-nat");
    assertMatch(
      mapping.verdict.evidence,
      /10\.0\.0\.2 is private: there is a second NAT upstream; upstream: every gateway failed .*10\.0\.0\.1: .*silent/,
    );
  });
});

Deno.test("mapPort() asks no gateway upstream of a carrier's NAT by default", async () => {
  await behindTwo({}, async ({ inner, outer, map }) => {
    inner.externalIp = "100.64.0.2";
    await using mapping = await map();
    assertEquals(mapping.verdict.kind, "cgnat");
    assertEquals(outer.arrived, []);
  });
});
