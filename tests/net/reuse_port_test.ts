import { assert, assertEquals, assertRejects } from "@std/assert";
import { NetworkError, type NetworkErrorReason } from "../../lib/base/errors.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import { SilentPort } from "./silent_port.ts";

const SHARED = { reusePort: true };

for (const ip of ["127.0.0.1", "::1"]) {
  Deno.test(`connectTcp() dials from a port that has a listener, ${ip}`, async () => {
    using a = await systemNetwork.listenTcp({ ip, port: 0 });
    using b = await systemNetwork.listenTcp({ ip, port: 0 });
    using shared = await systemNetwork.listenTcp({ ip, port: 0 }, SHARED);
    const { local } = shared;
    using toA = await systemNetwork.connectTcp(a.local, { local, ...SHARED });
    using toB = await systemNetwork.connectTcp(b.local, { local, ...SHARED });
    assertEquals([toA.local, toB.local], [local, local]);
    using dialled = await systemNetwork.connectTcp(local);
    using accepted = await shared.accept();
    assertEquals(accepted.remote, dialled.local);
    for (const listener of [a, b]) {
      using peer = await listener.accept();
      assertEquals(peer.remote, local);
    }
  });
}

Deno.test("connectTcp() shares a port chosen by the system", async () => {
  using server = await systemNetwork.listenTcp({ ip: "127.0.0.1", port: 0 });
  using first = await systemNetwork.connectTcp(server.local, SHARED);
  using _listener = await systemNetwork.listenTcp(first.local, SHARED);
  using _accepted = await server.accept();
});

Deno.test({
  name: "a listener accepts while a dial from its port is pending",
  ignore: Deno.build.os !== "linux", // other systems have no silent port on loopback
  async fn() {
    using silent = await SilentPort.open();
    using shared = await systemNetwork.listenTcp({ ip: "127.0.0.1", port: 0 }, SHARED);
    const waiting = new AbortController();
    const dial = systemNetwork.connectTcp(silent.address, {
      local: shared.local,
      signal: waiting.signal,
      ...SHARED,
    });
    using dialled = await systemNetwork.connectTcp(shared.local);
    using accepted = await shared.accept();
    assertEquals(accepted.remote, dialled.local);
    const reason = new Error("enough");
    waiting.abort(reason);
    assertEquals(await assertRejects(() => dial), reason);
  },
});

Deno.test("a port is shared by all of its sockets or by none", async () => {
  using server = await systemNetwork.listenTcp({ ip: "127.0.0.1", port: 0 });
  using shared = await systemNetwork.listenTcp({ ip: "127.0.0.1", port: 0 }, SHARED);
  using alone = await systemNetwork.listenTcp({ ip: "127.0.0.1", port: 0 });
  for (const [{ local }, options] of [[shared, {}], [alone, SHARED]] as const) {
    await assertReason(
      "address-in-use",
      systemNetwork.connectTcp(server.local, { local, ...options }),
    );
    await assertReason("address-in-use", systemNetwork.listenTcp(local, options));
  }
});

Deno.test("connectTcp() reports a pair of addresses that is in use, and a local address that is not ours", async () => {
  using server = await systemNetwork.listenTcp({ ip: "127.0.0.1", port: 0 });
  using first = await systemNetwork.connectTcp(server.local, {
    local: { ip: "127.0.0.1", port: 0 },
    ...SHARED,
  });
  const { local } = first;
  await assertReason(
    "address-in-use",
    systemNetwork.connectTcp(server.local, { local, ...SHARED }),
  );
  await assertReason(
    "address-not-available",
    systemNetwork.connectTcp(server.local, { local: { ip: "192.0.2.77", port: 0 }, ...SHARED }),
  );
  (await server.accept()).close();
});

Deno.test("connectTcp() from a shared port can redial at once after a refusal", async () => {
  using closed = await systemNetwork.listenTcp({ ip: "127.0.0.1", port: 0 });
  const { local: remote } = closed;
  closed.close();
  using shared = await systemNetwork.listenTcp({ ip: "127.0.0.1", port: 0 }, SHARED);
  for (let i = 0; i < 20; i++) {
    await assertReason(
      "refused",
      systemNetwork.connectTcp(remote, { local: shared.local, ...SHARED }),
    );
  }
});

Deno.test({
  name:
    "hundreds of dials from one port can be cancelled, which frees their pairs of addresses at once",
  ignore: Deno.build.os !== "linux",
  async fn() {
    using silent = await SilentPort.open();
    using shared = await systemNetwork.listenTcp({ ip: "0.0.0.0", port: 0 }, SHARED);
    // There is one silent port, but loopback has many addresses: the dials differ in the local address.
    const locals = Array.from({ length: 250 }, (_, i) => ({
      ip: `127.0.1.${i + 1}`,
      port: shared.local.port,
    }));
    const dialAll = (signal: AbortSignal) =>
      Promise.allSettled(locals.map((local) => {
        return systemNetwork.connectTcp(silent.address, { local, signal, ...SHARED });
      }));
    for (const round of [1, 2]) {
      const controller = new AbortController();
      const settled = dialAll(controller.signal);
      for (const second of await dialAll(AbortSignal.timeout(1000))) {
        assert(second.status === "rejected" && second.reason instanceof NetworkError);
        assertEquals(second.reason.reason, "address-in-use", "the first dial is gone");
      }
      const reason = new Error(`enough of round ${round}`);
      controller.abort(reason);
      for (const result of await settled) assertEquals(result, { status: "rejected", reason });
    }
  },
});

async function assertReason(
  reason: NetworkErrorReason,
  promise: Promise<unknown>,
): Promise<void> {
  assertEquals((await assertRejects(() => promise, NetworkError)).reason, reason);
}
