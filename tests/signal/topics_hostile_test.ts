// Topics of a rendezvous server whose clients, or which itself, does what it should not.

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
import { join, LINK, meet, next } from "./rendezvous_fixtures.ts";

const TOPIC = "AAAAAAAAAAAAAAAAAAAAAA";
const OTHER = "BBBBBBBBBBBBBBBBBBBBBA";
const RTT_MS = 4 * LINK.delayMs;

Deno.test("a client that sends what is no topic message is sent away", () =>
  meet(async (meeting) => {
    const socket = await meeting.open("topics/1");
    socket.send("binary", Uint8Array.of(9, 1, 2));
    const message = await socket.receive();
    assertEquals(message.kind === "close" && message.code, 1008);
    socket.close(1000, "");
    await socket.finish();
  }));

Deno.test("a client that sends a message that is too long is sent away", () =>
  meet(async (meeting) => {
    const socket = await meeting.open("topics/1");
    socket.send("binary", new Uint8Array(5000));
    const message = await socket.receive();
    assertEquals(message.kind === "close" && message.code, 1009);
    socket.close(1000, "");
    await socket.finish();
  }));

Deno.test("a client that says too much is sent away", () =>
  meet(async (meeting) => {
    await using signaling = await join(meeting);
    for (let i = 0; i < 3; i++) await signaling.publish(TOPIC, toBytes("hello"));
    await assertRejects(() => signaling.finished, NetworkError, "1008");
    await assertRejects(() => signaling.publish(TOPIC, toBytes("hello")), NetworkError);
  }, { topicBurst: 2, topicMessagesPerSecond: 1 }));

Deno.test("a client that listens to too much is refused what is too much, and no more", () =>
  meet(async (meeting) => {
    await using speaker = await join(meeting);
    await using signaling = await join(meeting);
    const heard = Promise.withResolvers<Uint8Array>();
    await signaling.subscribe(TOPIC, heard.resolve);
    const error = await assertRejects(() => signaling.subscribe(OTHER, () => {}), RefusedError);
    assertEquals(error.code, 503);
    await speaker.publish(TOPIC, toBytes("hello"));
    assertEquals(toText(await heard.promise), "hello");
    assertEquals(meeting.server.topics, 1);
  }, { maxTopicsPerMember: 1 }));

Deno.test("who has a ticket cannot keep its owner from listening by listening in his place", () =>
  meet(async (meeting) => {
    const attacker = meeting.newHost();
    const transport = webSocketTransport(meeting.server.url);
    await using stack = new AsyncDisposableStack();
    const refused = [];
    for (let i = 0; i < 32; i++) {
      const signaling = stack.use(await transport.open({ network: attacker.network }));
      refused.push(await signaling.subscribe(TOPIC, () => {}).then(() => false, () => true));
    }
    assertEquals(refused.filter((each) => !each).length, 4);
    const owner = stack.use(await join(meeting));
    const speaker = stack.use(await join(meeting));
    const heard = next(owner, TOPIC);
    await delay(RTT_MS);
    await speaker.publish(TOPIC, toBytes("hello"));
    assertEquals(toText(await heard), "hello");
  }));

Deno.test("a topic that is full is refused, and granted once somebody has left", () =>
  meet(async (meeting) => {
    const first = await join(meeting);
    await first.subscribe(TOPIC, () => {});
    await using second = await join(meeting);
    await assertRejects(() => second.subscribe(TOPIC, () => {}), RefusedError);
    await first[Symbol.asyncDispose]();
    await delay(RTT_MS);
    await second.subscribe(TOPIC, () => {});
  }, { maxMembersPerTopic: 1 }));

Deno.test("a server that confirms nothing is given up", () =>
  withStrangeServer(async (signaling, connection) => {
    drain(connection);
    await assertRejects(
      () => signaling.subscribe(TOPIC, () => {}),
      NetworkError,
      "confirms no subscription",
    );
    await assertRejects(() => signaling.finished, NetworkError, "confirms no subscription");
  }));

Deno.test("a server that reads nothing loses what is published, and is given up for a subscription", () =>
  withStrangeServer(async (signaling) => {
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

Deno.test("what a server says to a client that has closed is heard by nobody", () =>
  meet(async (meeting) => {
    await using speaker = await join(meeting);
    const listener = await join(meeting);
    await listener.subscribe(TOPIC, () => assert(false, "it heard"));
    await speaker.publish(TOPIC, toBytes("hello"));
    await delay(RTT_MS / 4); // on its way to the server
    await listener[Symbol.asyncDispose]();
  }));

Deno.test("a server of which one address is dead is reached at the other", () =>
  meet(async ({ internet, server, newHost, time }) => {
    const dead = internet.host("dead", { fault: "silent" });
    internet.names.set("example.org", [dead.addresses[0]!, server.local.ip]);
    const transport = webSocketTransport("ws://example.org:3480");
    await using _signaling = await transport.open({ network: newHost().network });
    assert(time.nowMs < 5000, `${time.nowMs} ms`);
  }));

/** A bus to a server that the test plays. */
function withStrangeServer(
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
    await delay(60_000); // what TCP does when a connection has ended
    assertEquals(time.pendingTimers, 0);
  });
}

/** Lets a client in, as a server does. */
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
