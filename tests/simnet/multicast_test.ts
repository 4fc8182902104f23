import { assertEquals } from "@std/assert";
import { NAT_BEHAVIORS } from "../../lab/model/nat_behavior.ts";
import { arrives, assertNetworkError, toBytes, toText } from "./fixtures.ts";
import { simulate } from "./simulate.ts";

const GROUP = "239.255.255.250";

function membership(ip: string) {
  return { multicast: { groups: [{ group: GROUP, interfaceIp: ip }] } };
}

Deno.test("a datagram to a group reaches only its members on the link", async () => {
  await simulate(async ({ internet }) => {
    const home = internet.router("home", { behavior: NAT_BEHAVIORS.portRestricted });
    const names = ["sender", "member", "another", "outsider"];
    const hosts = names.map((name) => internet.host(name, { behind: home }));
    const far = internet.host("far");
    using sender = await hosts[0]!.network.bindUdp({ ip: "0.0.0.0", port: 0 });
    using member = await hosts[1]!.network.bindUdp({ ip: "0.0.0.0", port: 1900 }, membership("::"));
    using another = await hosts[2]!.network.bindUdp({ ip: "0.0.0.0", port: 99 }, membership("::"));
    using outsider = await hosts[3]!.network.bindUdp({ ip: "0.0.0.0", port: 1900 });
    using remote = await far.network.bindUdp({ ip: "0.0.0.0", port: 1900 }, membership("::"));
    await sender.send(toBytes("hello"), { ip: GROUP, port: 1900 });
    const { data, from } = await member.receive();
    assertEquals(toText(data), "hello");
    assertEquals(from, { ip: hosts[0]!.addresses[0]!, port: sender.local.port });
    const silent = await Promise.all([another, outsider, remote].map(arrives));
    assertEquals(silent, [false, false, false]);
  });
});

Deno.test("group members share a port, and receive their own host's datagrams", async () => {
  await simulate(async ({ internet }) => {
    const { network } = internet.host("a");
    using first = await network.bindUdp({ ip: "0.0.0.0", port: 5350 }, membership("::"));
    using second = await network.bindUdp({ ip: "0.0.0.0", port: 5350 }, membership("::"));
    await assertNetworkError(
      "address-in-use",
      () => network.bindUdp({ ip: "0.0.0.0", port: 5350 }),
    );
    await first.send(toBytes("x"), { ip: GROUP, port: 5350 });
    assertEquals(toText((await first.receive()).data), "x");
    assertEquals(toText((await second.receive()).data), "x");
  });
});
