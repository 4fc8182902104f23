import { assert, assertEquals, assertInstanceOf, assertRejects } from "@std/assert";
import { delay } from "@std/async/delay";
import { NetworkError, RefusedError } from "../../lib/base/errors.ts";
import type { ConnectionEvent, PeerConnection } from "../../lib/peer/connection.ts";
import { Peer } from "../../lib/peer/peer.ts";
import { REJECTION_CODES } from "../../lib/peer/rejection.ts";
import { inPeerScene, nextOf } from "../scenes/peer_scene.ts";

Deno.test("a peer lists its connections, whichever side requested them, and tells when they come and go", () =>
  inPeerScene({}, async ({ a, b, open }) => {
    await using alice = await open(a, { listen: true });
    await using bob = await open(b);
    const seen = record(bob);
    const [toBob, fromAlice] = await connect(alice, bob);
    const [toAlice, fromBob] = await connect(bob, alice);
    assertEquals(alice.connections, [toBob, fromBob]);
    assertEquals(bob.connections, [fromAlice, toAlice]);

    await Promise.all([toBob.closeWrite(), fromAlice.closeWrite()]);
    await Promise.all([toBob.finished, fromAlice.finished]);
    assertEquals(bob.connections, [toAlice]);
    await Promise.all([toBob, fromAlice].map((each) => each[Symbol.asyncDispose]()));

    fromBob.reset();
    await assertRejects(() => toAlice.finished, NetworkError);
    assertEquals(bob.connections, []);
    await bob.close();
    assertEquals((await seen).map((each) => [each.event, each.connection, !!errorOf(each)]), [
      ["opened", fromAlice, false],
      ["opened", toAlice, false],
      ["ended", fromAlice, false],
      ["ended", toAlice, true],
    ]);
    assertInstanceOf(errorOf((await seen).at(-1)!), NetworkError);
    await Promise.all([fromBob, toAlice].map((each) => each[Symbol.asyncDispose]()));
  }));

Deno.test("events of connections begin with the first call, and end with the peer", () =>
  inPeerScene({}, async ({ a, b, open }) => {
    await using alice = await open(a, { listen: false });
    await using bob = await open(b);
    const [conn, other] = await connect(alice, bob);
    const seen = record(alice);
    await alice.close();
    assertEquals(await seen, []);
    assertEquals(alice.connections, [conn]); // it outlives its peer
    assertEquals(await record(alice), []);
    conn.reset();
    await Promise.all([conn, other].map((each) => each[Symbol.asyncDispose]()));
  }));

Deno.test("a peer accepts as many connections as its option says", () =>
  inPeerScene({}, async ({ a, b, open }) => {
    await using alice = await open(a, { listen: false });
    await using bob = await open(b, { maxConnections: 1 });
    const [conn, other] = await connect(alice, bob);
    const error = await assertRejects(() => alice.connect(bob.ticket), RefusedError);
    assertEquals(error.code, REJECTION_CODES.busy);
    conn.reset();
    await assertRejects(() => other.finished, NetworkError);
    await Promise.all([conn, other].map((each) => each[Symbol.asyncDispose]()));
    const again = await connect(alice, bob);
    for (const each of again) each.reset();
    await Promise.all(again.map((each) => each[Symbol.asyncDispose]()));
  }));

Deno.test("a peer refuses to accept fewer than one connection", async () => {
  for (const maxConnections of [0, -1, 1.5, NaN]) {
    const options = { signaling: [], maxConnections };
    await assertRejects(
      () => Peer.open(options),
      RangeError,
      "maxConnections is a whole number of at least 1",
    );
  }
});

async function connect(from: Peer, to: Peer): Promise<[PeerConnection, PeerConnection]> {
  const accepted = nextOf(to).then((incoming) => incoming.accept());
  return await Promise.all([from.connect(to.ticket), accepted]);
}

function errorOf(event: ConnectionEvent): unknown {
  return event.event === "ended" ? event.error : undefined;
}

async function record({ events }: Peer): Promise<ConnectionEvent[]> {
  const seen: ConnectionEvent[] = [];
  for await (const event of events) seen.push(event);
  return seen;
}

Deno.test("a base socket is ready for another connection, and closed if no other connection follows soon", () =>
  inPeerScene({}, async ({ a, b, open, internet }) => {
    await using alice = await open(a, { listen: false });
    await using bob = await open(b);
    const accepted = nextOf(bob).then((incoming) => incoming.accept());
    await using _conn = await alice.connect(bob.ticket);
    await using _other = await accepted;
    const socketsOf = ({ name }: typeof a) =>
      internet.openSockets().filter((socket) => socket.startsWith(`${name}:`)).length;
    await delay(5000); // one is ready
    const ready = socketsOf(a);
    await delay(25_000);
    assert(socketsOf(a) <= ready - 4, `${ready} sockets, and then ${socketsOf(a)}`);
  }));
