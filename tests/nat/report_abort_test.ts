import { assert, assertEquals, assertRejects, assertStrictEquals } from "@std/assert";
import { NetworkError } from "../../lib/base/errors.ts";
import type { Network } from "../../lib/net/network.ts";
import { NAT_BEHAVIORS } from "../../lab/model/nat_behavior.ts";
import { type NatScene, SERVER_IPS, withScene, withServer } from "../scenes/nat_scene.ts";

Deno.test("testNat() rejects invalid options", async () => {
  await withScene({}, async ({ test }) => {
    await assertRejects(() => test({ servers: [] }), RangeError, "name at least one server");
    await assertRejects(() => test({ servers: ["a b"] }), TypeError, "names no host");
    await assertRejects(() => test({ servers: ["a:99999"] }), TypeError, "99999");
    for (const value of [0, -1, NaN, Infinity]) {
      await assertRejects(() => test({ timeoutMs: value }), RangeError, "timeoutMs");
      await assertRejects(() => test({ lifetimeSeconds: value }), RangeError, "lifetimeSeconds");
    }
  });
});

Deno.test("testNat() rejects with the signal's own reason, and leaves nothing open", async () => {
  const scene: NatScene = { nat: NAT_BEHAVIORS.symmetric, resolveMs: 20, link: { loss: 0.05 } };
  for (let atMs = 0; atMs < 900; atMs += atMs < 200 ? 7 : 61) {
    await withServer({ ...scene, seed: atMs + 1 }, async ({ internet, server, test, time }) => {
      internet.names.set("stun.example.net", [SERVER_IPS[0]]);
      const controller = new AbortController();
      const reason = new Error("enough");
      const listeners = countListeners(controller.signal);
      const timer = setTimeout(() => controller.abort(reason), atMs);
      const servers = ["stun.example.net"];
      const error = await test({ servers, signal: controller.signal }).then(
        () => undefined,
        (e) => e,
      );
      clearTimeout(timer);
      if (error === undefined) return; // the test was faster
      assertStrictEquals(error, reason, `aborted at ${atMs} ms`);
      assert(time.nowMs <= atMs + 1, `took until ${time.nowMs} ms after an abort at ${atMs} ms`);
      const open = internet.openSockets().filter((socket) => !socket.startsWith(server.name));
      assertEquals(open, [], `aborted at ${atMs} ms`);
      assertEquals(listeners(), 0, `aborted at ${atMs} ms`);
    });
  }
});

Deno.test("testNat() leaves no listeners on the signal", async () => {
  await withServer({ link: { loss: 0.05 } }, async ({ test }) => {
    const { signal } = new AbortController();
    const listeners = countListeners(signal);
    await test({ signal });
    assertEquals(listeners(), 0);
  });
});

Deno.test("testNat() with an aborted signal sends nothing", async () => {
  await withServer({}, async ({ internet, test }) => {
    let packets = 0;
    internet.onPacket = () => packets++;
    const reason = new Error("never mind");
    const error = await assertRejects(() => test({ signal: AbortSignal.abort(reason) }));
    assertStrictEquals(error, reason);
    assertEquals(packets, 0);
  });
});

Deno.test("testNat() rejects if the system permits no sockets, or none to send", async () => {
  const denied = new NetworkError("Cannot: not permitted", "not-permitted");
  await withServer({}, async ({ client, test }) => {
    const closed: Network = { ...client.network, bindUdp: () => Promise.reject(denied) };
    assertStrictEquals(await assertRejects(() => test({ network: closed })), denied);
    const mute: Network = {
      ...client.network,
      bindUdp: async (local) => {
        const socket = await client.network.bindUdp(local);
        socket.send = () => Promise.reject(denied);
        return socket;
      },
    };
    assertStrictEquals(
      await assertRejects(() =>
        test({ network: mute, transports: ["udp"], servers: ["192.0.2.1"] })
      ),
      denied,
    );
    // If a local firewall blocks all outgoing UDP, the test goes on over TCP.
    const { verdict } = await test({ network: mute });
    assertEquals(verdict.difficulty, "blocked");
  });
});

/** Counts the listeners that are added to a signal from now on and not removed. */
function countListeners(signal: AbortSignal): () => number {
  const added = new Map<unknown, number>();
  const { addEventListener, removeEventListener } = signal;
  signal.addEventListener = function (type: string, listener: unknown, ...rest: unknown[]) {
    added.set(listener, 1);
    const options = rest[0] as { once?: boolean } | undefined;
    if (options?.once) {
      addEventListener.call(signal, type, () => added.delete(listener), { once: true });
    }
    addEventListener.call(signal, type, listener as EventListener, ...rest as []);
  };
  signal.removeEventListener = function (type: string, listener: unknown, ...rest: unknown[]) {
    added.delete(listener);
    removeEventListener.call(signal, type, listener as EventListener, ...rest as []);
  };
  return () => added.size;
}
