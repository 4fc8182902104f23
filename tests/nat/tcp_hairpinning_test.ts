import { assertEquals } from "@std/assert";
import { delay } from "@std/async/delay";
import { hairpinsTcp } from "../../lib/nat/hairpinning.ts";
import { NAT_BEHAVIORS, natBehavior } from "../../lab/model/nat_behavior.ts";
import type { Host } from "../simnet/host.ts";
import type { Internet } from "../simnet/internet.ts";
import { simulate } from "../simnet/simulate.ts";
import { type RunningNatScene, withScene } from "../scenes/nat_scene.ts";

const LOCAL = { ip: "0.0.0.0", port: 5000 };

/** The external address of port 5000, which a connection keeps open. */
async function openPort({ client, server }: RunningNatScene) {
  const stack = new DisposableStack();
  const listener = stack.use(await server.network.listenTcp({ ip: "0.0.0.0", port: 80 }));
  const remote = { ip: server.addresses[0]!, port: 80 };
  stack.use(await client.network.connectTcp(remote, { local: LOCAL }));
  const accepted = stack.use(await listener.accept());
  return { external: accepted.remote, [Symbol.dispose]: () => stack.dispose() };
}

for (const hairpinning of [true, false]) {
  const expected = hairpinning ? true : "unknown"; // silence proves nothing
  Deno.test(`hairpinsTcp() returns ${expected} behind a NAT ${hairpinning ? "with" : "without"} hairpinning`, async () => {
    await withScene(
      { nat: natBehavior({ hairpinning }, NAT_BEHAVIORS.fullCone) },
      async (world) => {
        using port = await openPort(world);
        const signal = AbortSignal.timeout(2000);
        assertEquals(
          await hairpinsTcp(world.client.network, LOCAL, port.external, signal),
          expected,
        );
      },
    );
  });
}

Deno.test("hairpinsTcp() returns false if the connection is refused", async () => {
  await simulate(async ({ internet }) => {
    const [client, other] = [internet.host("client"), internet.host("other")];
    const external = { ip: other.addresses[0]!, port: 5000 };
    const signal = AbortSignal.timeout(2000);
    assertEquals(await hairpinsTcp(client.network, LOCAL, external, signal), false);
  });
});

Deno.test("hairpinsTcp() is not held up by another host that connects and stays silent", async () => {
  await simulate(async ({ internet, time }) => {
    const [client, router, outsider] = threeHosts(internet);
    // Not this host, but something that answers at the external address.
    using web = await router.network.listenTcp({ ip: "0.0.0.0", port: 5000 });
    const external = { ip: router.addresses[0]!, port: 5000 };
    const test = hairpinsTcp(client.network, LOCAL, external, AbortSignal.timeout(500));
    await delay(1);
    using _outsider = await outsider.network.connectTcp({ ip: client.addresses[0]!, port: 5000 });
    assertEquals(await test, "unknown");
    assertEquals(time.nowMs, 500);
    using _accepted = await web.accept();
  });
});

Deno.test("hairpinsTcp() does not mistake another host's bytes for its own", async () => {
  await simulate(async ({ internet }) => {
    const [client, router, outsider] = threeHosts(internet);
    using web = await router.network.listenTcp({ ip: "0.0.0.0", port: 5000 });
    const external = { ip: router.addresses[0]!, port: 5000 };
    const test = hairpinsTcp(client.network, LOCAL, external, AbortSignal.timeout(500));
    await delay(1);
    using dialled = await outsider.network.connectTcp({ ip: client.addresses[0]!, port: 5000 });
    await dialled.write(new TextEncoder().encode("GET / HTTP/1.1\r\n\r\n"));
    assertEquals(await test, "unknown");
    using _accepted = await web.accept();
  });
});

Deno.test("hairpinsTcp() returns unknown if it cannot listen on the port", async () => {
  await simulate(async ({ internet }) => {
    const client = internet.host("client");
    using _taken = await client.network.listenTcp(LOCAL);
    const external = { ip: client.addresses[0]!, port: 5000 };
    const signal = AbortSignal.timeout(500);
    assertEquals(await hairpinsTcp(client.network, LOCAL, external, signal), "unknown");
  });
});

/** A client, a router and another host, of which none is behind the other. */
function threeHosts(internet: Internet): [Host, Host, Host] {
  const host = (name: string) => internet.host(name, { link: { delayMs: 5 } });
  return [host("client"), host("router"), host("outsider")];
}
