/** The same clients over the system's sockets, on loopback, which is what unit tests may use. */

import { assertEquals } from "@std/assert";
import { systemNetwork as network } from "../../lib/net/system.ts";
import { natPmpMapper } from "../../lib/portmap/nat_pmp/client.ts";
import { pcpMapper } from "../../lib/portmap/pcp/client.ts";
import { FakeGateway } from "./fake_gateway/fake_gateway.ts";

Deno.test("PCP and NAT-PMP map, renew and release over real sockets", async () => {
  using gateway = await FakeGateway.start(network, { ip: "127.0.0.1", port: 0 });
  const { ip, port } = gateway.address;
  for (
    const mapper of [
      pcpMapper(ip, { network, port, localIp: "127.0.0.1" }),
      natPmpMapper(ip, { network, port }),
    ]
  ) {
    const grant = await mapper.map({
      protocol: "udp",
      internal: { ip: "127.0.0.1", port: 8080 },
      lifetimeSeconds: 60,
      description: "",
    });
    assertEquals(grant.external, { ip: "203.0.113.7", port: 8080 });
    assertEquals((await mapper.renew(grant)).external, grant.external);
    await mapper.release(grant);
    assertEquals(gateway.table.entries, []);
  }
});

Deno.test("PCP opens a pinhole over real IPv6 sockets", async () => {
  using gateway = await FakeGateway.start(network, { ip: "::1", port: 0 });
  const { ip, port } = gateway.address;
  const mapper = pcpMapper(ip, { network, port, localIp: "::1" });
  const internal = { ip: "::1", port: 8080 };
  const grant = await mapper.map({
    protocol: "tcp",
    internal,
    lifetimeSeconds: 60,
    description: "",
  });
  assertEquals(grant.external, internal);
});
