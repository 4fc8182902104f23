import { assert, assertEquals, assertRejects } from "@std/assert";
import { watchNat } from "../../lib/cli/nat_watch.ts";
import { networkWith } from "../../lib/net/local_address.ts";
import { PRIMARY, withServer } from "../scenes/nat_scene.ts";

Deno.test("nat-test --watch tests again when this machine has moved, and tells what has changed", async () => {
  await withServer({}, async ({ client, home, test, time }) => {
    const first = await test();
    let ip = "192.168.1.2";
    const network = networkWith(client.network, {
      localAddresses: () => Promise.resolve([{ interfaceName: "eth0", ip }]),
    });
    const ended = new AbortController();
    const watching = watchNat(first, { network, servers: [PRIMARY], signal: ended.signal });
    const startMs = time.nowMs;
    const next = watching.next();
    setTimeout(() => {
      ip = "10.0.0.7";
      home.blocks = ["udp"];
    }, 2500);
    const { value } = await next;
    assert(value.event === "changed");
    assertEquals(value.texts.filter((text) => /UDP/.test(text)).length >= 1, true);
    assert(value.report.udp.ipv4?.reachable === false);
    assert(time.nowMs - startMs < 15_000); // long before the next test by the clock
    ended.abort(new Error("enough"));
    await assertRejects(() => watching.next(), Error, "enough");
  });
});

Deno.test("nat-test --watch is silent while nothing changes, and tests every 30 seconds", async () => {
  await withServer({}, async ({ client, test, time, home }) => {
    const first = await test();
    const ended = new AbortController();
    const options = { network: client.network, servers: [PRIMARY], signal: ended.signal };
    const watching = watchNat(first, options);
    const startMs = time.nowMs;
    const next = watching.next();
    setTimeout(() => {
      home.blocks = ["tcp"];
    }, 95_000);
    const { value } = await next;
    assert(value.event === "changed");
    const tookMs = time.nowMs - startMs;
    assert(tookMs > 95_000 && tookMs < 140_000, `${tookMs}`);
    ended.abort(new Error("enough"));
    await assertRejects(() => watching.next(), Error, "enough");
  });
});
