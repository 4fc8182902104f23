/** PCP by the anycast address of RFC 7723. */

import { assertEquals, assertRejects } from "@std/assert";
import { mapPort, type MapPortOptions } from "../../lib/portmap/map_port.ts";
import { NoMappingError } from "../../lib/portmap/mapper.ts";
import type { PortMapping } from "../../lib/portmap/mapping.ts";
import { PCP_ANYCAST } from "../../lib/portmap/pcp/client.ts";
import { NAT_BEHAVIORS } from "../../lab/model/nat_behavior.ts";
import { simulate } from "../simnet/simulate.ts";
import { FakeGateway, type FakeGatewayOptions } from "./fake_gateway/fake_gateway.ts";
import { GATEWAY_IP, HOST_IP } from "./fixtures.ts";

interface Carrier {
  readonly gateway: FakeGateway;
  readonly anycast: FakeGateway;
  map(options?: Partial<MapPortOptions>): Promise<PortMapping>;
}

/** A host whose gateway is not the PCP server of its network. */
function atCarrier(
  options: { readonly gateway: FakeGatewayOptions; readonly anycast: FakeGatewayOptions },
  job: (carrier: Carrier) => Promise<void>,
): Promise<void> {
  return simulate(async ({ internet }) => {
    const behind = internet.router("carrier", {
      behavior: NAT_BEHAVIORS.portRestricted,
      lan: "192.168.1",
    });
    const start = async (name: string, ip: string, options: FakeGatewayOptions) => {
      const { network } = internet.host(name, { behind, addresses: [ip] });
      return await FakeGateway.start(network, { ip, port: 5351 }, options);
    };
    using gateway = await start("gateway", GATEWAY_IP, options.gateway);
    using anycast = await start("anycast", PCP_ANYCAST.ipv4, options.anycast);
    const { network } = internet.host("host", {
      behind,
      addresses: [HOST_IP],
      gateways: [GATEWAY_IP],
    });
    await job({
      gateway,
      anycast,
      map: (options) => mapPort({ protocol: "tcp", internalPort: 8080, network, ...options }),
    });
  });
}

Deno.test("mapPort() asks the PCP server at the anycast address after the gateway was silent, and renews there", async () => {
  await atCarrier({ gateway: { speaks: [] }, anycast: { speaks: ["pcp"] } }, async (carrier) => {
    const startMs = performance.now();
    const mapping = await carrier.map();
    assertEquals([mapping.protocol, mapping.gateway], ["pcp", PCP_ANYCAST.ipv4]);
    assertEquals(Math.round((performance.now() - startMs) / 1000), 2);
    assertEquals(carrier.anycast.table.entries.length, 1);
    await mapping[Symbol.asyncDispose]();
    assertEquals(carrier.anycast.table.entries, []);
    await using again = await carrier.map();
    assertEquals(again.gateway, PCP_ANYCAST.ipv4);
  });
});

Deno.test("mapPort() tries the anycast address once per network if nothing answers there", async () => {
  await atCarrier({ gateway: { speaks: [] }, anycast: { speaks: [] } }, async (carrier) => {
    await assertRejects(() => carrier.map({ protocols: ["pcp"] }), NoMappingError);
    const asked = carrier.anycast.arrived.length;
    assertEquals(asked > 0, true);
    const error = await assertRejects(() => carrier.map({ protocols: ["pcp"] }), NoMappingError);
    assertEquals(carrier.anycast.arrived.length, asked);
    assertEquals(error.attempts.map(({ remote }) => remote), [GATEWAY_IP]);
  });
});

Deno.test("mapPort() does not ask the anycast address if the gateway answers by PCP, even a refusal", async () => {
  const refuses: FakeGatewayOptions = {
    speaks: ["pcp"],
    script: ({ usual }) =>
      usual().map(({ data }) => ({ data: data.map((byte, at) => at === 3 ? 2 : byte) })),
  };
  for (const gateway of [refuses, { speaks: ["pcp"] }] as const) {
    await atCarrier({ gateway, anycast: { speaks: ["pcp"] } }, async (carrier) => {
      await carrier.map().then((mapping) => mapping[Symbol.asyncDispose](), () => {});
      assertEquals(carrier.anycast.arrived, []);
    });
  }
});
