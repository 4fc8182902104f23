import { assert, assertEquals, assertRejects } from "@std/assert";
import { NetworkError } from "../../lib/base/errors.ts";
import { discoverIgds } from "../../lib/portmap/upnp/discovery.ts";
import { FakeIgd } from "./fake_gateway/fake_igd.ts";
import { HOST_IP } from "./fixtures.ts";
import { atIgdHome, GATEWAY_IP6, HOST_IP6 } from "./igd_home.ts";

const LINKS = [{ local: HOST_IP }, { local: HOST_IP6 }];

Deno.test("discoverIgds() finds each gateway of a link once, without knowing any", async () => {
  await atIgdHome({}, async ({ igd, network, internet, router, time }) => {
    const second = internet.host("second", { behind: router, addresses: ["192.168.1.254"] });
    using _second = await FakeIgd.start(second.network, "192.168.1.254");
    const found: string[] = [];
    for await (const { device, responder } of discoverIgds(network, { links: [LINKS[0]!] })) {
      assertEquals(device.location.address.ip, responder);
      found.push(responder);
    }
    assertEquals(found.sort(), ["192.168.1.1", "192.168.1.254"]);
    assert(time.nowMs <= 5010);
    assertEquals(igd.searches.length, 19); // by multicast alone
  });
});

Deno.test("discoverIgds() never searches by IPv4 and IPv6 within 100 ms", async () => {
  await atIgdHome({ onSearch: () => [] }, async ({ igd, network, gatewayNetwork }) => {
    using igd6 = await FakeIgd.start(gatewayNetwork, GATEWAY_IP6, { httpPort: 5001 });
    const found = [];
    for await (const { responder } of discoverIgds(network, { links: LINKS })) {
      found.push(responder);
    }
    assertEquals(found, [GATEWAY_IP6]);
    const gapsMs = igd6.searches.flatMap(({ atMs }) =>
      igd.searches.map((search) => Math.abs(atMs - search.atMs))
    );
    assert(igd6.searches.length > 5 && Math.min(...gapsMs) >= 100, `${Math.min(...gapsMs)} ms`);
  });
});

Deno.test("discoverIgds() stops searching when its caller stops reading", async () => {
  await atIgdHome({}, async ({ igd, network, time }) => {
    for await (const _ of discoverIgds(network, { links: LINKS })) break;
    assert(time.nowMs < 30);
    assertEquals(igd.searches.length, 1);
  });
});

Deno.test("discoverIgds() fails only if no link can be searched", async () => {
  await atIgdHome({}, async ({ network }) => {
    const foreign = { local: "192.168.1.99" };
    let found = 0;
    for await (const _ of discoverIgds(network, { links: [foreign, LINKS[0]!] })) found++;
    assertEquals(found, 1);
    const search = discoverIgds(network, { links: [foreign] });
    await assertRejects(() => search.next(), NetworkError, "not an address of");
  });
});
