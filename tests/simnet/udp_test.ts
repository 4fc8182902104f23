import {
  assert,
  assertEquals,
  assertFalse,
  assertNotEquals,
  assertRejects,
  assertStrictEquals,
} from "@std/assert";
import { delay } from "@std/async/delay";
import type { TransportAddress } from "../../lib/net/address.ts";
import type { UdpSocket } from "../../lib/net/network.ts";
import { NAT_BEHAVIORS, natBehavior } from "../lab/nat_behavior.ts";
import { assertNetworkError } from "./assert_network_error.ts";
import type { Host } from "./host.ts";
import { Internet } from "./internet.ts";
import { VirtualTime } from "./virtual_time.ts";

const ANY: TransportAddress = { ip: "0.0.0.0", port: 0 };

Deno.test("a datagram arrives after the delay of both links, with its bytes and its sender", async () => {
  using time = new VirtualTime();
  const internet = new Internet();
  const a = internet.host("a", { link: { delayMs: 10 } });
  const b = internet.host("b", { link: { delayMs: 15 } });
  await time.run(async () => {
    using socket = await a.network.bindUdp({ ip: a.addresses[0]!, port: 5000 });
    using peer = await b.network.bindUdp(ANY);
    const sent = bytes("hello");
    await socket.send(sent, at(b, peer));
    sent.fill(0); // the socket has its own copy
    const { data, from } = await peer.receive();
    assertEquals(text(data), "hello");
    assertEquals(from, { ip: a.addresses[0]!, port: 5000 });
    assertEquals(time.nowMs, 25);
  });
  assertEquals(internet.openSockets(), []);
});

Deno.test("datagrams that nobody receives wait in order, and the newest are dropped", async () => {
  using time = new VirtualTime();
  const { a, b } = pair();
  await time.run(async () => {
    using socket = await a.network.bindUdp(ANY);
    using peer = await b.network.bindUdp(ANY);
    for (let i = 0; i < 300; i++) await socket.send(bytes(`${i}`), at(b, peer));
    await delay(1000);
    for (let i = 0; i < 256; i++) assertEquals(text((await peer.receive()).data), `${i}`);
    await assertRejects(() => peer.receive({ signal: AbortSignal.timeout(100) }), DOMException);
  });
});

Deno.test("an aborted receive rejects with the reason and loses no datagram", async () => {
  using time = new VirtualTime();
  const { a, b } = pair();
  await time.run(async () => {
    using socket = await a.network.bindUdp(ANY);
    using peer = await b.network.bindUdp(ANY);
    const reason = new Error("enough");
    const controller = new AbortController();
    setTimeout(() => controller.abort(reason), 5);
    const { signal } = controller;
    const error = await assertRejects(() => peer.receive({ signal }));
    assertStrictEquals(error, reason);
    await assertRejects(() => peer.receive({ signal }), Error, "enough");
    await socket.send(bytes("kept"), at(b, peer));
    assertEquals(text((await peer.receive()).data), "kept");
  });
});

Deno.test("a closed socket rejects who waits, sends nothing and frees its port", async () => {
  using time = new VirtualTime();
  const { internet, a, b } = pair();
  await time.run(async () => {
    const socket = await a.network.bindUdp({ ip: "0.0.0.0", port: 5000 });
    assertEquals(internet.openSockets(), ["a: UDP 0.0.0.0:5000"]);
    const waiting = assertNetworkError("closed", () => socket.receive());
    socket.close();
    socket.close();
    await waiting;
    await assertNetworkError("closed", () => socket.receive());
    await assertNetworkError(
      "closed",
      () => socket.send(bytes("x"), { ip: b.addresses[0]!, port: 1 }),
    );
    using again = await a.network.bindUdp({ ip: "0.0.0.0", port: 5000 });
    assertEquals(again.local, { ip: "0.0.0.0", port: 5000 });
  });
  assertEquals(internet.openSockets(), []);
});

Deno.test("bindUdp() chooses a different free port each time it is asked for port 0", async () => {
  using time = new VirtualTime();
  const { a } = pair();
  await time.run(async () => {
    const ports = new Set<number>();
    for (let i = 0; i < 100; i++) ports.add((await a.network.bindUdp(ANY)).local.port);
    assertEquals(ports.size, 100);
    assert([...ports].every((port) => port >= 32768 && port <= 60999));
  });
});

Deno.test("bindUdp() refuses an address in use and one that is not the host's", async () => {
  using time = new VirtualTime();
  const internet = new Internet();
  const { network } = internet.host("a", { addresses: ["192.0.2.1", "192.0.2.2", "2001:db8::1"] });
  await time.run(async () => {
    await network.bindUdp({ ip: "192.0.2.1", port: 53 });
    await network.bindUdp({ ip: "192.0.2.2", port: 53 });
    await network.bindUdp({ ip: "::", port: 53 });
    for (const ip of ["192.0.2.1", "0.0.0.0", "2001:db8::1"]) {
      await assertNetworkError("address-in-use", () => network.bindUdp({ ip, port: 53 }));
    }
    await assertNetworkError("address-not-available", () => {
      return network.bindUdp({ ip: "192.0.2.3", port: 53 });
    });
  });
});

Deno.test("a wildcard socket sends from the host's first address, or from the one it talks to itself by", async () => {
  using time = new VirtualTime();
  const internet = new Internet();
  const a = internet.host("a", { addresses: ["192.0.2.1", "192.0.2.2"] });
  const b = internet.host("b");
  await time.run(async () => {
    using socket = await a.network.bindUdp({ ip: "0.0.0.0", port: 7 });
    using peer = await b.network.bindUdp(ANY);
    await socket.send(bytes("x"), at(b, peer));
    assertEquals((await peer.receive()).from, { ip: "192.0.2.1", port: 7 });
    for (const ip of ["127.0.0.1", "192.0.2.2"]) {
      await socket.send(bytes("x"), { ip, port: 7 });
      assertEquals((await socket.receive()).from, { ip, port: 7 });
    }
  });
});

Deno.test("send() rejects what no system would send", async () => {
  using time = new VirtualTime();
  const { a, b } = pair();
  await time.run(async () => {
    using socket = await a.network.bindUdp(ANY);
    using v6 = await a.network.bindUdp({ ip: "::", port: 0 });
    const ip = b.addresses[0]!;
    await assertNetworkError("other", () => socket.send(new Uint8Array(65_508), { ip, port: 1 }));
    await assertNetworkError("other", () => socket.send(bytes("x"), { ip, port: 0 }));
    await assertNetworkError("address-not-available", () => {
      return socket.send(bytes("x"), { ip: "2001:db8::1", port: 1 });
    });
    await assertNetworkError(
      "unreachable",
      () => v6.send(bytes("x"), { ip: "2001:db8::1", port: 1 }),
    );
  });
});

for (const mapping of behaviors()) {
  for (const filtering of behaviors()) {
    Deno.test(`UDP passes a NAT with ${mapping} mapping and ${filtering} filtering as it should`, async () => {
      using time = new VirtualTime();
      const internet = new Internet();
      const home = internet.router("home", {
        behavior: natBehavior({ mapping, filtering, allocation: { kind: "sequential", delta: 1 } }),
        link: { delayMs: 10 },
      });
      const inside = internet.host("inside", { behind: home });
      const server = internet.host("server", { addresses: ["203.0.113.9", "203.0.113.10"] });
      await time.run(async () => {
        // Apart, because a session that a peer opened is kept when the inside answers it.
        using socket = await inside.network.bindUdp(ANY);
        using prober = await inside.network.bindUdp(ANY);
        using a1p1 = await server.network.bindUdp({ ip: "203.0.113.9", port: 1 });
        using a1p2 = await server.network.bindUdp({ ip: "203.0.113.9", port: 2 });
        using a2p1 = await server.network.bindUdp({ ip: "203.0.113.10", port: 1 });

        const seenBy = async (peer: UdpSocket, from: UdpSocket) => {
          await from.send(bytes("who am I"), peer.local);
          return (await peer.receive()).from;
        };
        const reaches = async (from: UdpSocket, external: TransportAddress) => {
          await from.send(bytes("may I"), external);
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
    await a.send(bytes("x"), at(server, peer));
    await b.send(bytes("x"), at(server, peer));
    const [first, second] = [(await peer.receive()).from, (await peer.receive()).from];
    assertEquals(first.ip, second.ip);
    assertNotEquals(first.port, second.port);
    await a.send(bytes("x"), at(hosts[1]!, b));
    assertEquals((await b.receive()).from, at(hosts[0]!, a));
  });
});

for (const hairpinning of [true, false]) {
  Deno.test(`a NAT ${hairpinning ? "with" : "without"} hairpinning treats its own address as it should`, async () => {
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
      await a.send(bytes("x"), at(server, peer));
      const { from } = await peer.receive();
      await b.send(bytes("x"), from);
      assertEquals(await arrives(a), hairpinning);
    });
  });
}

Deno.test("a carrier NAT above a home NAT translates twice", async () => {
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
    await socket.send(bytes("ping"), at(server, peer));
    const { from } = await peer.receive();
    assertEquals(time.nowMs, 10);
    assertEquals(from.ip, "198.51.100.1");
    assert(home.nat.externalIps[0]!.startsWith("100.64.0."));
    await peer.send(bytes("pong"), from);
    assertEquals(text((await socket.receive()).data), "pong");
    assertEquals(time.nowMs, 20);
  });
});

Deno.test("a firewall keeps the address and lets in only what was asked for", async () => {
  using time = new VirtualTime();
  const internet = new Internet();
  const wall = internet.router("wall", { behavior: NAT_BEHAVIORS.firewall });
  const inside = internet.host("inside", { behind: wall, addresses: ["203.0.113.77"] });
  const server = internet.host("server");
  await time.run(async () => {
    using peer = await server.network.bindUdp(ANY);
    using socket = await inside.network.bindUdp(ANY);
    await peer.send(bytes("unasked"), at(inside, socket));
    assertFalse(await arrives(socket));
    await socket.send(bytes("ask"), at(server, peer));
    assertEquals((await peer.receive()).from, at(inside, socket));
    await peer.send(bytes("answer"), at(inside, socket));
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
    await peer.send(bytes("unasked"), address);
    assertFalse(await arrives(socket));
    await socket.send(bytes("ask"), at(server, peer));
    assertEquals((await peer.receive()).from, address);
    await peer.send(bytes("answer"), address);
    assert(await arrives(socket));
  });
});

Deno.test("a NAT that forgets a mapping lets nothing in until the next packet from inside", async () => {
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
    await socket.send(bytes("x"), at(server, peer));
    const { from } = await peer.receive();
    await delay(29_000);
    await peer.send(bytes("x"), from);
    assert(await arrives(socket));
    await delay(2_000);
    await peer.send(bytes("x"), from);
    assertFalse(await arrives(socket));
  });
});

Deno.test("a router that blocks UDP lets none of it through", async () => {
  using time = new VirtualTime();
  const internet = new Internet();
  const home = internet.router("home", { behavior: NAT_BEHAVIORS.fullCone, blocks: ["udp"] });
  const inside = internet.host("inside", { behind: home });
  const server = internet.host("server");
  await time.run(async () => {
    using peer = await server.network.bindUdp(ANY);
    using socket = await inside.network.bindUdp(ANY);
    await socket.send(bytes("x"), at(server, peer));
    assertFalse(await arrives(peer));
    home.blocks = [];
    await socket.send(bytes("x"), at(server, peer));
    assert(await arrives(peer));
  });
});

Deno.test("a silent host takes datagrams and answers none", async () => {
  using time = new VirtualTime();
  const { a, b } = pair();
  b.fault = "silent";
  await time.run(async () => {
    using socket = await a.network.bindUdp(ANY);
    using peer = await b.network.bindUdp(ANY);
    await socket.send(bytes("x"), at(b, peer));
    assertFalse(await arrives(peer));
  });
});

Deno.test("resolve() answers from the internet's names, and an address with itself", async () => {
  using time = new VirtualTime();
  const internet = new Internet({ resolveMs: 30 });
  internet.names.set("stun.example.net", ["203.0.113.9", "2001:db8::9"]);
  const { network } = internet.host("a");
  await time.run(async () => {
    assertEquals(await network.resolve("stun.example.net", 4), ["203.0.113.9"]);
    assertEquals(await network.resolve("stun.example.net", 6), ["2001:db8::9"]);
    assertEquals(time.nowMs, 60);
    assertEquals(await network.resolve("192.0.2.1", 4), ["192.0.2.1"]);
    await assertNetworkError("name-not-found", () => network.resolve("192.0.2.1", 6));
    await assertNetworkError("name-not-found", () => network.resolve("nowhere.example", 4));
    const signal = AbortSignal.timeout(10);
    await assertRejects(() => network.resolve("stun.example.net", 4, { signal }), DOMException);
  });
});

Deno.test("a host knows its own addresses", async () => {
  const internet = new Internet();
  const { network } = internet.host("a", { addresses: ["192.0.2.1", "2001:DB8::1"] });
  const addresses = await network.localAddresses();
  assertEquals(addresses?.map(({ ip }) => ip), ["127.0.0.1", "::1", "192.0.2.1", "2001:db8::1"]);
  assert(await network.ownsAddress("192.0.2.1"));
  assert(await network.ownsAddress("2001:db8:0::1"));
  assertFalse(await network.ownsAddress("192.0.2.2"));
});

Deno.test("a host without addresses has no route", async () => {
  using time = new VirtualTime();
  const internet = new Internet();
  const { network } = internet.host("offline", { addresses: [] });
  await time.run(async () => {
    using socket = await network.bindUdp(ANY);
    await assertNetworkError(
      "unreachable",
      () => socket.send(bytes("x"), { ip: "192.0.2.1", port: 1 }),
    );
    await assertNetworkError("unreachable", () => network.connectTcp({ ip: "192.0.2.1", port: 1 }));
  });
});

function pair(): { internet: Internet; a: Host; b: Host } {
  const internet = new Internet();
  return { internet, a: internet.host("a"), b: internet.host("b") };
}

/** The address at which others reach a socket of a host. */
function at(host: Host, socket: UdpSocket): TransportAddress {
  return { ip: host.addresses[0]!, port: socket.local.port };
}

/** Whether a datagram comes in the next second. */
async function arrives(socket: UdpSocket): Promise<boolean> {
  const signal = AbortSignal.timeout(1000);
  try {
    await socket.receive({ signal });
    return true;
  } catch (error) {
    if (error === signal.reason) return false;
    throw error;
  }
}

function bytes(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

function text(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}

function behaviors() {
  return ["endpoint-independent", "address-dependent", "address-and-port-dependent"] as const;
}
