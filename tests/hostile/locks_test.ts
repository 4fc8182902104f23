/**
 * What a stranger with a ticket, or a friend that misbehaves, can do to a program that listens.
 *
 * @module
 */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { delay } from "@std/async/delay";
import { RefusedError } from "../../lib/base/errors.ts";
import { generateKeyPair } from "../../lib/noise/handshake.ts";
import { Peer } from "../../lib/peer/peer.ts";
import { start, withServers } from "../cli/command.ts";
import { inPeerScene, nextOf } from "../scenes/peer_scene.ts";
import { toBytes } from "../simnet/fixtures.ts";
import { replaceProperty } from "../simnet/replace_property.ts";
import { heldWindowsMb } from "./held_windows.ts";
import { stalledRequest, TicketHolder } from "./ticket_holder.ts";

Deno.test("stalled requests with fresh keys cannot close a forwarded port", () =>
  withServers(async (servers) => {
    await using web = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, () => {
      return new Response("here");
    });
    const listener = start(["listen", "--tcp", `${web.addr.port}`, ...servers.all]);
    const ticket = await listener.ticket();
    await using stranger = await TicketHolder.open(ticket);
    await stranger.stall(40);
    await delay(1000); // all of them have arrived
    const options = { listen: false, servers: [servers.stun], signaling: [servers.url] };
    await using friend = await Peer.open({ ...options, timings: { answerMs: 15_000 } });
    await using connection = await friend.connect(ticket);
    const request = `GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n`;
    await connection.write(toBytes(request));
    const response = await new Response(connection.readable).text();
    assert(response.endsWith("here"), response);
    await connection.closeWrite();
    listener.interrupt();
    assertEquals((await listener.end()).code, 130);
  }));

/** How long a friend waits behind a crowd of requests that never get on. */
const CROWDS = [
  {
    name: "a crowd of stalled requests keeps no friend waiting for long",
    requests: 300,
    staticKey: undefined, // one for each
    withinMs: 5000,
  },
  {
    name: "requests of one key cannot use up the places of others",
    requests: 200,
    staticKey: generateKeyPair(),
    withinMs: 1000,
  },
];

for (const { name, requests, staticKey, withinMs } of CROWDS) {
  Deno.test(name, () =>
    inPeerScene({}, async ({ a, b, hub, open, time }) => {
      await using alice = await open(a, { listen: false });
      await using bob = await open(b);
      const accepting = acceptAll(bob);
      const { ticket } = bob;
      for (let i = 0; i < requests; i++) {
        const { topic, message } = stalledRequest(ticket, staticKey && { staticKey });
        hub.deliver(topic, message);
      }
      await delay(1000);
      const startedAtMs = time.nowMs;
      await using conn = await alice.connect(ticket);
      assert(time.nowMs - startedAtMs <= withinMs, `${time.nowMs - startedAtMs} ms`);
      conn.reset();
      await bob.close();
      await accepting;
    }));
}

Deno.test("a friend that connected before goes ahead of a crowd of strangers", () =>
  inPeerScene({}, async ({ a, b, hub, open, time }) => {
    await using alice = await open(a, { listen: false });
    await using bob = await open(b);
    const accepting = acceptAll(bob);
    const { ticket } = bob;
    (await alice.connect(ticket)).reset();
    const crowd = new AbortController();
    const crowding = (async () => {
      while (!crowd.signal.aborted) {
        const { topic, message } = stalledRequest(ticket);
        hub.deliver(topic, message);
        await delay(20); // fifty a second
      }
    })();
    for (let i = 0; i < 3; i++) {
      await delay(5000);
      const startedAtMs = time.nowMs;
      await using conn = await alice.connect(ticket);
      assert(time.nowMs - startedAtMs <= 1000, `${time.nowMs - startedAtMs} ms`);
      conn.reset();
    }
    crowd.abort();
    await crowding;
    await bob.close();
    await accepting;
  }));

Deno.test("undecided requests of strangers cannot fill the place of a friend's", () =>
  inPeerScene({}, async ({ a, b, hub, open }) => {
    await using alice = await open(a, { listen: false });
    await using bob = await open(b); // an application that asks a person, and for now accepts nothing
    for (let i = 0; i < 2100; i++) {
      const { topic, message } = stalledRequest(bob.ticket);
      hub.deliver(topic, message);
    }
    const connecting = alice.connect(bob.ticket, { signal: AbortSignal.timeout(3000) });
    connecting.catch(() => {});
    await delay(1000);
    let isShown = false;
    for (let i = 0; i < 2100 && !isShown; i++) {
      const incoming = await bob.nextIncoming({ signal: AbortSignal.timeout(500) }).catch(() => {});
      if (incoming === undefined) break;
      isShown = incoming.remoteId === alice.id;
      incoming.ignore();
    }
    assert(isShown, "the friend's request was not shown");
    await assertRejects(() => connecting);
  }));

Deno.test("thousands of requests of keys that are not allowed do not keep an allowed one waiting", () =>
  inPeerScene({}, async ({ a, b, hub, open, time }) => {
    await using alice = await open(a, { listen: false });
    await using bob = await open(b, { allow: [alice.publicKey] });
    for (let i = 0; i < 2100; i++) {
      const { topic, message } = stalledRequest(bob.ticket);
      hub.deliver(topic, message);
    }
    const accepted = nextOf(bob).then((incoming) => incoming.accept());
    const startedAtMs = time.nowMs;
    await using conn = await alice.connect(bob.ticket);
    assert(time.nowMs - startedAtMs <= 2000, `${time.nowMs - startedAtMs} ms`);
    await using _other = await accepted;
    conn.reset();
  }));

Deno.test("a key that is not allowed is still told that it is refused", () =>
  inPeerScene({}, async ({ a, b, open }) => {
    await using alice = await open(a, { listen: false });
    await using bob = await open(b, { allow: [new Uint8Array(32)] });
    await assertRejects(() => alice.connect(bob.ticket), RefusedError, "the peer refused");
  }));

Deno.test("a peer can be reached after each jump of its wall clock", () =>
  inPeerScene({}, async ({ a, b, open }) => {
    await using alice = await open(a, { listen: false });
    await using bob = await open(b);
    const accepting = acceptAll(bob);
    for (const jumpMs of [365 * 86_400_000, -365 * 86_400_000, 0]) {
      const restore = setClock(jumpMs); // the clock of the machine, and so of both
      await delay(61_000); // the topics of the hour are renewed
      const conn = await alice.connect(bob.ticket).finally(restore);
      conn.reset();
      await conn[Symbol.asyncDispose]();
    }
    await bob.close();
    await accepting;
  }));

Deno.test("forty connections of one key cannot make a program hold 200 MB", async () => {
  const heldMb = await heldWindowsMb(40, 4000);
  assert(heldMb < 160, `it held ${heldMb} MB`);
});

Deno.test("a peer that resets while the forwarded service does not read cannot keep listen from ending", () =>
  withServers(async (servers) => {
    using service = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const listener = start(["listen", "--tcp", `${service.addr.port}`, ...servers.all]);
    const ticket = await listener.ticket();
    await using mad = await Peer.open({
      listen: false,
      servers: [servers.stun],
      signaling: [servers.url],
    });
    const connection = await mad.connect(ticket);
    using _stuck = await service.accept();
    const writing = (async () => {
      for (;;) await connection.write(new Uint8Array(1_000_000));
    })().catch(() => {}); // it is reset
    await delay(2000);
    connection.reset();
    await writing;
    await delay(500);
    listener.interrupt();
    const late = setTimeout(() => listener.kill(), 10_000);
    assertEquals((await listener.end()).code, 130);
    clearTimeout(late);
  }));

Deno.test("the connections of one key are limited, and those of others are not affected", () =>
  inPeerScene({}, async ({ a, b, open }) => {
    await using alice = await open(a, { listen: false });
    await using carol = await open(a, { listen: false });
    await using bob = await open(b, { strategies: ["punch"] });
    const accepting = acceptAll(bob);
    const connections = [];
    for (let i = 0; i < 128; i++) connections.push(await alice.connect(bob.ticket));
    await assertRejects(() => alice.connect(bob.ticket), RefusedError, "busy");
    const conn = await carol.connect(bob.ticket);
    await conn.write(toBytes("hello"));
    for (const each of [...connections, conn]) {
      each.reset();
      await each[Symbol.asyncDispose]();
    }
    await delay(5000);
    await using again = await alice.connect(bob.ticket);
    again.reset();
    await bob.close();
    await accepting;
  }));

/** Makes the wall clock wrong; returns a function that sets it right. */
function setClock(aheadMs: number): () => void {
  const { now } = Date;
  const get = (date: DateConstructor, key: string | symbol) =>
    key === "now" ? () => now() + aheadMs : Reflect.get(date, key);
  return replaceProperty(globalThis, "Date", new Proxy(Date, { get }));
}

/** Accepts everything, and holds it. */
async function acceptAll(peer: Peer): Promise<void> {
  const accepting = [];
  for await (const incoming of peer) accepting.push(incoming.accept().catch(() => {}));
  for (const connection of await Promise.all(accepting)) {
    connection?.reset();
    await connection?.[Symbol.asyncDispose]();
  }
}
