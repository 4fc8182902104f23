/**
 * An abort at any moment ends the call at once and leaves nothing behind: every simulation checks for open sockets.
 *
 * @module
 */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { delay } from "@std/async/delay";
import { RefusedError } from "../../lib/base/errors.ts";
import type { Peer } from "../../lib/peer/peer.ts";
import type { PeerConnection } from "../../lib/peer/connection.ts";
import type { SignalingConnection, SignalTransport } from "../../lib/signal/transport.ts";
import { inPeerScene, nextOf, type PeerSceneOptions, type TestHub } from "../scenes/peer_scene.ts";
import { ScriptedDialer } from "./scripted_dialer.ts";

for (const [name, readyMs] of [["ready", 2000], ["not ready yet", 1]] as const) {
  Deno.test(`an abort ends connect() at once at any moment, with a base socket that is ${name}`, () =>
    atManyMoments(async ({ alice, bob, afterMs }) => {
      await delay(readyMs);
      const accepting = new AbortController();
      const accepted = nextOf(bob).then((incoming) => incoming.accept(accepting));
      const connecting = new AbortController();
      const connected = alice.connect(bob.ticket, connecting);
      const outcomes = Promise.allSettled([connected, accepted]);
      await delay(afterMs);
      await rejectsAtOnce(connected, () => connecting.abort("enough"));
      accepting.abort("enough");
      await bob.close(); // no request of alice's may have arrived
      await resetAll(await outcomes);
    }));

  Deno.test(`an abort ends accept() at once at any moment, with a base socket that is ${name}`, () =>
    atManyMoments(async ({ alice, bob, afterMs }) => {
      await delay(readyMs);
      const connecting = new AbortController();
      const connected = alice.connect(bob.ticket, connecting);
      connected.catch(() => {});
      const incoming = await nextOf(bob);
      const accepting = new AbortController();
      const accepted = incoming.accept(accepting);
      const outcomes = Promise.allSettled([connected, accepted]);
      await delay(afterMs);
      await rejectsAtOnce(accepted, () => accepting.abort("enough"));
      connecting.abort("enough");
      await resetAll(await outcomes);
    }));
}

for (const name of ["alice", "bob"] as const) {
  Deno.test(`close() of ${name}'s peer is done at once at any moment`, () =>
    atManyMoments(async ({ alice, bob, nowMs, afterMs }) => {
      await delay(2000);
      const accepted = nextOf(bob).then((incoming) => incoming.accept());
      const outcomes = Promise.allSettled([alice.connect(bob.ticket), accepted]);
      await delay(afterMs);
      const closedAtMs = nowMs();
      await (name === "alice" ? alice : bob).close();
      assert(nowMs() - closedAtMs <= 1, `${nowMs() - closedAtMs} ms`);
      await Promise.all([alice.close(), bob.close()]);
      await resetAll(await outcomes);
    }));
}

Deno.test("an abort of connect() at any moment ends the other side's accept() within four seconds", () =>
  atManyMoments(async ({ alice, bob, hub, nowMs, afterMs }) => {
    await delay(2000);
    hub.confirmMs = 100;
    const connecting = new AbortController();
    const connected = alice.connect(bob.ticket, connecting);
    let arrived: Promise<PeerConnection> | undefined;
    const waiting = nextOf(bob).then((incoming) => arrived = incoming.accept());
    const outcomes = Promise.allSettled([connected, waiting]);
    await delay(afterMs);
    connecting.abort("enough");
    const abortedAtMs = nowMs();
    const [ended] = await Promise.allSettled([connected]);
    if (ended.status === "fulfilled") ended.value.reset();
    await delay(1000); // the request may be on its way
    if (arrived !== undefined) await Promise.allSettled([arrived]);
    assert(nowMs() - abortedAtMs < 4000, `${nowMs() - abortedAtMs} ms`);
    await bob.close();
    await resetAll(await outcomes);
  }));

Deno.test("connections that are given up while they wait for their turn are gone five seconds later", () =>
  inPeerScene({ rttMs: 50 }, async ({ a, b, open }) => {
    await using alice = await open(a, { listen: false });
    await using bob = await open(b);
    await delay(2000);
    const pending = new Set<Promise<unknown>>();
    const accepting = acceptAll(bob, pending);
    const crowd = Array.from({ length: 100 }, async (_, i) => {
      const signal = AbortSignal.timeout(200 + i);
      const [connected] = await Promise.allSettled([alice.connect(bob.ticket, { signal })]);
      if (connected.status === "fulfilled") connected.value.reset();
    });
    await Promise.all(crowd);
    await delay(5000);
    assertEquals(pending.size, 0);
    await bob.close();
    await accepting;
  }));

Deno.test("an abort does not wait for a peer that has connected and stays silent", () =>
  inPeerScene({}, async ({ a, b, hub, open, time }) => {
    await using bob = await open(b);
    using mallory = await ScriptedDialer.open(hub, bob.ticket);
    const incoming = nextOf(bob);
    const accepting = new AbortController();
    const accepted = incoming.then((each) => each.accept(accepting));
    const aborted = assertRejects(() => accepted, Error, "enough");
    using _silent = await mallory.punch(a);
    await delay(100);
    const abortedAtMs = time.nowMs;
    accepting.abort(new Error("enough"));
    await aborted;
    assertEquals(time.nowMs, abortedAtMs);
    await delay(2000); // its last message, which stays unanswered
  }));

for (const afterMs of [0, 20, 150]) {
  Deno.test(`a lost rejection is repeated with the request: accept() is aborted after ${afterMs} ms`, () =>
    inPeerScene({}, async ({ a, b, hub, open, time }) => {
      await using alice = await open(a, { listen: false });
      await using bob = await open(b);
      await delay(2000);
      const startedAtMs = time.nowMs;
      const rejected = assertRejects(() => alice.connect(bob.ticket), RefusedError);
      const incoming = await nextOf(bob);
      hub.isMute = true;
      const accepting = new AbortController();
      const aborted = assertRejects(() => incoming.accept(accepting), Error, "enough");
      await delay(afterMs);
      accepting.abort(new Error("enough"));
      await aborted;
      await delay(200);
      hub.isMute = false;
      await rejected;
      assert(time.nowMs - startedAtMs < 2500, `${time.nowMs - startedAtMs} ms`);
    }));
}

Deno.test("an abort ends Peer.open() while a broker stays silent", () =>
  inPeerScene({}, async ({ b, open, time }) => {
    const opening = new AbortController();
    const opened = open(b, { signaling: [SILENT], signal: opening.signal });
    const aborted = assertRejects(() => opened, Error, "enough");
    await delay(1000);
    const abortedAtMs = time.nowMs;
    opening.abort(new Error("enough"));
    await aborted;
    assertEquals(time.nowMs, abortedAtMs);
  }));

Deno.test("a base socket that is nearly ready when connect() is aborted serves the next call", () =>
  inPeerScene({}, async ({ a, b, open, internet }) => {
    await using alice = await open(a, { listen: false });
    await using bob = await open(b);
    let syns = 0;
    internet.onPacket = ({ at, what, packet }) => {
      if (at !== a.name || what !== "sent" || packet.protocol !== "tcp") return;
      const { ip, port } = packet.destination;
      if (packet.tcpFlags.syn && ip.startsWith("203.0.113.1") && port < 3480) syns++;
    };
    await assertRejects(() => alice.connect(bob.ticket, { signal: AbortSignal.timeout(10) }));
    const accepted = nextOf(bob).then((incoming) => incoming.accept());
    await using _conn = await alice.connect(bob.ticket);
    await using _other = await accepted;
    assert(syns <= 4, "another base socket was prepared"); // it asks servers to dial back, and dials none from 7 ports
  }));

interface Moment {
  readonly hub: TestHub;
  readonly alice: Peer;
  readonly bob: Peer;
  /** When to abort, from the start of the test. */
  readonly afterMs: number;
  nowMs(): number;
}

/** Runs a test for each of many moments, until well after the peers are connected. */
async function atManyMoments(
  test: (moment: Moment) => Promise<void>,
  options: PeerSceneOptions = {},
): Promise<void> {
  for (let afterMs = 1; afterMs < 500; afterMs += 17) {
    await inPeerScene(options, async ({ a, b, hub, open, time }) => {
      await using alice = await open(a, { listen: false });
      await using bob = await open(b);
      await test({ alice, bob, hub, afterMs, nowMs: () => time.nowMs });
      await delay(3001); // for so long, alice may wait for an answer that was on its way, to cancel it
      const topics = [...hub.subscribers.values()].filter(({ size }) => size > 0);
      assert(topics.length <= 3, "there are listeners other than bob's on his own topics");
      await Promise.all([alice.close(), bob.close()]);
      await delay(2000); // resets arrive at the other end
      assertEquals(time.pendingTimers, 0, "timers were left");
    });
  }
}

/** Checks that a job rejects within a millisecond of the abort, unless it was done before. */
async function rejectsAtOnce(job: Promise<unknown>, abort: () => void): Promise<void> {
  const pending = Symbol();
  const turn = () => new Promise((resolve) => setTimeout(resolve, 1, pending));
  if (await Promise.race([job, turn()]) !== pending) return abort();
  abort();
  const outcome = await Promise.race([job.catch((error) => error), turn()]);
  assertEquals(outcome, "enough");
}

async function resetAll(
  outcomes: readonly PromiseSettledResult<PeerConnection>[],
): Promise<void> {
  for (const outcome of outcomes) {
    if (outcome.status === "rejected") continue;
    outcome.value.reset();
    await outcome.value[Symbol.asyncDispose]();
  }
}

/** Accepts the connection, and stays silent. */
const SILENT: SignalTransport = {
  url: "ws://192.0.2.7:3480",
  open: ({ signal }) =>
    new Promise<SignalingConnection>((_, reject) =>
      signal?.addEventListener("abort", () => reject(signal.reason), { once: true })
    ),
};

async function acceptAll(peer: Peer, pending: Set<Promise<unknown>>): Promise<void> {
  try {
    for (;;) {
      const incoming = await peer.nextIncoming();
      const accepted = incoming.accept().then((connection) => connection.reset(), () => {});
      pending.add(accepted);
      accepted.then(() => pending.delete(accepted));
    }
  } catch {
    await Promise.all(pending); // the peer is closed
  }
}
