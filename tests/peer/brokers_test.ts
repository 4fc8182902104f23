import { assert, assertEquals } from "@std/assert";
import { delay } from "@std/async/delay";
import type { PeerOptions } from "../../lib/peer/options.ts";
import type { SignalingConnection, SignalTransport } from "../../lib/signal/transport.ts";
import { readText, toBytes } from "../simnet/fixtures.ts";
import { inPeerScene, nextOf, type PeerScene, TestHub } from "../scenes/peer_scene.ts";

Deno.test("two dead brokers and a slow one of four do not delay a connection", () =>
  inPeerScene({}, async (place) => {
    const slow = new TestHub("ws://192.0.2.8:3480", 1500);
    const signaling = [DEAD, SILENT, slow, place.hub];
    const elapsedMs = await connectOnce(place, { signaling });
    assert(elapsedMs < 1000, `${elapsedMs} ms`);
  }));

Deno.test("a slow broker is used if all others are dead", () =>
  inPeerScene({}, async (place) => {
    const slow = new TestHub("ws://192.0.2.8:3480", 1500);
    const elapsedMs = await connectOnce(place, { signaling: [DEAD, SILENT, slow] });
    assert(elapsedMs < 5000, `${elapsedMs} ms`);
  }));

Deno.test("a request that arrives over several brokers leads to one connection", () =>
  inPeerScene({}, async (place) => {
    const others = [1, 2].map((n) => new TestHub(`ws://192.0.2.${n}:3480`, 20 * n));
    await connectOnce(place, { signaling: [place.hub, ...others] });
  }));

Deno.test("a broker that repeats and reorders all messages causes no second connection", () =>
  inPeerScene({}, async (place) => {
    await connectOnce(place, { signaling: [new RepeatingHub()] });
  }));

Deno.test("a broker that loses two thirds of all messages is enough", () =>
  inPeerScene({}, async (place) => {
    let count = 0;
    const lossy = new TestHub();
    const deliver = lossy.deliver.bind(lossy);
    lossy.deliver = (topic, message) => {
      if (count++ % 3 === 2) deliver(topic, message);
    };
    await connectOnce(place, { signaling: [lossy] });
  }));

Deno.test("a broker that sends twenty damaged copies of everything to everyone prevents nothing", () =>
  inPeerScene({}, async (place) => {
    await connectOnce(place, { signaling: [new DamagingHub()] });
  }));

/** Connects a to b once, and checks that b saw one request; returns how long connecting took. */
async function connectOnce(
  { a, b, open, time }: PeerScene,
  { signaling }: Pick<PeerOptions, "signaling">,
): Promise<number> {
  await using alice = await open(a, { signaling, listen: false });
  await using bob = await open(b, { signaling });
  let shown = 0;
  const accepted = (async () => {
    const incoming = await bob.nextIncoming();
    shown++;
    return await incoming.accept();
  })();
  await delay(2000); // base sockets are ready
  const startedAtMs = time.nowMs;
  await using conn = await alice.connect(bob.ticket);
  const elapsedMs = time.nowMs - startedAtMs;
  await using other = await accepted;
  const counting = (async () => {
    for await (const incoming of bob) {
      shown++;
      incoming.ignore();
    }
  })();
  await conn.write(toBytes("hello"));
  assertEquals(await readText(other, 5), "hello");
  await delay(60_000); // all repetitions have arrived by now
  await other.write(toBytes("world"));
  assertEquals(await readText(conn, 5), "world");
  await bob.close();
  await counting;
  assertEquals(shown, 1);
  return elapsedMs;
}

/** Cannot be reached. */
const DEAD = Object.assign(new TestHub("ws://192.0.2.6:3480"), { isDown: true });

/** Accepts the connection, and stays silent. */
const SILENT: SignalTransport = {
  url: "ws://192.0.2.7:3480",
  open: ({ signal }) =>
    new Promise<SignalingConnection>((_, reject) =>
      signal?.addEventListener("abort", () => reject(signal.reason), { once: true })
    ),
};

/** Delivers every message three times, along with all that came before, newest first. */
class RepeatingHub extends TestHub {
  override deliver(topic: string, message: Uint8Array): void {
    super.deliver(topic, message);
    for (const [index, old] of [...this.published].reverse().entries()) {
      setTimeout(() => super.deliver(old.topic, old.message), 30 * (index % 5) + 10);
    }
    super.deliver(topic, message);
  }
}

/** Delivers every message to every topic, damaged in many ways, before it delivers the original. */
class DamagingHub extends TestHub {
  override deliver(topic: string, message: Uint8Array): void {
    for (const to of this.subscribers.keys()) {
      for (let i = 0; i < 20; i++) super.deliver(to, damaged(message));
      if (to !== topic) super.deliver(to, message);
    }
    super.deliver(topic, message);
  }
}

function damaged(message: Uint8Array): Uint8Array {
  const at = Math.floor(Math.random() * message.length);
  const copy = message.slice();
  switch (Math.floor(Math.random() * 4)) {
    case 0: // another kind, or a flipped bit in the first bytes
      copy[0]! ^= 1 << at % 8;
      return copy;
    case 1: // the MAC, the keys, or the counter
      copy[at % 60]! ^= 1 << at % 8;
      return copy;
    case 2:
      copy[at]! ^= 1 << at % 8;
      return copy;
    default:
      return copy.subarray(0, at);
  }
}

Deno.test("a peer listens on a broker that was down at first once it is up", () =>
  inPeerScene({}, async ({ a, b, hub, open }) => {
    const late = Object.assign(new TestHub("ws://192.0.2.5:3480"), { isDown: true });
    await using bob = await open(b, { signaling: [hub, late] });
    await using alice = await open(a, { signaling: [late], listen: false });
    hub.isDown = true; // at the time when alice uses it
    late.isDown = false;
    await delay(10_000);
    const accepted = nextOf(bob).then((incoming) => incoming.accept());
    await using conn = await alice.connect(bob.ticket);
    await using other = await accepted;
    assertEquals(conn.remoteKey, bob.publicKey);
    assertEquals(other.remoteKey, alice.publicKey);
  }));
