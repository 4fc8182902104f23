import { assert, assertEquals, assertRejects, assertStrictEquals } from "@std/assert";
import { delay } from "@std/async/delay";
import { assertNetworkError, at, toBytes, toText, twoHosts } from "./fixtures.ts";
import { Internet } from "./internet.ts";
import { VirtualTime } from "./virtual_time.ts";

const ANY = { ip: "0.0.0.0", port: 0 };

Deno.test("a datagram arrives after the delay of both links, with its payload and its source", async () => {
  using time = new VirtualTime();
  const internet = new Internet();
  const a = internet.host("a", { link: { delayMs: 10 } });
  const b = internet.host("b", { link: { delayMs: 15 } });
  await time.run(async () => {
    using socket = await a.network.bindUdp({ ip: a.addresses[0]!, port: 5000 });
    using peer = await b.network.bindUdp(ANY);
    const sent = toBytes("hello");
    await socket.send(sent, at(b, peer.local.port));
    sent.fill(0); // the socket has its own copy
    const { data, from } = await peer.receive();
    assertEquals(toText(data), "hello");
    assertEquals(from, { ip: a.addresses[0]!, port: 5000 });
    assertEquals(time.nowMs, 25);
  });
  assertEquals(internet.openSockets(), []);
});

Deno.test("unread datagrams wait in order, and the newest are dropped", async () => {
  using time = new VirtualTime();
  const { client: a, server: b } = twoHosts();
  await time.run(async () => {
    using socket = await a.network.bindUdp(ANY);
    using peer = await b.network.bindUdp(ANY);
    for (let i = 0; i < 300; i++) await socket.send(toBytes(`${i}`), at(b, peer.local.port));
    await delay(1000);
    for (let i = 0; i < 256; i++) assertEquals(toText((await peer.receive()).data), `${i}`);
    await assertRejects(() => peer.receive({ signal: AbortSignal.timeout(100) }), DOMException);
  });
});

Deno.test("an aborted receive rejects with the reason and loses no datagram", async () => {
  using time = new VirtualTime();
  const { client: a, server: b } = twoHosts();
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
    await socket.send(toBytes("kept"), at(b, peer.local.port));
    assertEquals(toText((await peer.receive()).data), "kept");
  });
});

Deno.test("a closed socket rejects pending receives, sends nothing and frees its port", async () => {
  using time = new VirtualTime();
  const { internet, client: a, server: b } = twoHosts();
  await time.run(async () => {
    const socket = await a.network.bindUdp({ ip: "0.0.0.0", port: 5000 });
    assertEquals(internet.openSockets(), ["client: UDP 0.0.0.0:5000"]);
    const waiting = assertNetworkError("closed", () => socket.receive());
    socket.close();
    socket.close();
    await waiting;
    await assertNetworkError("closed", () => socket.receive());
    await assertNetworkError(
      "closed",
      () => socket.send(toBytes("x"), { ip: b.addresses[0]!, port: 1 }),
    );
    using again = await a.network.bindUdp({ ip: "0.0.0.0", port: 5000 });
    assertEquals(again.local, { ip: "0.0.0.0", port: 5000 });
  });
  assertEquals(internet.openSockets(), []);
});

Deno.test("bindUdp() chooses a different free port each time for port 0", async () => {
  using time = new VirtualTime();
  const { client: a } = twoHosts();
  await time.run(async () => {
    const ports = new Set<number>();
    for (let i = 0; i < 100; i++) ports.add((await a.network.bindUdp(ANY)).local.port);
    assertEquals(ports.size, 100);
    assert([...ports].every((port) => port >= 32768 && port <= 60999));
  });
});

Deno.test("bindUdp() rejects an address in use, and one that is not the host's", async () => {
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

Deno.test("a wildcard socket sends from the host's first address, or from the destination if that is the host's own", async () => {
  using time = new VirtualTime();
  const internet = new Internet();
  const a = internet.host("a", { addresses: ["192.0.2.1", "192.0.2.2"] });
  const b = internet.host("b");
  await time.run(async () => {
    using socket = await a.network.bindUdp({ ip: "0.0.0.0", port: 7 });
    using peer = await b.network.bindUdp(ANY);
    await socket.send(toBytes("x"), at(b, peer.local.port));
    assertEquals((await peer.receive()).from, { ip: "192.0.2.1", port: 7 });
    for (const ip of ["127.0.0.1", "192.0.2.2"]) {
      await socket.send(toBytes("x"), { ip, port: 7 });
      assertEquals((await socket.receive()).from, { ip, port: 7 });
    }
  });
});

Deno.test("send() rejects what no system can send", async () => {
  using time = new VirtualTime();
  const { client: a, server: b } = twoHosts();
  await time.run(async () => {
    using socket = await a.network.bindUdp(ANY);
    using v6 = await a.network.bindUdp({ ip: "::", port: 0 });
    const ip = b.addresses[0]!;
    await assertNetworkError("other", () => socket.send(new Uint8Array(65_508), { ip, port: 1 }));
    await assertNetworkError("other", () => socket.send(toBytes("x"), { ip, port: 0 }));
    await assertNetworkError("address-not-available", () => {
      return socket.send(toBytes("x"), { ip: "2001:db8::1", port: 1 });
    });
    await assertNetworkError(
      "unreachable",
      () => v6.send(toBytes("x"), { ip: "2001:db8::1", port: 1 }),
    );
  });
});
