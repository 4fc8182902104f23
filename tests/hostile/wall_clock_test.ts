// Wall clocks that are set while a connection is up, in virtual time: a lost path is found again, and nothing is replayed.

import { assert, assertEquals } from "@std/assert";
import { delay } from "@std/async/delay";
import { NAT_BEHAVIORS, natBehavior } from "../../lab/model/nat_behavior.ts";
import { inPeerScene, type PeerScene } from "../scenes/peer_scene.ts";
import { readText, toBytes } from "../simnet/fixtures.ts";

const HOUR_MS = 3_600_000;
const YEAR_MS = 365 * 24 * HOUR_MS;

/** A NAT that gives a lost mapping another port when it comes back. */
const random = natBehavior({ allocation: { kind: "random" } }, NAT_BEHAVIORS.portRestricted);
const NATS = { a: random, b: random };

for (
  const [how, jumpMs] of [
    ["ten years ahead", 10 * YEAR_MS],
    ["ten years back", -10 * YEAR_MS],
    ["twelve minutes ahead", 12 * 60_000],
    ["three hours back", -3 * HOUR_MS],
  ] as const
) {
  Deno.test(`a path is found again after the listener's wall clock was set ${how}`, () =>
    inPeerScene(NATS, async (scene) => {
      await using ends = await scene.connect();
      await exchange(ends, "before");
      for (const wait of ["at once", "later"]) {
        await listenerSees(scene, jumpMs);
        if (wait === "later") await delay(5 * 60_000);
        await losePath(scene, ends);
        await listenerSees(scene, -jumpMs);
        await losePath(scene, ends);
      }
    }));

  Deno.test(`a path is found again after the connector's wall clock was set ${how}`, () =>
    inPeerScene(NATS, async (scene) => {
      await using ends = await scene.connect();
      await exchange(ends, "before");
      // The same for the connector: to it, everyone else's clock was set back.
      scene.time.jumpWallClock(jumpMs);
      await listenerSees(scene, -jumpMs);
      await losePath(scene, ends);
      await losePath(scene, ends);
    }));
}

Deno.test("a path is found again after both wall clocks were set, in opposite directions", () =>
  inPeerScene(NATS, async (scene) => {
    await using ends = await scene.connect();
    await exchange(ends, "before");
    scene.time.jumpWallClock(YEAR_MS);
    await listenerSees(scene, -2 * YEAR_MS);
    await losePath(scene, ends);
  }));

Deno.test("a signaling server cannot replay requests when a wall clock shows their time again", () =>
  inPeerScene({ ...NATS, limitMs: 4 * HOUR_MS }, async (scene) => {
    const { connect, hub, nats, time, internet, b } = scene;
    await using ends = await connect();
    const earlier = hub.published.length;
    nats.a.flush();
    nats.b.flush();
    await exchange(ends, "after a search for another path");
    const recorded = hub.published.slice(earlier);
    await delay(2 * HOUR_MS); // no request is remembered for so long
    time.jumpWallClock(-2 * HOUR_MS);
    await delay(61_000);
    let syns = 0;
    internet.onPacket = ({ at, what, packet }) => {
      if (at !== b.name || what !== "sent" || packet.protocol !== "tcp") return;
      if (packet.tcpFlags.syn && !packet.tcpFlags.ack) syns++;
    };
    const published = hub.published.length;
    for (const { topic, message } of recorded) hub.deliver(topic, message);
    await delay(60_000);
    assertEquals({ syns, answers: hub.published.length - published }, { syns: 0, answers: 0 });
  }));

/** From now on the listener's wall clock differs by this from what it was: when it renews its topics, and for requests. */
async function listenerSees({ time, hub }: PeerScene, jumpMs: number): Promise<void> {
  const deliver = hub.deliver.bind(hub);
  time.jumpWallClock(jumpMs);
  await delay(61_000);
  time.jumpWallClock(-jumpMs);
  hub.deliver = (topic, message) => {
    time.jumpWallClock(jumpMs);
    deliver(topic, message);
    time.jumpWallClock(-jumpMs);
  };
}

async function losePath({ nats, time }: PeerScene, ends: Ends): Promise<void> {
  const lostAtMs = time.nowMs;
  nats.a.flush();
  nats.b.flush();
  await exchange(ends, "after");
  assert(time.nowMs - lostAtMs < 25_000, `${time.nowMs - lostAtMs} ms`);
}

async function exchange({ conn, other }: Ends, text: string): Promise<void> {
  await conn.write(toBytes(text));
  assertEquals(await readText(other, text.length), text);
  await other.write(toBytes(text));
  assertEquals(await readText(conn, text.length), text);
}

type Ends = Awaited<ReturnType<PeerScene["connect"]>>;
