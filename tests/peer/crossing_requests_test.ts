import { assert, assertEquals, assertRejects } from "@std/assert";
import { delay } from "@std/async/delay";
import { RefusedError } from "../../lib/base/errors.ts";
import type { PeerConnection } from "../../lib/peer/connection.ts";
import { CrossingRequests } from "../../lib/peer/crossing_requests.ts";
import {
  type CrossingEvent,
  type CrossingState,
  HELD_MS,
  stepCrossing,
} from "../../lib/peer/crossing_requests_engine.ts";
import type { IncomingConnection } from "../../lib/peer/incoming.ts";
import type { Peer } from "../../lib/peer/peer.ts";
import { inPeerScene, type PeerScene } from "../scenes/peer_scene.ts";

/** What happens, and what follows. */
const CASES: Readonly<Record<string, readonly (readonly [CrossingEvent, string])[]>> = {
  "the peer with the higher key accepts the other's request for its own": [
    [met(false), "accepting accept"],
    [{ kind: "failed" }, "accepting"],
    [met(false), "accepting"],
  ],
  "the peer with the lower key waits for the answer to its own": [
    [met(true), "holding"],
    [met(true), "holding"],
    [{ kind: "answered" }, "settled refuse"],
    [{ kind: "failed" }, "settled"],
  ],
  "it accepts the other's if its own gets no answer in time": [
    [met(true), "holding"],
    [{ kind: "time" }, "accepting accept"],
    [{ kind: "answered" }, "accepting"],
  ],
  "or fails": [
    [met(true), "holding"],
    [{ kind: "failed" }, "accepting accept"],
  ],
  "the application decides about the other's if it has given its own up": [
    [met(true), "holding"],
    [{ kind: "aborted" }, "settled show"],
  ],
  "one that is given up makes room for another": [
    [met(true), "holding"],
    [{ kind: "withdrawn" }, "dialling"],
    [met(true), "holding"],
  ],
  "after the answer, a request is one of its own": [
    [{ kind: "answered" }, "settled"],
    [met(false), "settled"],
  ],
};

for (const [name, steps] of Object.entries(CASES)) {
  Deno.test(`crossing requests: ${name}`, () => {
    let state: CrossingState = "dialling";
    for (const [event, expected] of steps) {
      const step = stepCrossing(state, event);
      state = step.state;
      assertEquals([step.state, step.action].filter(Boolean).join(" "), expected, event.kind);
    }
  });
}

for (const laterMs of [0, 20, 45]) {
  Deno.test(`two peers that dial each other ${laterMs} ms apart keep one connection, the lower key's`, () =>
    inPeerScene({}, async ({ a, b, open }) => {
      await using alice = await open(a, { listen: true });
      await using bob = await open(b, { listen: true });
      const visitors: PeerConnection[] = [];
      for (const peer of [alice, bob]) peer.serve((connection) => void visitors.push(connection));
      for (const [one, other] of [[alice, bob], [bob, alice]] as const) {
        const first = one.connect(other.ticket);
        await new Promise((resolve) => setTimeout(resolve, laterMs));
        const [here, there] = await Promise.all([first, other.connect(one.ticket)]);
        assertEquals([one.connections, other.connections], [[here], [there]]);
        const isOneLower = lower(one, other);
        assertEquals([here.isControlling, there.isControlling], [isOneLower, !isOneLower]);
        await assertCarries(here, there);
        await Promise.all([here, there].map((each) => each[Symbol.asyncDispose]()));
      }
      assertEquals(visitors, []); // each belongs to whoever has called connect()
    }));
}

// The request arrives after 210 ms, and its connection is there after 460 ms.
for (const laterMs of [220, 300, 400]) {
  for (const isServed of [true, false]) {
    const where = isServed ? "serve() accepts" : "waits to be read";
    Deno.test(`a peer that dials ${laterMs} ms after the other, whose request ${where}, gets that connection`, () =>
      inPeerScene({}, async ({ a, b, hub, open }) => {
        await using alice = await open(a, { listen: true });
        const topicsOfAlice = [...hub.subscribers.keys()];
        await using bob = await open(b, { listen: true });
        const visitors: PeerConnection[] = [];
        const server = isServed ? bob.serve((connection) => void visitors.push(connection)) : null;
        const first = alice.connect(bob.ticket);
        await delay(laterMs);
        const there = await bob.connect(alice.ticket);
        const here = await first;
        assertEquals([alice.connections, bob.connections], [[here], [there]]);
        assertEquals([here.isControlling, there.isControlling], [true, false]);
        assertEquals(hub.published.filter(({ topic }) => topicsOfAlice.includes(topic)), []);
        await assertCarries(here, there);
        await Promise.all([here, there].map((each) => each[Symbol.asyncDispose]()));
        await server?.shutdown();
        assertEquals(visitors, []);
      }));
  }
}

Deno.test("a dial that is aborted leaves the connection that serve() makes to its handler", () =>
  inPeerScene({}, async ({ a, b, open }) => {
    await using alice = await open(a, { listen: true });
    await using bob = await open(b, { listen: true });
    const leaving = new AbortController();
    const visit = Promise.withResolvers<PeerConnection>();
    bob.serve(async (connection) => {
      visit.resolve(connection);
      await connection.finished;
    });
    const first = alice.connect(bob.ticket);
    await delay(220);
    const dialling = bob.connect(alice.ticket, { signal: leaving.signal });
    await delay(10);
    leaving.abort(new Error("gone"));
    await assertRejects(() => dialling, Error, "gone");
    const [here, there] = await Promise.all([first, visit.promise]);
    await assertCarries(here, there);
    assertEquals([alice.connections, bob.connections], [[here], [there]]);
    await here[Symbol.asyncDispose]();
  }));

Deno.test("if the other side's earlier request leads to nothing, this side's does", () =>
  inPeerScene({}, async ({ a, b, open }) => {
    await using alice = await open(a, { listen: true });
    await using bob = await open(b, { listen: true });
    alice.serve((connection) => connection.finished);
    const errors: unknown[] = [];
    bob.serve(() => {}, { onError: (error) => errors.push(error) });
    const leaving = new AbortController();
    const first = alice.connect(bob.ticket, { signal: leaving.signal });
    await delay(220);
    const dialling = bob.connect(alice.ticket);
    leaving.abort(new Error("gone"));
    await assertRejects(() => first, Error, "gone");
    await using connection = await dialling;
    assertEquals(connection.isControlling, true);
    assertEquals(errors, []); // they are those of the caller of connect()
  }));

for (const isServed of [true, false]) {
  const where = isServed ? "serve() accepts" : "waits to be read";
  Deno.test(`a peer that has vanished is dialled at once, although its request ${where}`, () =>
    inPeerScene({}, async (scene) => {
      await using both = await openLower(scene);
      const { low, high } = both;
      high.serve((connection) => connection.finished);
      const server = isServed ? low.serve(() => {}, { onError: () => {} }) : null;
      const leaving = new AbortController();
      const first = high.connect(low.ticket, { signal: leaving.signal });
      await delay(220);
      using _ = both.dropRequestsTo(low);
      leaving.abort(new Error("killed")); // which the other side does not hear of
      await assertRejects(() => first, Error, "killed");
      await delay(4000);
      const startedMs = scene.time.nowMs;
      await using connection = await low.connect(high.ticket);
      assertEquals(connection.isControlling, true);
      assert(scene.time.nowMs - startedMs < 3000, `${scene.time.nowMs - startedMs} ms`);
      connection.reset();
      void server?.shutdown();
    }));
}

Deno.test("once a connection is handed over, a peer that dials gets a second one", () =>
  inPeerScene({}, async ({ a, b, open }) => {
    await using alice = await open(a, { listen: true });
    await using bob = await open(b, { listen: true });
    const visits = [Promise.withResolvers<void>(), Promise.withResolvers<void>()] as const;
    for (const [index, peer] of [bob, alice].entries()) {
      peer.serve(async (connection) => {
        visits[index]!.resolve();
        await connection.finished;
      });
    }
    await using first = await alice.connect(bob.ticket);
    await visits[0].promise;
    await using second = await bob.connect(alice.ticket);
    await visits[1].promise;
    assertEquals([first.isControlling, second.isControlling], [true, true]);
    assertEquals([alice.connections.length, bob.connections.length], [2, 2]);
  }));

for (const readsAt of ["low", "high"] as const) {
  Deno.test(`a request that the application has read stays its own, at the ${readsAt}er key`, () =>
    inPeerScene({}, async (scene) => {
      await using both = await openLower(scene);
      const [reader, dialer] = readsAt === "low" ? [both.low, both.high] : [both.high, both.low];
      dialer.serve((connection) => connection.finished);
      const first = dialer.connect(reader.ticket);
      const incoming = await reader.nextIncoming();
      const dialling = reader.connect(dialer.ticket);
      const ends = await Promise.allSettled([incoming.accept(), first, dialling]);
      const connections = ends.map((each) => each.status === "fulfilled" ? each.value : null);
      const roles = connections.map((each) => each?.isControlling ?? null);
      // Until the answer arrives, the two requests cross, and the lower key's counts.
      assertEquals(roles, readsAt === "low" ? [null, false, true] : [false, true, true]);
      await Promise.all(connections.map((each) => each?.[Symbol.asyncDispose]()));
    }));
}

Deno.test("a dial that succeeds as the other side's request is accepted leaves no connection open", async () => {
  const requests = new CrossingRequests(Uint8Array.of(2), {
    protocol: "",
    show: () => true,
    acceptEarlier: () => undefined,
  });
  let resets = 0;
  const connection = { reset: () => void resets++ } as unknown as PeerConnection;
  const accepted = {} as unknown as PeerConnection;
  const incoming = {
    ...{ remoteKey: Uint8Array.of(1), protocol: "" },
    accept: () => Promise.resolve(accepted),
  } as unknown as IncomingConnection;
  const { promise: dialling, resolve } = Promise.withResolvers<PeerConnection>();
  const connecting = requests.connect(Uint8Array.of(1), () => dialling, undefined);
  requests.take(incoming);
  resolve(connection);
  assertEquals([await connecting === accepted, resets], [true, 1]);
});

Deno.test("if only the higher key's request gets through, both keep that", () =>
  inPeerScene({}, async (scene) => {
    await using low = await openLower(scene);
    const { high } = low;
    low.low.serve(() => {});
    high.serve(() => {});
    const heard = high.connect(low.low.ticket);
    const dialling = low.low.connect(high.ticket);
    const dropped = low.dropRequestsTo(high);
    setTimeout(() => dropped[Symbol.dispose](), HELD_MS + 1000);
    const [there, here] = await Promise.all([heard, dialling]);
    assertEquals([here.isControlling, there.isControlling], [false, true]);
    await assertCarries(here, there);
    assertEquals([low.low.connections.length, high.connections.length], [1, 1]);
    await Promise.all([here, there].map((each) => each[Symbol.asyncDispose]()));
  }));

Deno.test("a dial that is aborted leaves a crossing request to the application", () =>
  inPeerScene({}, async (scene) => {
    await using low = await openLower(scene);
    const { high } = low;
    const leaving = new AbortController();
    const visits = Promise.withResolvers<PeerConnection>();
    low.low.serve(async (connection) => {
      visits.resolve(connection);
      await connection.finished;
    });
    const dropped = low.dropRequestsTo(high);
    const dialling = low.low.connect(high.ticket, { signal: leaving.signal });
    const heard = high.connect(low.low.ticket);
    setTimeout(() => leaving.abort(new Error("gone")), 600);
    await assertRejects(() => dialling, Error, "gone");
    dropped[Symbol.dispose]();
    const [there, here] = await Promise.all([heard, visits.promise]);
    await assertCarries(here, there);
    await there[Symbol.asyncDispose]();
  }));

Deno.test("peers of different protocols do not take each other's requests for their own", () =>
  inPeerScene({}, async ({ a, b, open }) => {
    await using alice = await open(a, { listen: true, protocol: "one" });
    await using bob = await open(b, { listen: true, protocol: "two" });
    const dials = [alice.connect(bob.ticket), bob.connect(alice.ticket)];
    for (const dial of dials) await assertRejects(() => dial, RefusedError);
  }));

interface LowerScene extends AsyncDisposable {
  readonly low: Peer;
  readonly high: Peer;
  /** Loses what is published under the topics of a peer's ticket. */
  dropRequestsTo(peer: Peer): Disposable;
}

/** Two peers that listen, by the order of their keys. */
async function openLower({ a, b, hub, open }: PeerScene): Promise<LowerScene> {
  const before = new Set(hub.subscribers.keys());
  const one = await open(a, { listen: true });
  const topicsOfOne = [...hub.subscribers.keys()].filter((topic) => !before.has(topic));
  const other = await open(b, { listen: true });
  const topicsOfOther = [...hub.subscribers.keys()].filter((topic) =>
    !before.has(topic) && !topicsOfOne.includes(topic)
  );
  const [low, high] = lower(one, other) ? [one, other] : [other, one];
  return {
    low,
    high,
    dropRequestsTo: (peer) => {
      const topics = peer === one ? topicsOfOne : topicsOfOther;
      const kept = topics.map((topic) => [topic, hub.subscribers.get(topic)] as const);
      for (const topic of topics) hub.subscribers.set(topic, new Set());
      return {
        [Symbol.dispose]: () => {
          for (const [topic, set] of kept) hub.subscribers.set(topic, set!);
        },
      };
    },
    [Symbol.asyncDispose]: async () => {
      await Promise.all([one.close(), other.close()]);
    },
  };
}

async function assertCarries(one: PeerConnection, other: PeerConnection): Promise<void> {
  const buffer = new Uint8Array(5);
  await one.write(new TextEncoder().encode("there"));
  assertEquals(await other.read(buffer), 5);
  await other.write(buffer);
  assertEquals(await one.read(buffer), 5);
}

function lower(one: Peer, other: Peer): boolean {
  const index = one.publicKey.findIndex((byte, index) => byte !== other.publicKey[index]);
  return one.publicKey[index]! < other.publicKey[index]!;
}

function met(isOwnKeyLower: boolean): CrossingEvent {
  return { kind: "met", isOwnKeyLower };
}
