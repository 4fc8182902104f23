/**
 * What a hostile ticket holder can do, before and after it is accepted.
 *
 * @module
 */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { delay } from "@std/async/delay";
import { toHex } from "../../lib/base/bytes.ts";
import { encodeRelayState, type RelayState } from "../../lib/peer/relay_message.ts";
import { NetworkError, UnreachableError } from "../../lib/base/errors.ts";
import type { Network, TcpConnection } from "../../lib/net/network.ts";
import { readText, toBytes } from "../simnet/fixtures.ts";
import { countSyns, inPeerScene, nextOf } from "../scenes/peer_scene.ts";
import { ScriptedDialer } from "./scripted_dialer.ts";

/** What a peer does that has connected, and how soon `accept()` gives up on it. */
const GIVES_UP = [
  { does: "cuts the connection", options: {}, cuts: true, withinMs: 34_000 },
  { does: "stays silent", options: {}, cuts: false, withinMs: 44_000 },
  {
    does: "cuts the connection, if connections do not reconnect",
    options: { reconnect: false },
    cuts: true,
    withinMs: 100,
  },
];

for (const { does, options, cuts, withinMs } of GIVES_UP) {
  Deno.test(`accept() gives up on a peer that connects and ${does}`, () =>
    inPeerScene({}, async ({ a, b, hub, open, time }) => {
      await using bob = await open(b, options);
      using mallory = await ScriptedDialer.open(hub, bob.ticket);
      const accepted = nextOf(bob).then((incoming) => incoming.accept());
      const refused = assertRejects(() => accepted, NetworkError, "lost before it could be used");
      using connection = await mallory.punch(a);
      if (cuts) connection.close();
      const startedAtMs = time.nowMs;
      await refused;
      assert(time.nowMs - startedAtMs <= withinMs, `${time.nowMs - startedAtMs} ms`);
    }));
}

Deno.test("an accepted peer cannot start many searches at once", () =>
  inPeerScene({}, async ({ a, b, hub, internet, open }) => {
    await using bob = await open(b);
    using mallory = await ScriptedDialer.open(hub, bob.ticket);
    const accepted = nextOf(bob).then((incoming) => incoming.accept()).catch(() => {});
    const connection = await mallory.punch(a);
    const { staticKey } = mallory;
    const resumes = await mallory.resumptionId();
    const syns = countSyns(internet, b.name);
    for (let i = 0; i < 100; i++) {
      using again = await ScriptedDialer.open(hub, bob.ticket, { staticKey, resumes });
      await again.request();
      await delay(20);
    }
    const sockets = internet.openSockets().filter((socket) => socket.startsWith(`${b.name}:`));
    // One base socket for a search, and one that is ready for the next.
    assert(sockets.length <= 2 * 10, `${sockets.length} sockets`);
    assert(syns() <= 100, `${syns()} SYNs in two seconds`);
    connection.close();
    await bob.close();
    await accepted;
    await delay(1000); // bob notices the end
  }));

Deno.test("a peer that cuts every path at once is dialled less and less often", () =>
  inPeerScene({}, async ({ a, b, open }) => {
    const { network, cutAll } = cuttable(b.network);
    await using alice = await open(a, { listen: false });
    await using bob = await open(b, { network });
    const accepted = nextOf(bob).then((incoming) => incoming.accept());
    await using conn = await alice.connect(bob.ticket);
    await using _other = await accepted;
    let paths = 0;
    const counting = (async () => {
      for await (const { event } of conn.events) if (event === "path" && ++paths) cutAll();
    })();
    cutAll();
    await delay(60_000);
    assert(paths >= 4 && paths <= 15, `${paths} paths in a minute`);
    conn.reset();
    await counting;
  }));

Deno.test("an accepted peer cannot restart the search for a relayed path again and again", () =>
  inPeerScene({}, async ({ b, hub, internet, open }) => {
    await using bob = await open(b, { strategies: ["relay"] });
    using mallory = await ScriptedDialer.open(hub, bob.ticket);
    const accepted = nextOf(bob).then((incoming) => incoming.accept()).catch(() => {});
    await mallory.channel("relay").send(relayState({}));
    const syns = countSyns(internet, b.name);
    for (let version = 2; version < 100; version++) {
      const nonce = toHex(crypto.getRandomValues(new Uint8Array(16)));
      const relayed = Array.from(
        { length: 8 },
        (_, i) => ({ ip: "198.51.100.7", port: 8 * version + i }),
      );
      await mallory.channel("relay").send(relayState({ version, nonce, relayed }));
      await mallory.channel("relay").send(relayState({ version, relayed }));
      await delay(20);
    }
    const targets = internet.openSockets().filter((socket) => socket.startsWith(`${b.name}:`));
    assert(targets.length <= 8, `${targets.length} sockets`);
    assert(syns() <= 80, `${syns()} SYNs`);
    assert(hub.published.length <= 2 * 100 + 40, `${hub.published.length} messages`);
    await bob.close();
    await accepted;
  }));

Deno.test("an accepted peer cannot make a peer dial itself at its public address", () =>
  inPeerScene({}, async ({ hub, internet, open }) => {
    const host = internet.host("public", { addresses: ["203.0.113.77"] });
    await using bob = await open(host, { strategies: ["relay"], timings: { connectMs: 3000 } });
    using service = await host.network.listenTcp({ ip: "203.0.113.77", port: 6379 });
    let served = 0;
    const serving = (async () => {
      for (;; served++) (await service.accept()).close();
    })().catch(() => {});
    using mallory = await ScriptedDialer.open(hub, bob.ticket);
    const accepted = nextOf(bob).then((incoming) => incoming.accept());
    const refused = assertRejects(() => accepted, UnreachableError);
    const relayed = [{ ip: "203.0.113.77", port: 6379 }];
    await mallory.channel("relay").send(relayState({ relayed }));
    await refused;
    service.close();
    await serving;
    assertEquals(served, 0);
  }));

Deno.test("messages on unknown channels do not displace those on known ones", () =>
  inPeerScene({}, async ({ b, hub, open }) => {
    await using bob = await open(b, { strategies: ["relay"] });
    using mallory = await ScriptedDialer.open(hub, bob.ticket);
    const accepted = nextOf(bob).then((incoming) => incoming.accept());
    const failed = assertRejects(() => accepted, UnreachableError, "neither side has a relay");
    for (let channel = 2; channel < 20; channel++) await mallory.sendOn(channel, toBytes("hello"));
    await delay(1000);
    await mallory.channel("relay").send(relayState({ mayOffer: false, acknowledged: 2 }));
    await failed;
  }));

Deno.test("a function that never decides who may connect holds up no other peer and no close()", () =>
  inPeerScene({}, async ({ a, b, open, time }) => {
    await using alice = await open(a, { listen: false });
    const bob = await open(b, { allow: () => new Promise<boolean>(() => {}) });
    const unanswered = assertRejects(() => alice.connect(bob.ticket));
    await delay(1000);
    const closedAtMs = time.nowMs;
    await bob.close();
    assertEquals(time.nowMs, closedAtMs);
    await unanswered;
  }));

Deno.test("a peer that leaves as soon as it is accepted affects no other", () =>
  inPeerScene({}, async ({ a, b, hub, open }) => {
    await using bob = await open(b);
    using mallory = await ScriptedDialer.open(hub, bob.ticket);
    const gone = nextOf(bob).then((incoming) => incoming.accept()).catch(() => {});
    (await mallory.punch(a)).close();
    await using alice = await open(a, { listen: false });
    const accepted = nextOf(bob).then((incoming) => incoming.accept());
    await using conn = await alice.connect(bob.ticket);
    await using other = await accepted;
    await conn.write(toBytes("hello"));
    assertEquals(await readText(other, 5), "hello");
    await bob.close();
    await gone;
  }));

function relayState(state: Partial<RelayState>): Uint8Array<ArrayBuffer> {
  const nonce = "00".repeat(16);
  return encodeRelayState({
    nonce,
    mayOffer: true,
    version: 1,
    acknowledged: 0,
    ips: [],
    relayed: [],
    rendezvous: [],
    refusalCode: null,
    ...state,
  });
}

/** A network whose dialled connections a test can cut. */
function cuttable(network: Network): { network: Network; cutAll(): void } {
  const dialled: TcpConnection[] = [];
  const connectTcp: Network["connectTcp"] = async (remote, options) => {
    const connection = await network.connectTcp(remote, options);
    dialled.push(connection);
    return connection;
  };
  const cutAll = () => {
    for (const connection of dialled.splice(0)) connection.reset();
  };
  return { network: { ...network, connectTcp }, cutAll };
}
