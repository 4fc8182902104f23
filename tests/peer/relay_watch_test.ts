import { assertEquals, assertMatch } from "@std/assert";
import { delay } from "@std/async/delay";
import { relayFinding, watchRelay } from "../../lib/peer/relay_watch.ts";
import { serveRendezvous } from "../../lib/signal/rendezvous/server.ts";
import { linkOfRoundTrip } from "../scenes/homes.ts";
import { simulate } from "../simnet/simulate.ts";

for (
  const [what, link, isHole] of [
    ["carries everything", {}, false],
    ["swallows long packets on the way out", { up: { mtu: 1280 } }, true],
    ["swallows long packets on the way in", { down: { mtu: 1280 } }, true],
  ] as const
) {
  Deno.test(`relayFinding() tells ${isHole ? "of" : "nothing of"} a link to a relay that ${what}`, async () => {
    await simulate(async ({ internet }) => {
      const far = internet.host("rendezvous", { link: linkOfRoundTrip(50) });
      const local = { ip: far.addresses[0]!, port: 3480 };
      await using server = await serveRendezvous({ network: far.network, local });
      const { network } = internet.host("home", { link });
      const signal = new AbortController().signal;
      const finding = await relayFinding(server.url, { network, signal });
      assertEquals(finding?.kind, isHole ? "mtu" : undefined);
      if (isHole) assertMatch(finding!.summary, /^The link to the relay ws:\S+ swallows/);
    });
  });
}

Deno.test("relayFinding() tells nothing of a relay that cannot be reached", async () => {
  await simulate(async ({ internet }) => {
    const { network } = internet.host("home", {});
    const signal = new AbortController().signal;
    assertEquals(await relayFinding("ws://198.51.100.99:3480", { network, signal }), undefined);
  });
});

Deno.test("watchRelay() calls once for a connection that is silent after something was sent", async () => {
  await simulate(async ({ internet }) => {
    const [a, b] = [internet.host("a", {}), internet.host("b", {})];
    using listener = await b.network.listenTcp({ ip: b.addresses[0]!, port: 5000 });
    let calls = 0;
    using near = watchRelay(await a.network.connectTcp(listener.local), () => calls++);
    using far = await listener.accept();
    const byte = new Uint8Array(1);
    const answered = async () => {
      await near.write(byte);
      await far.write(byte);
      await near.read(byte);
    };
    await answered();
    await delay(60_000);
    assertEquals(calls, 0); // nothing is due
    await near.write(byte);
    await delay(1400);
    assertEquals(calls, 0);
    await delay(200);
    assertEquals(calls, 1);
    await answered();
    await near.write(byte);
    await delay(60_000);
    assertEquals(calls, 1);
  });
});

for (
  const [what, sends, waitMs, called] of [
    ["in vain for a while", 4000, 5000, 1],
    ["for a moment", 4000, 500, 0],
    ["for a while after something short", 100, 5000, 0],
  ] as const
) {
  const name = called > 0 ? "calls for" : "does not call for";
  Deno.test(`watchRelay() ${name} a connection that is reset after it waited ${what}`, async () => {
    await simulate(async ({ internet }) => {
      const [a, b] = [internet.host("a", {}), internet.host("b", {})];
      using listener = await b.network.listenTcp({ ip: b.addresses[0]!, port: 5000 });
      let calls = 0;
      const near = watchRelay(await a.network.connectTcp(listener.local), () => calls++);
      using far = await listener.accept();
      await near.write(new Uint8Array(sends));
      await far.write(new Uint8Array(1)); // this answers nothing of it, but comes after it
      await near.read(new Uint8Array(1));
      await delay(waitMs);
      near.reset();
      assertEquals(calls, called);
    });
  });
}
