import { assert, assertEquals, assertRejects } from "@std/assert";
import { delay } from "@std/async/delay";
import type { PeerConnection } from "../../lib/peer/connection.ts";
import { NetworkError } from "../../lib/base/errors.ts";
import { NAT_BEHAVIORS, natBehavior } from "../../lab/model/nat_behavior.ts";
import { readText, toBytes } from "../simnet/fixtures.ts";
import { inPeerScene } from "../scenes/peer_scene.ts";

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
    // Not with the base socket that was ready before: its mapping is gone as well, which would take twelve seconds to show.
    assert(time.nowMs - flushedAtMs < 8000, `${time.nowMs - flushedAtMs} ms`);
    assertEquals(conn.path.relayed, false);
    assertEquals(typeof remote, "string");
  }));

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

Deno.test("both sides get a path event, and the one that notices first a lost event before", () =>
  inPeerScene(NATS, async ({ connect, nats }) => {
    await using ends = await connect();
    const events = [ends.conn, ends.other].map(untilPath);
    nats.b.flush();
    await ends.conn.write(toBytes("anybody there?"));
    assertEquals(await events[0], ["lost", "path"]);
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

async function untilPath(connection: PeerConnection): Promise<string[]> {
  const events: string[] = [];
  for await (const { event } of connection.events) {
    events.push(event);
    if (event === "path") break;
  }
  return events;
}
