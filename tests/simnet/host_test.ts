import { assert, assertEquals, assertFalse, assertRejects } from "@std/assert";
import { arrives, assertNetworkError, at, toBytes, twoHosts } from "./fixtures.ts";
import { Internet } from "./internet.ts";
import { VirtualTime } from "./virtual_time.ts";

const ANY = { ip: "0.0.0.0", port: 0 };

Deno.test("a silent host accepts datagrams but answers none", async () => {
  using time = new VirtualTime();
  const { client: a, server: b } = twoHosts();
  b.fault = "silent";
  await time.run(async () => {
    using socket = await a.network.bindUdp(ANY);
    using peer = await b.network.bindUdp(ANY);
    await socket.send(toBytes("x"), at(b, peer.local.port));
    assertFalse(await arrives(peer));
  });
});

Deno.test("resolve() returns the internet's names, and an address as itself", async () => {
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
      () => socket.send(toBytes("x"), { ip: "192.0.2.1", port: 1 }),
    );
    await assertNetworkError("unreachable", () => network.connectTcp({ ip: "192.0.2.1", port: 1 }));
  });
});
