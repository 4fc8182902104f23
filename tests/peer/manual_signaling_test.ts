import { assert, assertEquals, assertRejects } from "@std/assert";
import { delay } from "@std/async/delay";
import { NoResponseError, UnreachableError } from "../../lib/base/errors.ts";
import { WaitQueue } from "../../lib/base/wait_queue.ts";
import { manualTransport } from "../../lib/signal/manual.ts";
import type { PeerOptions } from "../../lib/peer/options.ts";
import type { SignalTransport } from "../../lib/signal/transport.ts";
import { NAT_BEHAVIORS, natBehavior } from "../../lab/model/nat_behavior.ts";
import { toBytes, toText } from "../simnet/fixtures.ts";
import { inPeerScene, nextOf, type PeerScene } from "../scenes/peer_scene.ts";

const { portRestricted, symmetricPreserving, symmetricSequential } = NAT_BEHAVIORS;
const resetting = { ...portRestricted, unsolicitedSyn: "reset" } as const;
const forgetful = {
  ...portRestricted,
  tcpEstablishedTimeoutMs: 60_000,
  allocation: { kind: "random" },
} as const;
const closing = { ...resetting, resetEndsMapping: true } as const;
const MINUTES = 60_000;
const RANDOM_PORTS = {
  mapping: "address-and-port-dependent",
  allocation: { kind: "random" },
} as const;

/** Two people who pass on the messages that they are shown, after a while. */
class Hands {
  /** Every message that they passed on. */
  readonly carried: string[] = [];
  readonly a: SignalTransport;
  readonly b: SignalTransport;

  constructor(afterMs: { fromA: number; fromB: number }) {
    const [toA, toB] = [new WaitQueue<string>(10), new WaitQueue<string>(10)];
    const hand = (to: WaitQueue<string>, from: WaitQueue<string>, ms: number) =>
      manualTransport({
        lines: linesOf(from),
        write: (line) => {
          this.carried.push(line);
          delay(ms, { persistent: false }).then(() => to.push(line));
        },
      });
    this.a = hand(toB, toA, afterMs.fromA);
    this.b = hand(toA, toB, afterMs.fromB);
  }
}

async function* linesOf(queue: WaitQueue<string>): AsyncGenerator<string> {
  for (;;) yield await queue.next();
}

/** Two peers whose messages people carry. */
async function connectManually(
  place: PeerScene,
  { a, b }: Pick<Hands, "a" | "b">,
  options: PeerOptions = {},
) {
  const stack = new AsyncDisposableStack();
  const alice = stack.use(
    await place.open(place.a, { signaling: [a], listen: false, ...options }),
  );
  const bob = stack.use(await place.open(place.b, { signaling: [b], ...options }));
  const accepted = nextOf(bob).then((incoming) => incoming.accept());
  accepted.catch(() => {}); // some tests do not wait for it
  return { alice, bob, accepted, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

const PAIRS = [
  ["two port-restricted NATs", portRestricted, portRestricted],
  ["a NAT that resets and one that drops", resetting, portRestricted],
  ["a NAT that drops and one that resets", portRestricted, resetting],
  ["two NATs that reset", resetting, resetting],
  ["a NAT that closes on a reset and one that drops", closing, portRestricted],
  ["a NAT that drops and one that closes on a reset", portRestricted, closing],
  ["two NATs that close on a reset", closing, closing],
  ["two NATs that drop mappings after an idle minute", forgetful, forgetful],
  ["a NAT that preserves ports", portRestricted, symmetricPreserving],
] as const;

for (const [name, a, b] of PAIRS) {
  Deno.test(`manual signaling: one message each way connects through ${name}`, async () => {
    await inPeerScene({ a, b }, async (place) => {
      const hands = new Hands({ fromA: 3 * MINUTES, fromB: 2 * MINUTES });
      await using ends = await connectManually(place, hands);
      const conn = await ends.alice.connect(ends.bob.ticket);
      const other = await ends.accepted;
      assert(!conn.path.relayed);
      assertEquals(hands.carried.length, 2);
      await conn.write(toBytes("hello"));
      const buffer = new Uint8Array(10);
      assertEquals(toText(buffer.subarray(0, (await other.read(buffer))!)), "hello");
      await delay(5 * MINUTES); // no more messages later either
      assertEquals(hands.carried.length, 2);
      await Promise.all([conn[Symbol.asyncDispose](), other[Symbol.asyncDispose]()]);
    });
  });
}

const dropping = natBehavior({ crossedSyn: "drop" });
/** As many home routers: 30 s without a datagram from inside. */
const hasty = natBehavior({ udpTimeoutMs: 30_000, udpInboundRefresh: false }, dropping);
const UDP_PAIRS = [
  ["drop crossing SYNs", dropping, dropping, {}],
  ["drop crossing SYNs, and mappings after 30 s", hasty, hasty, {}],
  [
    "drop mappings after 30 s, and choose ports at random",
    natBehavior({ allocation: { kind: "random" } }, hasty),
    natBehavior({ allocation: { kind: "random" } }, hasty),
    {},
  ],
  [
    "are symmetric for TCP only, one of them preserving ports for UDP",
    natBehavior({ tcp: RANDOM_PORTS, udpTimeoutMs: 30_000 }),
    natBehavior({ tcp: RANDOM_PORTS, udpTimeoutMs: 30_000 }, symmetricPreserving),
    {},
  ],
  ["let TCP through, too, if only UDP is wanted", hasty, portRestricted, {
    strategies: ["punch-udp"],
  }],
] as const;

for (const [what, a, b, options] of UDP_PAIRS) {
  for (const [from, nats] of [["a", { a, b }], ["b", { a: b, b: a }]] as const) {
    Deno.test(`manual signaling: peers connect by UDP if their NATs ${what}; ${from} dials`, async () => {
      await inPeerScene(nats, async (place) => {
        const hands = new Hands({ fromA: 3 * MINUTES, fromB: 3.5 * MINUTES });
        await using ends = await connectManually(place, hands, options);
        const conn = await ends.alice.connect(ends.bob.ticket);
        const other = await ends.accepted;
        for (const { path } of [conn, other]) {
          assertEquals([path.kind, path.transport], ["punch-udp", "udp"]);
        }
        assertEquals(hands.carried.length, 2);
        await conn.write(toBytes("hello"));
        const buffer = new Uint8Array(10);
        assertEquals(toText(buffer.subarray(0, (await other.read(buffer))!)), "hello");
        await delay(10 * MINUTES); // the path lives without signaling
        await other.write(toBytes("hello to you"));
        assertEquals(toText(buffer.subarray(0, (await conn.read(buffer))!)), "hello to y");
        assertEquals(hands.carried.length, 2);
      });
    });
  }
}

Deno.test("manual signaling: while an answer is carried, a port gets eight datagrams at most", async () => {
  await inPeerScene({ a: dropping, b: dropping }, async (place) => {
    const hands = new Hands({ fromA: MINUTES, fromB: 60 * MINUTES });
    await using ends = await connectManually(place, hands);
    const connecting = ends.alice.connect(ends.bob.ticket).catch((error) => error);
    const error = await assertRejects(() => ends.accepted, UnreachableError);
    const byUdp = error.attempts.filter(({ transport }) => transport === "udp");
    assertEquals(byUdp.map(({ tries }) => tries), [8]);
    await connecting;
  });
});

Deno.test("manual signaling: port predictions from a minute ago are not used", async () => {
  await inPeerScene({ a: portRestricted, b: symmetricSequential }, async (place) => {
    const hands = new Hands({ fromA: MINUTES, fromB: MINUTES });
    await using ends = await connectManually(place, hands);
    const startedAtMs = place.time.nowMs;
    const connecting = ends.alice.connect(ends.bob.ticket);
    const error = await assertRejects(() => connecting, UnreachableError);
    assert(error.message.includes("impossible"), error.message);
    assertEquals(
      error.remedy,
      "Meet by a server, named in `signaling`, so that a relay can be used",
    );
    await assertRejects(() => ends.accepted, UnreachableError);
    assert(place.time.nowMs - startedAtMs < 2.2 * MINUTES);
    assertEquals(hands.carried.length, 2);
  });
});

Deno.test("manual signaling: connect() waits ten minutes at most", async () => {
  await inPeerScene({}, async (place) => {
    const hands = new Hands({ fromA: 60 * MINUTES, fromB: MINUTES });
    await using ends = await connectManually(place, hands);
    const startedAtMs = place.time.nowMs;
    await assertRejects(() => ends.alice.connect(ends.bob.ticket), NoResponseError, "600 s");
    assert(place.time.nowMs - startedAtMs < 10.1 * MINUTES);
  });
});

Deno.test("manual signaling: accept() gives up four minutes after an answer that is never passed on", async () => {
  await inPeerScene({}, async (place) => {
    const hands = new Hands({ fromA: MINUTES, fromB: 60 * MINUTES });
    await using ends = await connectManually(place, hands);
    const connecting = ends.alice.connect(ends.bob.ticket).catch((error) => error);
    const startedAtMs = place.time.nowMs;
    await assertRejects(() => ends.accepted, UnreachableError);
    assert(place.time.nowMs - startedAtMs < 5.5 * MINUTES);
    assert(await connecting instanceof NoResponseError);
  });
});

Deno.test("manual signaling: a refusal is the only answer", async () => {
  await inPeerScene({}, async (place) => {
    const hands = new Hands({ fromA: MINUTES, fromB: MINUTES });
    await using alice = await place.open(place.a, { signaling: [hands.a], listen: false });
    await using bob = await place.open(place.b, { signaling: [hands.b] });
    nextOf(bob).then((incoming) => incoming.refuse());
    await assertRejects(() => alice.connect(bob.ticket), Error, "the peer refused");
    assertEquals(hands.carried.length, 2);
  });
});

Deno.test("manual signaling: a peer without direct paths fails at once", async () => {
  await inPeerScene({}, async (place) => {
    const hands = new Hands({ fromA: MINUTES, fromB: MINUTES });
    await using ends = await connectManually(place, hands);
    await using hidden = await place.open(place.a, {
      signaling: [hands.a],
      listen: false,
      relayOnly: true,
      turn: ["turn:203.0.113.10"],
    });
    await assertRejects(() => hidden.connect(ends.bob.ticket), UnreachableError, "manually");
    assertEquals(hands.carried, []);
  });
});

Deno.test("people are not asked to carry messages if a server can", async () => {
  await inPeerScene({}, async (place) => {
    const hands = new Hands({ fromA: MINUTES, fromB: MINUTES });
    await using alice = await place.open(place.a, {
      signaling: [place.hub, hands.a],
      listen: false,
    });
    await using bob = await place.open(place.b, { signaling: [place.hub, hands.b] });
    const accepted = nextOf(bob).then((incoming) => incoming.accept());
    await using conn = await alice.connect(bob.ticket);
    await using other = await accepted;
    assertEquals(other.remoteKey, alice.publicKey);
    assert(!conn.path.relayed);
    assertEquals(hands.carried, []);
  });
});
