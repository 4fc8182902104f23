// Topics of a rendezvous server with clients that break the rules, and of servers that do.

import { assert, assertEquals, assertRejects } from "@std/assert";
import { delay } from "@std/async/delay";
import { toBase64url } from "../../lib/base/bytes.ts";
import { NetworkError, RefusedError } from "../../lib/base/errors.ts";
import type { TcpConnection } from "../../lib/net/network.ts";
import type { SignalingConnection } from "../../lib/signal/transport.ts";
import { writeAll } from "../../lib/base/reader.ts";
import { newHandshakeReader, readHead } from "../../lib/signal/websocket/connection.ts";
import { webSocketTransport } from "../../lib/signal/rendezvous/transport.ts";
import {
  encodeUpgradeResponse,
  judgeUpgradeRequest,
} from "../../lib/signal/websocket/handshake.ts";
import { toBytes, toText } from "../simnet/fixtures.ts";
import { simulate } from "../simnet/simulate.ts";
import { join, LINK, next, withRendezvous } from "./rendezvous_fixtures.ts";

const TOPIC = "AAAAAAAAAAAAAAAAAAAAAA";
const OTHER = "BBBBBBBBBBBBBBBBBBBBBA";
const RTT_MS = 4 * LINK.delayMs;

Deno.test("a client that sends a malformed message is disconnected", () =>
  withRendezvous(async (place) => {
    const socket = await place.open("topics/1");
    socket.send("binary", Uint8Array.of(9, 1, 2));
    const message = await socket.receive();
    assertEquals(message.kind === "close" && message.code, 1008);
    socket.close(1000, "");
    await socket.finish();
  }));

Deno.test("a client that sends a message that is too long is disconnected", () =>
  withRendezvous(async (place) => {
    const socket = await place.open("topics/1");
    socket.send("binary", new Uint8Array(5000));
    const message = await socket.receive();
    assertEquals(message.kind === "close" && message.code, 1009);
    socket.close(1000, "");
    await socket.finish();
  }));

Deno.test("a client that publishes too much is disconnected", () =>
  withRendezvous(async (place) => {
    await using signaling = await join(place);
    for (let i = 0; i < 3; i++) await signaling.publish(TOPIC, toBytes("hello"));
    await assertRejects(() => signaling.finished, NetworkError, "1008");
    await assertRejects(() => signaling.publish(TOPIC, toBytes("hello")), NetworkError);
  }, { topicBurst: 2, topicMessagesPerSecond: 1 }));

Deno.test("a client is refused the subscriptions beyond its limit, and keeps the others", () =>
  withRendezvous(async (place) => {
    await using publisher = await join(place);
    await using signaling = await join(place);
    const received = Promise.withResolvers<Uint8Array>();
    await signaling.subscribe(TOPIC, received.resolve);
    const error = await assertRejects(() => signaling.subscribe(OTHER, () => {}), RefusedError);
    assertEquals(error.code, 503);
    await publisher.publish(TOPIC, toBytes("hello"));
    assertEquals(toText(await received.promise), "hello");
    assertEquals(place.server.topics, 1);
  }, { maxTopicsPerMember: 1 }));

Deno.test("a holder of a ticket cannot lock its owner out by taking all subscriptions of a topic", () =>
  withRendezvous(async (place) => {
    const attacker = place.newHost();
    const transport = webSocketTransport(place.server.url);
    await using stack = new AsyncDisposableStack();
    const refused = [];
    for (let i = 0; i < 32; i++) {
      const signaling = stack.use(await transport.open({ network: attacker.network }));
      refused.push(await signaling.subscribe(TOPIC, () => {}).then(() => false, () => true));
    }
    assertEquals(refused.filter((each) => !each).length, 4);
    const owner = stack.use(await join(place));
    const publisher = stack.use(await join(place));
    const received = next(owner, TOPIC);
    await delay(RTT_MS);
    await publisher.publish(TOPIC, toBytes("hello"));
    assertEquals(toText(await received), "hello");
  }));

Deno.test("a client cannot leave minutes of work behind", () =>
  withRendezvous(async (place) => {
    const signaling = await join(place);
    await signaling.subscribe(TOPIC, () => {});
    for (let i = 0; i < 80; i++) await signaling.publish(OTHER, toBytes("hello"));
    await assertRejects(() => signaling.finished, NetworkError, "1008 too many messages");
    await delay(1000);
    assertEquals(place.server.topics, 0);
    assert(place.time.nowMs < 15_000, `${place.time.nowMs} ms`);
  }, { sourceBurst: 32, sourcePerSecond: 1 }));

Deno.test("a client whose messages wait stays if it pauses until they have caught up", () =>
  withRendezvous(async (place) => {
    await using signaling = await join(place);
    await signaling.subscribe(TOPIC, () => {});
    for (let i = 0; i < 14; i++) await signaling.publish(OTHER, toBytes("hello"));
    for (let i = 0; i < 10; i++) {
      for (let j = 0; j < 9; j++) await signaling.publish(OTHER, toBytes("hello"));
      await delay(10_000);
    }
    await signaling.subscribe(OTHER, () => {});
    assertEquals(place.server.topics, 2);
  }, { sourceBurst: 32, sourcePerSecond: 1 }));

Deno.test("a full topic is refused, and granted once a subscriber has left", () =>
  withRendezvous(async (place) => {
    const first = await join(place);
    await first.subscribe(TOPIC, () => {});
    await using second = await join(place);
    await assertRejects(() => second.subscribe(TOPIC, () => {}), RefusedError);
    await first[Symbol.asyncDispose]();
    await delay(RTT_MS);
    await second.subscribe(TOPIC, () => {});
  }, { maxMembersPerTopic: 1 }));

Deno.test("a server that confirms no subscription is dropped", () =>
  withFakeServer(async (signaling, connection) => {
    drain(connection);
    await assertRejects(
      () => signaling.subscribe(TOPIC, () => {}),
      NetworkError,
      "confirms no subscription",
    );
    await assertRejects(() => signaling.finished, NetworkError, "confirms no subscription");
  }));

Deno.test("messages to a server that does not read are lost, and a subscription drops it", () =>
  withFakeServer(async (signaling) => {
    for (let i = 0; i < 300; i++) await signaling.publish(TOPIC, new Uint8Array(4096));
    const topics = Array.from({ length: 3000 }, (_, i) => {
      const topic = new Uint8Array(16);
      new DataView(topic.buffer).setUint16(0, i);
      return toBase64url(topic);
    });
    const refused = topics.map((topic) =>
      assertRejects(() => signaling.subscribe(topic, () => {}), NetworkError, "does not read")
    );
    await Promise.all(refused);
    await assertRejects(() => signaling.finished, NetworkError, "does not read");
  }));

Deno.test("messages that arrive after closing are dropped", () =>
  withRendezvous(async (place) => {
    await using publisher = await join(place);
    const subscriber = await join(place);
    await subscriber.subscribe(TOPIC, () => assert(false, "it was delivered"));
    await publisher.publish(TOPIC, toBytes("hello"));
    await delay(RTT_MS / 4); // on its way to the server
    await subscriber[Symbol.asyncDispose]();
  }));

Deno.test("a server with a dead address is reached at its other one", () =>
  withRendezvous(async ({ internet, server, newHost, time }) => {
    const dead = internet.host("dead", { fault: "silent" });
    internet.names.set("example.org", [dead.addresses[0]!, server.local.ip]);
    const transport = webSocketTransport("ws://example.org:3480");
    await using _signaling = await transport.open({ network: newHost().network });
    assert(time.nowMs < 5000, `${time.nowMs} ms`);
  }));

/** A signaling connection to a server that the test plays. */
function withFakeServer(
  job: (signaling: SignalingConnection, connection: TcpConnection) => Promise<void>,
): Promise<void> {
  return simulate(async ({ internet, time }) => {
    const host = internet.host("server", { link: LINK });
    using listener = await host.network.listenTcp({ ip: host.addresses[0]!, port: 3480 });
    const { network } = internet.host("client", { link: LINK });
    const opening = webSocketTransport(`ws://${host.addresses[0]}:3480`).open({ network });
    {
      using connection = await listener.accept();
      await upgrade(connection);
      await using signaling = await opening;
      await job(signaling, connection);
    }
    await delay(60_000); // until TCP has forgotten the connection
    assertEquals(time.pendingTimers, 0);
  });
}

/** Upgrades a client's connection, as a server does. */
async function upgrade(connection: TcpConnection): Promise<void> {
  const head = await readHead(connection, newHandshakeReader(connection));
  const request = judgeUpgradeRequest(head);
  assert(request.kind === "upgrade");
  await writeAll(connection, encodeUpgradeResponse(request.key));
}

async function drain(connection: TcpConnection): Promise<void> {
  const buffer = new Uint8Array(65_536);
  while (await connection.read(buffer).catch(() => null) !== null);
}
