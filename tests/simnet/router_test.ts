import { assert, assertEquals, assertFalse, assertNotEquals } from "@std/assert";
import { delay } from "@std/async/delay";
import type { TransportAddress } from "../../lib/net/address.ts";
import type { UdpSocket } from "../../lib/net/network.ts";
import { NAT_BEHAVIORS, natBehavior } from "../../lab/model/nat_behavior.ts";
import { arrives, at, toBytes, toText } from "./fixtures.ts";
import { Internet } from "./internet.ts";
import { VirtualTime } from "./virtual_time.ts";

const ANY = { ip: "0.0.0.0", port: 0 };

for (const mapping of behaviors()) {
  for (const filtering of behaviors()) {
    Deno.test(`UDP passes a NAT with ${mapping} mapping and ${filtering} filtering correctly`, async () => {
      using time = new VirtualTime();
      const internet = new Internet();
      const home = internet.router("home", {
        behavior: natBehavior({ mapping, filtering, allocation: { kind: "sequential", delta: 1 } }),
        link: { delayMs: 10 },
      });
      const inside = internet.host("inside", { behind: home });
      const server = internet.host("server", { addresses: ["203.0.113.9", "203.0.113.10"] });
      await time.run(async () => {
        // One peer at a time, because a session that a peer opened persists once the inside answers it.
        using socket = await inside.network.bindUdp(ANY);
        using prober = await inside.network.bindUdp(ANY);
        using a1p1 = await server.network.bindUdp({ ip: "203.0.113.9", port: 1 });
        using a1p2 = await server.network.bindUdp({ ip: "203.0.113.9", port: 2 });
        using a2p1 = await server.network.bindUdp({ ip: "203.0.113.10", port: 1 });

        const seenBy = async (peer: UdpSocket, from: UdpSocket) => {
          await from.send(toBytes("who am I"), peer.local);
          return (await peer.receive()).from;
        };
        const reaches = async (from: UdpSocket, external: TransportAddress) => {
          await from.send(toBytes("may I"), external);
          return await arrives(socket);
        };

        const external = await seenBy(a1p1, socket);
        assertEquals(external.ip, home.nat.externalIps[0]!);
        assert(await reaches(a1p1, external), "the peer itself");
        assertEquals(await reaches(a1p2, external), filtering !== "address-and-port-dependent");
        assertEquals(await reaches(a2p1, external), filtering === "endpoint-independent");

        const { port } = await seenBy(a1p1, prober);
        const forPort = await seenBy(a1p2, prober);
        const forIp = await seenBy(a2p1, prober);
        assertEquals(forPort.port === port, mapping !== "address-and-port-dependent");
        assertEquals(forIp.port === port, mapping === "endpoint-independent");
      });
      assertEquals(internet.openSockets(), []);
    });
  }
}

Deno.test("two hosts behind one NAT have different ports outside, and reach each other directly", async () => {
  using time = new VirtualTime();
  const internet = new Internet();
  const home = internet.router("home", { behavior: NAT_BEHAVIORS.portRestricted });
  const hosts = [internet.host("a", { behind: home }), internet.host("b", { behind: home })];
  const server = internet.host("server");
  await time.run(async () => {
    using peer = await server.network.bindUdp(ANY);
    using a = await hosts[0]!.network.bindUdp({ ip: "0.0.0.0", port: 5000 });
    using b = await hosts[1]!.network.bindUdp({ ip: "0.0.0.0", port: 5000 });
    await a.send(toBytes("x"), at(server, peer.local.port));
    await b.send(toBytes("x"), at(server, peer.local.port));
    const [first, second] = [(await peer.receive()).from, (await peer.receive()).from];
    assertEquals(first.ip, second.ip);
    assertNotEquals(first.port, second.port);
    await a.send(toBytes("x"), at(hosts[1]!, b.local.port));
    assertEquals((await b.receive()).from, at(hosts[0]!, a.local.port));
  });
});

for (const hairpinning of [true, false]) {
  Deno.test(`a NAT ${hairpinning ? "with" : "without"} hairpinning treats its own address correctly`, async () => {
    using time = new VirtualTime();
    const internet = new Internet();
    const home = internet.router("home", {
      behavior: natBehavior({ hairpinning }, NAT_BEHAVIORS.fullCone),
    });
    const inside = internet.host("inside", { behind: home });
    const server = internet.host("server");
    await time.run(async () => {
      using peer = await server.network.bindUdp(ANY);
      using a = await inside.network.bindUdp(ANY);
      using b = await inside.network.bindUdp(ANY);
      await a.send(toBytes("x"), at(server, peer.local.port));
      const { from } = await peer.receive();
      await b.send(toBytes("x"), from);
      assertEquals(await arrives(a), hairpinning);
    });
  });
}

Deno.test("a home NAT behind a carrier NAT is translated twice", async () => {
  using time = new VirtualTime();
  const internet = new Internet();
  const carrier = internet.router("carrier", {
    behavior: NAT_BEHAVIORS.symmetric,
    lan: "100.64.0",
    externalIps: ["198.51.100.1"],
    link: { delayMs: 8 },
  });
  const home = internet.router("home", {
    behavior: NAT_BEHAVIORS.portRestricted,
    behind: carrier,
    link: { delayMs: 2 },
  });
  const inside = internet.host("inside", { behind: home });
  const server = internet.host("server");
  await time.run(async () => {
    using peer = await server.network.bindUdp(ANY);
    using socket = await inside.network.bindUdp(ANY);
    await socket.send(toBytes("ping"), at(server, peer.local.port));
    const { from } = await peer.receive();
    assertEquals(time.nowMs, 10);
    assertEquals(from.ip, "198.51.100.1");
    assert(home.nat.externalIps[0]!.startsWith("100.64.0."));
    await peer.send(toBytes("pong"), from);
    assertEquals(toText((await socket.receive()).data), "pong");
    assertEquals(time.nowMs, 20);
  });
});

Deno.test("a firewall keeps the address and admits only answers", async () => {
  using time = new VirtualTime();
  const internet = new Internet();
  const wall = internet.router("wall", { behavior: NAT_BEHAVIORS.firewall });
  const inside = internet.host("inside", { behind: wall, addresses: ["203.0.113.77"] });
  const server = internet.host("server");
  await time.run(async () => {
    using peer = await server.network.bindUdp(ANY);
    using socket = await inside.network.bindUdp(ANY);
    await peer.send(toBytes("unasked"), at(inside, socket.local.port));
    assertFalse(await arrives(socket));
    await socket.send(toBytes("ask"), at(server, peer.local.port));
    assertEquals((await peer.receive()).from, at(inside, socket.local.port));
    await peer.send(toBytes("answer"), at(inside, socket.local.port));
    assert(await arrives(socket));
  });
});

Deno.test("IPv6 is routed through a home router, untranslated but filtered", async () => {
  using time = new VirtualTime();
  const internet = new Internet();
  const home = internet.router("home", { behavior: NAT_BEHAVIORS.portRestricted });
  const inside = internet.host("inside", {
    behind: home,
    addresses: ["192.168.7.2", "2001:db8:1::2"],
  });
  const server = internet.host("server", { addresses: ["2001:db8::1"] });
  const any = { ip: "::", port: 0 };
  await time.run(async () => {
    using peer = await server.network.bindUdp(any);
    using socket = await inside.network.bindUdp(any);
    const address = { ip: "2001:db8:1::2", port: socket.local.port };
    await peer.send(toBytes("unasked"), address);
    assertFalse(await arrives(socket));
    await socket.send(toBytes("ask"), at(server, peer.local.port));
    assertEquals((await peer.receive()).from, address);
    await peer.send(toBytes("answer"), address);
    assert(await arrives(socket));
  });
});

Deno.test("a NAT that forgets a mapping admits nothing until the next packet from inside", async () => {
  using time = new VirtualTime();
  const internet = new Internet();
  const home = internet.router("home", {
    behavior: natBehavior({ udpTimeoutMs: 30_000, udpInboundRefresh: false }),
  });
  const inside = internet.host("inside", { behind: home });
  const server = internet.host("server");
  await time.run(async () => {
    using peer = await server.network.bindUdp(ANY);
    using socket = await inside.network.bindUdp(ANY);
    await socket.send(toBytes("x"), at(server, peer.local.port));
    const { from } = await peer.receive();
    await delay(29_000);
    await peer.send(toBytes("x"), from);
    assert(await arrives(socket));
    await delay(2_000);
    await peer.send(toBytes("x"), from);
    assertFalse(await arrives(socket));
  });
});

Deno.test("a router that blocks UDP drops all of it", async () => {
  using time = new VirtualTime();
  const internet = new Internet();
  const home = internet.router("home", { behavior: NAT_BEHAVIORS.fullCone, blocks: ["udp"] });
  const inside = internet.host("inside", { behind: home });
  const server = internet.host("server");
  await time.run(async () => {
    using peer = await server.network.bindUdp(ANY);
    using socket = await inside.network.bindUdp(ANY);
    await socket.send(toBytes("x"), at(server, peer.local.port));
    assertFalse(await arrives(peer));
    home.blocks = [];
    await socket.send(toBytes("x"), at(server, peer.local.port));
    assert(await arrives(peer));
  });
});

function behaviors() {
  return ["endpoint-independent", "address-dependent", "address-and-port-dependent"] as const;
}
