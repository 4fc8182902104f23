import { assert, assertEquals, assertRejects } from "@std/assert";
import { delay } from "@std/async/delay";
import { REJECTION_CODES } from "../../lib/peer/rejection.ts";
import type { PeerProgress } from "../../lib/peer/options.ts";
import { decodeTicket, encodeTicket } from "../../lib/peer/ticket.ts";
import {
  MalformedMessageError,
  NetworkError,
  NoResponseError,
  RefusedError,
  UnreachableError,
} from "../../lib/base/errors.ts";
import { NAT_BEHAVIORS } from "../../lab/model/nat_behavior.ts";
import { readText, toBytes } from "../simnet/fixtures.ts";
import { inPeerScene, nextOf } from "../scenes/peer_scene.ts";

const { portRestricted, symmetric } = NAT_BEHAVIORS;

Deno.test("two peers connect with a ticket, and each knows the other's key", () =>
  inPeerScene({}, async ({ connect }) => {
    await using ends = await connect({ protocol: "chat/1" });
    const { alice, bob, conn, other } = ends;
    assertEquals(conn.remoteKey, bob.publicKey);
    assertEquals(other.remoteKey, alice.publicKey);
    assertEquals([conn.protocol, other.protocol], ["chat/1", "chat/1"]);
    await conn.write(toBytes("hello"));
    assertEquals(await readText(other, 5), "hello");
    await other.write(toBytes("world"));
    assertEquals(await readText(conn, 5), "world");
    await Promise.all([conn.closeWrite(), other.closeWrite()]);
    assertEquals([await conn.read(new Uint8Array(1)), await other.read(new Uint8Array(1))], [
      null,
      null,
    ]);
    await Promise.all([conn.finished, other.finished]);
  }));

Deno.test("onProgress is told how signaling opens, and who brought the answer", () =>
  inPeerScene({}, async ({ a, b, open }) => {
    const progress: PeerProgress[] = [];
    const onProgress = (each: PeerProgress) => progress.push(each);
    await using alice = await open(a, { listen: false, onProgress });
    await using bob = await open(b);
    const accepted = nextOf(bob).then((incoming) => incoming.accept());
    await using _conn = await alice.connect(bob.ticket);
    await using _other = await accepted;
    const told = progress.map((each) => each.event === "signaling" ? each.state : each.event);
    assertEquals(told, ["opening", "open", "answered"]);
    const urls = new Set(progress.map((each) => each.event === "finding" ? "" : each.url));
    assertEquals(urls.size, 1);
  }));

Deno.test("onProgress is told why signaling cannot be opened", () =>
  inPeerScene({}, async ({ a, b, open }) => {
    const progress: PeerProgress[] = [];
    await using bob = await open(b);
    const { publicKey, secret } = decodeTicket(bob.ticket);
    const ticket = encodeTicket({ publicKey, secret, signaling: ["ws://nowhere.example:1"] });
    await using alice = await open(a, {
      listen: false,
      onProgress: (each) => progress.push(each),
    });
    await assertRejects(() => alice.connect(ticket), NetworkError);
    const [opening, failed] = progress;
    assertEquals([opening!.event, progress.length], ["signaling", 2]);
    assert(failed?.event === "signaling" && failed.state === "failed");
    assert(failed.error instanceof NetworkError);
    assertEquals(failed.error.reason, "name-not-found");
  }));

Deno.test("by TCP, SYNs cross: peers are connected after two messages and one and a half round trips", () =>
  inPeerScene({ rttMs: 80 }, async ({ a, b, open, time }) => {
    const strategies = ["punch-tcp"] as const;
    await using alice = await open(a, { listen: false, strategies });
    await using bob = await open(b, { strategies });
    await delay(2000);
    const accepted = nextOf(bob).then((incoming) => incoming.accept());
    const calledAtMs = time.nowMs;
    await using conn = await alice.connect(bob.ticket);
    const connectMs = time.nowMs - calledAtMs;
    await using _other = await accepted;
    assertEquals(conn.path.method, "simultaneous-open");
    assert(connectMs <= 2 * 50 + 1.5 * 80, `${connectMs} ms`);
  }));

Deno.test("the first byte arrives after two messages and two round trips", () =>
  inPeerScene({ rttMs: 80 }, async ({ a, b, open, time }) => {
    await using alice = await open(a, { listen: false });
    await using bob = await open(b);
    const accepted = nextOf(bob).then((incoming) => incoming.accept());
    await new Promise((resolve) => setTimeout(resolve, 2000)); // base sockets are ready now
    const startedAtMs = time.nowMs;
    await using conn = await alice.connect(bob.ticket);
    await conn.write(toBytes("hello"));
    await using other = await accepted;
    assertEquals(await readText(other, 5), "hello");
    assert(time.nowMs - startedAtMs <= 2 * 50 + 2 * 80, `${time.nowMs - startedAtMs} ms`);
  }));

for (
  const [name, nat, kind, method] of [
    ["a port-restricted cone", portRestricted, "punch-tcp", "simultaneous-open"],
    ["a symmetric NAT", symmetric, "punch-udp", "birthday"],
  ] as const
) {
  Deno.test(`a connection says how it came about: ${name}`, () =>
    inPeerScene({ a: portRestricted, b: nat }, async ({ connect }) => {
      await using ends = await connect();
      for (const { path, found } of [ends.conn, ends.other]) {
        assertEquals([path.kind, path.method, path.relayed], [kind, method, false]);
        assertEquals(found.attempts.filter(({ outcome }) => outcome === "connected").length, 1);
      }
    }));
}

Deno.test("if no path is possible and there is no relay, both sides learn why", () =>
  inPeerScene({ a: symmetric, b: symmetric }, async ({ a, b, open }) => {
    await using alice = await open(a, { listen: false, strategies: ["punch"] });
    await using bob = await open(b, { strategies: ["punch"] });
    const accepted = assertRejects(
      async () => await (await nextOf(bob)).accept(),
      UnreachableError,
      "neither side's port can be known",
    );
    const error = await assertRejects(
      () => alice.connect(bob.ticket),
      UnreachableError,
      "neither side's port can be known",
    );
    const advised = [error.remedy, (await accepted).remedy].join();
    assertEquals(
      advised.match(/^Leave `strategies` out, .*,Leave `strategies` out, .*$/)?.length,
      1,
    );
    assert(!error.attempts.some(({ remedy }) => remedy?.includes("relay")));
  }));

Deno.test("if only relays are allowed and neither side has one, both sides fail at once", () =>
  inPeerScene({}, async ({ a, b, open, time }) => {
    await using alice = await open(a, { listen: false, strategies: ["relay"] });
    await using bob = await open(b, { strategies: ["relay"] });
    const startedAtMs = time.nowMs;
    const accepted = nextOf(bob).then((incoming) => incoming.accept());
    await Promise.all(
      [alice.connect(bob.ticket), accepted].map((each) =>
        assertRejects(() => each, UnreachableError, "neither side has a relay")
      ),
    );
    assert(time.nowMs - startedAtMs < 2000, `${time.nowMs - startedAtMs} ms`);
  }));

Deno.test("connect() fails if the peer does not answer", () =>
  inPeerScene({}, async ({ a, open, time }) => {
    await using alice = await open(a, { listen: false });
    await using silent = await open(a, { listen: false });
    const startedAtMs = time.nowMs;
    await assertRejects(() => alice.connect(silent.ticket), NoResponseError, "no answer");
    assertEquals(Math.round((time.nowMs - startedAtMs) / 1000), 30);
  }));

Deno.test("connect() restricted to punches leaves no unhandled rejection if the peer does not answer", () =>
  inPeerScene({}, async ({ a, open }) => {
    await using alice = await open(a, { listen: false, strategies: ["punch"] });
    await using silent = await open(a, { listen: false });
    await assertRejects(() => alice.connect(silent.ticket), NoResponseError, "no answer");
    await delay(1000); // an unhandled rejection would end the program by now
  }));

Deno.test("connect() rejects an invalid ticket", () =>
  inPeerScene({}, async ({ a, open }) => {
    await using alice = await open(a, { listen: false });
    await assertRejects(() => alice.connect("punchline:nonsense"), MalformedMessageError);
  }));

Deno.test("connect() names the signaling servers that cannot be reached", () =>
  inPeerScene({}, async ({ a, b, open, hub }) => {
    await using alice = await open(a, { listen: false });
    await using bob = await open(b);
    hub.isDown = true;
    await assertRejects(
      () => alice.connect(bob.ticket),
      NetworkError,
      `Cannot reach any signaling server named in the ticket: ${hub.url} is down`,
    );
  }));

Deno.test("connect() fails at once if the ticket names no signaling server", () =>
  inPeerScene({}, async ({ a, b, open, time }) => {
    await using alice = await open(a, { listen: false });
    await using bob = await open(b, { signaling: [] });
    const startedAtMs = time.nowMs;
    const error = await assertRejects(() => alice.connect(bob.ticket), NetworkError, "names none");
    assertEquals([error.reason, time.nowMs], ["unreachable", startedAtMs]);
  }));

Deno.test("an abort ends connect() at once, with its reason", () =>
  inPeerScene({}, async ({ a, b, open }) => {
    await using alice = await open(a, { listen: false });
    await using bob = await open(b);
    const controller = new AbortController();
    setTimeout(() => controller.abort("enough"), 100);
    const error = await alice.connect(bob.ticket, { signal: controller.signal })
      .catch((error) => error);
    assertEquals(error, "enough");
  }));

Deno.test("a side that gives up notifies the other, which stops searching", () =>
  inPeerScene({ rttMs: 400 }, async ({ a, b, open, time }) => {
    await using alice = await open(a, { listen: false });
    await using bob = await open(b);
    await delay(2000); // both base sockets are ready
    const accepted = nextOf(bob).then((incoming) => incoming.accept());
    const startedAtMs = time.nowMs;
    const connected = alice.connect(bob.ticket, { signal: AbortSignal.timeout(150) });
    const aborted = assertRejects(() => connected, DOMException);
    const error = await assertRejects(() => accepted, NetworkError, "the other side has given up");
    assertEquals(error.reason, "reset");
    assert(time.nowMs - startedAtMs < 710, `${time.nowMs - startedAtMs} ms`);
    await aborted;
  }));

Deno.test("a side that runs out of time notifies the other as well", () =>
  inPeerScene({ rttMs: 400 }, async ({ a, b, open, time }) => {
    await using alice = await open(a, { listen: false, timings: { connectMs: 150 } });
    await using bob = await open(b);
    await delay(2000);
    const accepted = nextOf(bob).then((incoming) => incoming.accept());
    const startedAtMs = time.nowMs;
    const failed = assertRejects(() => alice.connect(bob.ticket), UnreachableError);
    await assertRejects(() => accepted, UnreachableError, "the other side has found no path");
    assert(time.nowMs - startedAtMs < 1500, `${time.nowMs - startedAtMs} ms`);
    await failed;
  }));

Deno.test("an aborted accept() notifies the other side, which stops searching", () =>
  inPeerScene({ rttMs: 400 }, async ({ a, b, open, time }) => {
    await using alice = await open(a, { listen: false });
    await using bob = await open(b);
    await delay(2000);
    const accepted = nextOf(bob)
      .then((incoming) => incoming.accept({ signal: AbortSignal.timeout(100) }));
    const startedAtMs = time.nowMs;
    const error = await assertRejects(
      () => Promise.all([alice.connect(bob.ticket), accepted.catch(() => {})]),
      RefusedError,
      "the peer has given up",
    );
    assertEquals(error.code, REJECTION_CODES.cancelled);
    assert(time.nowMs - startedAtMs < 210, `${time.nowMs - startedAtMs} ms`);
  }));

Deno.test("refuse() can say that the peer is busy for now", () =>
  inPeerScene({}, async ({ a, b, open }) => {
    await using alice = await open(a, { listen: false });
    await using bob = await open(b);
    nextOf(bob).then((incoming) => incoming.refuse("busy"));
    const error = await assertRejects(() => alice.connect(bob.ticket), RefusedError, "busy");
    assertEquals(error.code, REJECTION_CODES.busy);
  }));

Deno.test("refuse() sends the other side a rejection", () =>
  inPeerScene({}, async ({ a, b, open }) => {
    await using alice = await open(a, { listen: false });
    await using bob = await open(b);
    nextOf(bob).then((incoming) => incoming.refuse());
    const error = await assertRejects(() => alice.connect(bob.ticket), RefusedError);
    assertEquals(error.code, REJECTION_CODES.refused);
  }));

Deno.test("ignore() sends the other side nothing", () =>
  inPeerScene({}, async ({ a, b, open }) => {
    await using alice = await open(a, { listen: false });
    await using bob = await open(b);
    nextOf(bob).then((incoming) => incoming.ignore());
    await assertRejects(() => alice.connect(bob.ticket), NoResponseError);
  }));

Deno.test("a key that is not on the list is refused without asking the application", () =>
  inPeerScene({}, async ({ a, b, open }) => {
    await using alice = await open(a, { listen: false });
    await using friend = await open(a, { listen: false });
    await using bob = await open(b, { allow: [friend.publicKey] });
    await assertRejects(() => alice.connect(bob.ticket), RefusedError);
    const accepted = nextOf(bob).then((incoming) => incoming.accept());
    await using conn = await friend.connect(bob.ticket);
    await using other = await accepted;
    assertEquals(other.remoteKey, friend.publicKey);
    assertEquals(conn.remoteKey, bob.publicKey);
  }));

Deno.test("a peer that asks for another protocol is rejected for that reason", () =>
  inPeerScene({}, async ({ a, b, open }) => {
    await using alice = await open(a, { listen: false, protocol: "chat/2" });
    await using bob = await open(b, { protocol: "chat/1" });
    const error = await assertRejects(() => alice.connect(bob.ticket), RefusedError);
    assertEquals(error.code, REJECTION_CODES.protocol);
  }));

Deno.test("an incoming connection is decided once", () =>
  inPeerScene({}, async ({ a, b, open }) => {
    await using alice = await open(a, { listen: false });
    await using bob = await open(b);
    const decided = nextOf(bob).then(async (incoming) => {
      incoming.refuse();
      await assertRejects(() => incoming.accept(), NetworkError, "already refused");
    });
    await assertRejects(() => alice.connect(bob.ticket), RefusedError);
    await decided;
  }));

Deno.test("accept() fails if the other side no longer waits", () =>
  inPeerScene({}, async ({ a, b, open }) => {
    await using alice = await open(a, { listen: false });
    await using bob = await open(b);
    const incoming = nextOf(bob);
    await assertRejects(() => alice.connect(bob.ticket), NoResponseError);
    await new Promise((resolve) => setTimeout(resolve, 1000));
    await assertRejects(
      async () => await (await incoming).accept(),
      NetworkError,
      "no longer waits",
    );
  }));

Deno.test("a peer can connect to itself", () =>
  inPeerScene({}, async ({ a, open }) => {
    await using alice = await open(a);
    const accepted = nextOf(alice).then((incoming) => incoming.accept());
    await using conn = await alice.connect(alice.ticket);
    await using other = await accepted;
    await conn.write(toBytes("hello"));
    assertEquals(await readText(other, 5), "hello");
  }));

Deno.test("a peer with the same secret key has the same ticket", () =>
  inPeerScene({}, async ({ a, open }) => {
    const secretKey = new Uint8Array(32).fill(7);
    await using one = await open(a, { secretKey });
    await using other = await open(a, { secretKey });
    assertEquals(one.ticket, other.ticket);
  }));

Deno.test("a closed peer says so, and keeps nothing open", () =>
  inPeerScene({}, async ({ a, b, open }) => {
    const alice = await open(a, { listen: false });
    const bob = await open(b);
    const waiting = nextOf(bob).catch((error) => error.message);
    const connecting = assertRejects(() => alice.connect(bob.ticket), NetworkError, "is closed");
    await Promise.all([alice.close(), bob.close()]);
    await connecting;
    assertEquals(await waiting, "the peer was closed");
    await assertRejects(() => alice.connect(bob.ticket), NetworkError, "is closed");
  }));

Deno.test("connections outlive their peers", () =>
  inPeerScene({}, async ({ connect }) => {
    const { alice, bob, conn, other } = await connect();
    await Promise.all([alice.close(), bob.close()]);
    await conn.write(toBytes("still here"));
    assertEquals(await readText(other, 10), "still here");
    await Promise.all([conn[Symbol.asyncDispose](), other[Symbol.asyncDispose]()]);
  }));

Deno.test("Peer.open() rejects options that make no sense", () =>
  inPeerScene({}, async ({ a, open }) => {
    for (
      const options of [
        { strategies: [] },
        { relayOnly: true },
        { relayOnly: true, turn: ["turn:192.0.2.1"], strategies: ["punch" as const] },
        { turn: ["http://example.org"] },
        { secretKey: new Uint8Array(5) },
      ]
    ) {
      await assertRejects(() => open(a, options), TypeError);
    }
  }));
