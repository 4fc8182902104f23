import { assertEquals, assertMatch } from "@std/assert";
import { synthesizeIp } from "../../lib/net/address.ts";
import { stunBinding } from "../../lib/stun/stun_binding.ts";
import { PRIMARY, SERVER_IPS, withServer } from "../scenes/nat_scene.ts";
import { behindNat64, PREFIX } from "../scenes/nat64_scene.ts";

Deno.test("testNat() reaches servers by address through a NAT64, and uses the IPv4 address they see", async () => {
  await withServer({}, async ({ client, home, test }) => {
    const network = behindNat64(client.network);
    const { udp, tcp, findings, verdict } = await test({ network });
    assertEquals([udp.ipv4, tcp.ipv4], [null, null]);
    assertEquals([udp.ipv6?.reachable, tcp.ipv6?.reachable], [true, true]);
    assertMatch(udp.ipv6!.external!, new RegExp(`^${home.nat.externalIps[0]}:`));
    assertEquals(udp.ipv6!.translated, true);
    assertEquals(findings[0]?.kind, "nat64");
    assertEquals(verdict.difficulty, "easy");
    // The alternate address, which the server tells as IPv4, is asked through the NAT64, too.
    for (const report of [udp.ipv6!, tcp.ipv6!]) {
      assertEquals(report.mapping.behavior, "endpoint-independent");
      assertEquals(report.filtering.behavior, "address-and-port-dependent");
      assertMatch(report.external!, new RegExp(`^${home.nat.externalIps[0]}:`));
    }
  });
});

Deno.test("testNat() reaches servers by name through a NAT64 with DNS64", async () => {
  await withServer({}, async ({ client, internet, test }) => {
    internet.names.set("stun.example.net", [SERVER_IPS[0]]);
    const network = behindNat64(client.network);
    const { udp } = await test({ network, servers: ["stun.example.net"] });
    assertEquals([udp.ipv4, udp.ipv6?.reachable], [null, true]);
  });
});

for (
  const [what, server, hasDns64] of [
    ["by address", PRIMARY, true],
    ["by a name with an A record, with DNS64", "stun.example.net", true],
    ["by a name with an A record, without DNS64", "stun.example.net", false],
  ] as const
) {
  Deno.test(`stunBinding() reaches a server ${what} through a NAT64`, async () => {
    await withServer({}, async ({ client, internet, home }) => {
      internet.names.set("stun.example.net", [SERVER_IPS[0]]);
      const network = behindNat64(client.network, { hasDns64 });
      const { mapped, server: asked } = await stunBinding(server, { network });
      assertEquals(mapped.ip, home.nat.externalIps[0]);
      assertEquals(asked.ip, synthesizeIp(SERVER_IPS[0], PREFIX));
    });
  });
}
