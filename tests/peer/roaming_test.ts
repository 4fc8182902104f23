import { assert, assertEquals, assertRejects } from "@std/assert";
import { delay } from "@std/async/delay";
import type { PeerConnection } from "../../lib/peer/connection.ts";
import { NetworkError } from "../../lib/base/errors.ts";
import type { DefaultGateway, Network } from "../../lib/net/network.ts";
import { encodeRecall } from "../../lib/peer/recall_message.ts";
import { viewOf } from "../../lib/peer/roaming.ts";
import { NAT_BEHAVIORS, natBehavior } from "../../lab/model/nat_behavior.ts";
import { readText, toBytes } from "../simnet/fixtures.ts";
import type { PeerOptions } from "../../lib/peer/options.ts";
import { serveRendezvous } from "../../lib/signal/rendezvous/server.ts";
import { linkOfRoundTrip } from "../scenes/homes.ts";
import { inPeerScene, type PeerScene } from "../scenes/peer_scene.ts";

/** A NAT that gives a lost mapping another port when it comes back. */
const random = natBehavior({ allocation: { kind: "random" } }, NAT_BEHAVIORS.portRestricted);
const NATS = { a: random, b: random };

Deno.test("a connection moves to another path when its NAT loses the mapping", () =>
  inPeerScene(NATS, async ({ connect, nats, time }) => {
    await using ends = await connect();
    const { conn, other } = ends;
    await conn.write(toBytes("before"));
    assertEquals(await readText(other, 6), "before");
    const { remote } = conn.path;
    const flushedAtMs = time.nowMs;
    nats.a.flush();
    await conn.write(toBytes(" after"));
    assertEquals(await readText(other, 6), " after");
    await other.write(toBytes("and back"));
    assertEquals(await readText(conn, 8), "and back");
    assert(time.nowMs - flushedAtMs < 8000, `${time.nowMs - flushedAtMs} ms`);
    assertEquals(conn.path.relayed, false);
    assertEquals(typeof remote, "string");
  }));

Deno.test("a path that is lost right after it was found is replaced as soon, whichever NAT has lost the mapping", async () => {
  for (const lost of ["a", "b"] as const) {
    await inPeerScene(NATS, async ({ connect, nats, time }) => {
      await using ends = await connect();
      await delay(500); // by now a base socket is ready for the next connection, with a mapping that is lost, too
      const flushedAtMs = time.nowMs;
      nats[lost].flush();
      await ends.conn.write(toBytes("after"));
      assertEquals(await readText(ends.other, 5), "after");
      assert(time.nowMs - flushedAtMs < 5000, `${time.nowMs - flushedAtMs} ms`);
    });
  }
});

Deno.test("accept() waits for another path if the first is lost before it could be used", () =>
  inPeerScene(NATS, async ({ a, b, nats, open }) => {
    await using alice = await open(a, { listen: false });
    await using bob = await open(b);
    const accepted = bob.nextIncoming().then((incoming) => incoming.accept());
    await using conn = await alice.connect(bob.ticket);
    nats.a.flush();
    nats.b.flush();
    await conn.write(toBytes("hello"));
    await using other = await accepted;
    assertEquals(await readText(other, 5), "hello");
  }));

Deno.test("both sides get a path event, and the one that notices first is told that the path stalled", () =>
  inPeerScene(NATS, async ({ connect, nats }) => {
    await using ends = await connect();
    const events = [ends.conn, ends.other].map(untilPath);
    nats.b.flush();
    await ends.conn.write(toBytes("anybody there?"));
    assertEquals(await events[0], ["stalled", "path"]);
    assertEquals((await events[1])?.at(-1), "path");
  }));

Deno.test("a dead path is noticed within seconds, even by a side that sends nothing", () =>
  inPeerScene(NATS, async ({ connect, nats, time }) => {
    await using ends = await connect({ reconnect: false });
    const flushedAtMs = time.nowMs;
    nats.a.flush();
    nats.b.flush();
    await assertRejects(() => ends.other.read(new Uint8Array(1)), NetworkError);
    assert(time.nowMs - flushedAtMs <= 15_000, `${time.nowMs - flushedAtMs} ms`);
    await assertRejects(() => ends.conn.finished, NetworkError);
  }));

Deno.test("a connection whose peer is gone fails after a while", () =>
  inPeerScene(NATS, async ({ connect, nats, time }) => {
    const { conn, other, alice, bob } = await connect({ timings: { reconnectMs: 40_000 } });
    const lostAtMs = time.nowMs;
    await bob.close();
    nats.a.flush();
    nats.b.flush();
    await assertRejects(() => conn.read(new Uint8Array(1)), NetworkError);
    assert(time.nowMs - lostAtMs < 60_000, `${time.nowMs - lostAtMs} ms`);
    await assertRejects(() => other.finished, NetworkError);
    await alice.close();
  }));

Deno.test("a restarted peer answers that it does not know the connection", () =>
  inPeerScene(NATS, async ({ connect, nats, open, b, time }) => {
    const secretKey = new Uint8Array(32).fill(9);
    const { conn, other, alice, bob } = await connect({ secretKey });
    await bob.close();
    other.reset(); // as if the program crashed; the reset is lost with the mapping
    nats.a.flush();
    nats.b.flush();
    await using _again = await open(b, { secretKey });
    const lostAtMs = time.nowMs;
    await assertRejects(() => conn.finished, NetworkError);
    assert(time.nowMs - lostAtMs < 30_000, `${time.nowMs - lostAtMs} ms`);
    await alice.close();
  }));

Deno.test("a connection that loses its path after its peer was closed does not wait for another", () =>
  inPeerScene(NATS, async ({ connect, nats, time }) => {
    const { conn, other, alice, bob } = await connect();
    await Promise.all([alice.close(), bob.close()]);
    await delay(1000); // its connections to servers have ended
    const lostAtMs = time.nowMs;
    nats.a.flush();
    nats.b.flush();
    const message = "its peer is closed";
    await Promise.all(
      [conn, other].map(({ finished }) => assertRejects(() => finished, NetworkError, message)),
    );
    assert(time.nowMs - lostAtMs <= 15_000, `${time.nowMs - lostAtMs} ms`);
    await delay(10_000); // what is left of the paths is over
    assertEquals(time.pendingTimers, 0, "the program could not end");
  }));

Deno.test("a connection that waits for another path fails once its peer is closed", () =>
  inPeerScene(NATS, async ({ connect, nats, hub, time }) => {
    const { conn, other, alice, bob } = await connect();
    hub.isMute = true;
    nats.a.flush();
    nats.b.flush();
    await delay(20_000);
    assertEquals([conn.hasPath, other.hasPath], [false, false]);
    const closedAtMs = time.nowMs;
    await Promise.all([alice.close(), bob.close()]);
    await assertRejects(() => conn.finished, NetworkError, "its peer is closed");
    await assertRejects(() => other.finished, NetworkError, "its peer is closed");
    assert(time.nowMs - closedAtMs <= 1, `${time.nowMs - closedAtMs} ms`);
  }));

Deno.test("a path that stalls is left for another within seconds of the first byte without an answer", () =>
  inPeerScene(NATS, async ({ connect, nats, time }) => {
    await using ends = await connect();
    await delay(10_000);
    nats.b.flush();
    const writtenAtMs = time.nowMs;
    await ends.conn.write(toBytes("hello"));
    assertEquals(await readText(ends.other, 5), "hello");
    assert(time.nowMs - writtenAtMs <= 3000, `${time.nowMs - writtenAtMs} ms`);
    assertEquals(ends.conn.path.relayed, false);
  }));

for (const side of ["a", "b"] as const) {
  for (const strategies of [["punch-tcp"], ["punch-udp"]] as const) {
    const what = `the NAT of side ${side} with its signaling, ${strategies}`;

    Deno.test(`if ${what}, forgets everything, and the other side writes: it goes on after the next ping`, () =>
      withRendezvous(strategies, async ({ ends, nats, time }) => {
        nats[side].flush();
        const writtenAtMs = time.nowMs;
        await ends[side === "a" ? "b" : "a"].write(toBytes("hello"));
        assertEquals(await readText(ends[side], 5), "hello");
        assert(time.nowMs - writtenAtMs <= 5600, `${time.nowMs - writtenAtMs} ms`);
      }));

    for (const outageMs of [9000, 30_000, 90_000]) {
      Deno.test(`if ${what}, is off for ${outageMs} ms, it goes on soon after that`, () =>
        withRendezvous(strategies, async ({ ends, nats, routers, time }) => {
          const { swallows } = routers[side];
          routers[side].swallows = () => true;
          await delay(outageMs);
          routers[side].swallows = swallows;
          nats[side].flush();
          const backAtMs = time.nowMs;
          await ends[side === "a" ? "b" : "a"].write(toBytes("hello"));
          assertEquals(await readText(ends[side], 5), "hello");
          assert(time.nowMs - backAtMs <= 3000, `${time.nowMs - backAtMs} ms`);
        }));
    }
  }
}

Deno.test("the side that listens notices that its network has changed, and the other side searches", () =>
  inPeerScene(NATS, async ({ a, b, nats, open, time }) => {
    const bobs = changingNetwork(b.network);
    await using alice = await open(a, { listen: false });
    await using bob = await open({ ...b, network: bobs.network } as typeof b);
    const accepted = bob.nextIncoming().then((incoming) => incoming.accept());
    await using conn = await alice.connect(bob.ticket);
    await using _other = await accepted;
    await delay(6000);
    nats.b.flush(); // another router, and an idle connection
    bobs.gateways = [{ ip: "192.168.99.1", interfaceName: "wlan0" }];
    const changedAtMs = time.nowMs;
    assertEquals((await untilPath(conn)).at(-1), "path");
    assert(time.nowMs - changedAtMs <= 3000, `${time.nowMs - changedAtMs} ms`);
  }));

Deno.test("a request for another path that was replayed or made up changes nothing, and many are too many", () =>
  inPeerScene(NATS, async ({ a, b, hub, open }) => {
    await using alice = await open(a, { listen: false });
    await using bob = await open(b);
    const accepted = bob.nextIncoming().then((incoming) => incoming.accept());
    await using conn = await alice.connect(bob.ticket);
    await using other = await accepted;
    let stalls = 0;
    const counting = (async () => {
      for await (const { event } of conn.events) if (event === "stalled") stalls++;
    })();
    await delay(6000);
    const { topic, key } = conn.recall!;
    hub.deliver(topic, encodeRecall(Date.now(), new Uint8Array(32)));
    hub.deliver(topic, new Uint8Array(24));
    hub.deliver(topic, new Uint8Array(0));
    await delay(1000);
    assertEquals(stalls, 0);
    const recall = encodeRecall(Date.now(), key);
    for (let copy = 0; copy < 3; copy++) {
      hub.deliver(topic, recall);
      await delay(1000);
    }
    assertEquals(stalls, 1);
    for (let more = 0; more < 50; more++) {
      hub.deliver(topic, encodeRecall(Date.now(), key));
      await delay(200);
    }
    assert(stalls <= 10, `${stalls} searches in ten seconds`);
    await conn.write(toBytes("still here"));
    assertEquals(await readText(other, 10), "still here");
    conn.reset();
    await counting;
  }));

Deno.test("a change that does not concern the path moves nothing", () =>
  inPeerScene(NATS, async ({ a, b, open }) => {
    const alices = changingNetwork(a.network);
    await using alice = await open({ ...a, network: alices.network } as typeof a, {
      listen: false,
    });
    await using bob = await open(b);
    const accepted = bob.nextIncoming().then((incoming) => incoming.accept());
    await using conn = await alice.connect(bob.ticket);
    await using _other = await accepted;
    await delay(6000);
    const { local, remote } = conn.path;
    alices.gateways = [{ ip: "192.168.99.1", interfaceName: "wlan0" }];
    await delay(10_000);
    assertEquals([conn.path.local, conn.path.remote], [local, remote]);
    const events = conn.events[Symbol.asyncIterator]();
    assertEquals((await events.next()).value.event, "stalled");
    assertEquals((await events.next()).value.event, "resumed");
  }));

Deno.test("three seconds in a full buffer move nothing", () =>
  inPeerScene(NATS, async ({ connect, a, time }) => {
    await using ends = await connect();
    await delay(6000);
    const { local, remote } = ends.conn.path;
    const { up, down } = a.link;
    const before = [up.behavior, down.behavior] as const;
    up.behavior = { ...up.behavior, delayMs: 1500 };
    down.behavior = { ...down.behavior, delayMs: 1500 };
    const writtenAtMs = time.nowMs;
    await ends.conn.write(toBytes("hello"));
    assertEquals(await readText(ends.other, 5), "hello");
    await delay(3000);
    [up.behavior, down.behavior] = before;
    await delay(20_000);
    assert(time.nowMs > writtenAtMs);
    assertEquals([ends.conn.path.local, ends.conn.path.remote], [local, remote]);
  }));

Deno.test("what is seen of a network that may not be looked at is whether its addresses are there", () =>
  inPeerScene(NATS, async ({ a }) => {
    const network: Network = {
      ...a.network,
      localAddresses: () => Promise.resolve(undefined),
      defaultGateways: () => Promise.resolve(undefined),
    };
    const [ip] = a.addresses;
    const { ips, gateways } = await viewOf(network, new Set([ip!, "192.168.99.9"]));
    assertEquals([...ips], [ip]);
    assertEquals(gateways, "");
  }));

/** A host's network whose gateways can be changed. */
function changingNetwork(network: Network) {
  const gateways: readonly DefaultGateway[] = [{ ip: "192.168.1.1", interfaceName: "eth0" }];
  const changing = { gateways };
  const defaultGateways = () => Promise.resolve([...changing.gateways]);
  return Object.assign(changing, { network: { ...network, defaultGateways } });
}

async function untilPath(connection: PeerConnection): Promise<string[]> {
  const events: string[] = [];
  for await (const { event } of connection.events) {
    events.push(event);
    if (event === "path") break;
  }
  return events;
}

/** A connection whose signaling goes through the same NATs as the connection itself. */
async function withRendezvous(
  strategies: NonNullable<PeerOptions["strategies"]>,
  test: (
    place: PeerScene & { readonly ends: Readonly<Record<"a" | "b", PeerConnection>> },
  ) => Promise<void>,
): Promise<void> {
  await inPeerScene({ ...NATS, rttMs: 50 }, async (place) => {
    const { internet, a, b, open } = place;
    const host = internet.host("server", { link: linkOfRoundTrip(50) });
    const local = { ip: host.addresses[0]!, port: 3480 };
    await using server = await serveRendezvous({ network: host.network, local });
    const options = { signaling: [server.url], strategies };
    await using alice = await open(a, { ...options, listen: false });
    await using bob = await open(b, options);
    const accepted = bob.nextIncoming().then((incoming) => incoming.accept());
    await using conn = await alice.connect(bob.ticket);
    await using other = await accepted;
    for (const [from, to] of [[conn, other], [other, conn]] as const) {
      await from.write(toBytes("first"));
      assertEquals(await readText(to, 5), "first");
    }
    await delay(807); // the path is checked; and just after a ping, the next one is as far away as can be
    await test({ ...place, ends: { a: conn, b: other } });
  });
}
