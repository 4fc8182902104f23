import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { delay } from "@std/async/delay";
import fc from "fast-check";
import { toBase64url } from "../../lib/base/bytes.ts";
import { MalformedMessageError, NetworkError } from "../../lib/base/errors.ts";
import { decodeManualMessage, encodeManualMessage } from "../../lib/signal/manual.ts";
import { decodeLanMessage, encodeLanMessage } from "../../lib/signal/lan.ts";
import { DEFAULT_RENDEZVOUS_LIMITS } from "../../lib/signal/rendezvous/server.ts";
import { RendezvousTopics } from "../../lib/signal/rendezvous/topics.ts";
import { decodeTopicMessage, encodeTopicMessage } from "../../lib/signal/rendezvous/message.ts";
import { webSocketTransport } from "../../lib/signal/rendezvous/transport.ts";
import { toBytes, toText } from "../simnet/fixtures.ts";
import { join, LINK, next, withRendezvous } from "./rendezvous_fixtures.ts";

const TOPIC = "AAAAAAAAAAAAAAAAAAAAAA";
const OTHER = "BBBBBBBBBBBBBBBBBBBBBA";
const RTT_MS = 4 * LINK.delayMs;

Deno.test("a published message reaches all subscribers of its topic, and no one else", () =>
  withRendezvous(async (place) => {
    await using publisher = await join(place);
    await using subscriber = await join(place);
    await using another = await join(place);
    await using other = await join(place);
    const received = [subscriber, another].map((each) => next(each, TOPIC));
    await other.subscribe(OTHER, () => assert(false, "it arrived at another topic"));
    await delay(RTT_MS);
    await publisher.publish(TOPIC, toBytes("hello"));
    assertEquals((await Promise.all(received)).map(toText), ["hello", "hello"]);
  }));

Deno.test("the publisher gets no copy", () =>
  withRendezvous(async (place) => {
    await using signaling = await join(place);
    await signaling.subscribe(TOPIC, () => assert(false, "it got a copy"));
    await signaling.publish(TOPIC, toBytes("hello"));
    await delay(10 * RTT_MS);
  }));

Deno.test("a subscription is in force for messages published after it, without waiting", () =>
  withRendezvous(async (place) => {
    await using requester = await join(place);
    await using responder = await join(place);
    await using _answering = await responder.subscribe(OTHER, (message) => {
      responder.publish(TOPIC, message);
    });
    const startedAtMs = place.time.nowMs;
    const answer = next(requester, TOPIC);
    await requester.publish(OTHER, toBytes("ping"));
    assertEquals(toText(await answer), "ping");
    assertEquals(place.time.nowMs - startedAtMs, 2 * RTT_MS);
  }));

Deno.test("rttMs is the round trip to the server, once a subscription has measured it", () =>
  withRendezvous(async (place) => {
    await using signaling = await join(place);
    assertEquals(signaling.rttMs, undefined);
    await using _subscription = await signaling.subscribe(TOPIC, () => {});
    assertEquals(signaling.rttMs, RTT_MS);
  }));

Deno.test("unsubscribing ends delivery, and leaves nothing at the server", () =>
  withRendezvous(async (place) => {
    await using publisher = await join(place);
    await using subscriber = await join(place);
    const subscription = await subscriber.subscribe(TOPIC, () => assert(false, "it was delivered"));
    assertEquals(place.server.topics, 1);
    await subscription[Symbol.asyncDispose]();
    await delay(RTT_MS);
    assertEquals(place.server.topics, 0);
    await publisher.publish(TOPIC, toBytes("hello"));
    await delay(RTT_MS);
  }));

Deno.test("a client that leaves takes its subscriptions with it", () =>
  withRendezvous(async (place) => {
    {
      await using subscriber = await join(place);
      await subscriber.subscribe(TOPIC, () => {});
      assertEquals(place.server.topics, 1);
    }
    await delay(RTT_MS);
    assertEquals(place.server.topics, 0);
  }));

Deno.test("a topic may have several listeners in one program", () =>
  withRendezvous(async (place) => {
    await using publisher = await join(place);
    await using subscriber = await join(place);
    const first = await subscriber.subscribe(
      TOPIC,
      () => assert(false, "the first listener was called"),
    );
    const second = next(subscriber, TOPIC);
    await first[Symbol.asyncDispose]();
    await delay(RTT_MS);
    await publisher.publish(TOPIC, toBytes("hello"));
    assertEquals(toText(await second), "hello");
  }));

Deno.test("rooms and topics of one server are separate", () =>
  withRendezvous(async (place) => {
    await using signaling = await join(place);
    await signaling.subscribe(TOPIC, () => assert(false, "it received a message of the room"));
    await using a = await place.enter(TOPIC);
    await using b = await place.enter(TOPIC);
    await a.send(toBytes("hello"));
    assertEquals(toText(await b.receive()), "hello");
    assertEquals([place.server.rooms, place.server.topics], [1, 1]);
  }));

Deno.test("finished rejects with the reason when the server ends", () =>
  withRendezvous(async (place) => {
    await using signaling = await join(place);
    await place.server[Symbol.asyncDispose]();
    await assertRejects(() => signaling.finished, NetworkError, "1001");
  }));

Deno.test("RendezvousTopics keeps to its limits", () => {
  const limits = { ...DEFAULT_RENDEZVOUS_LIMITS, maxTopics: 2, maxMembersPerTopic: 1 };
  const topics = new RendezvousTopics<string>(limits);
  topics.join("a", "192.0.2.1", 0);
  topics.join("b", "192.0.2.2", 0);
  assertEquals(topics.subscribe("a", "1", 0), true);
  assertEquals(topics.subscribe("a", "1", 0), true);
  assertEquals(topics.subscribe("b", "1", 0), false);
  assertEquals(topics.subscribe("b", "2", 0), true);
  assertEquals(topics.subscribe("b", "3", 0), false);
  assertEquals(topics.receivers("b", "1"), ["a"]);
  topics.leave("a");
  assertEquals(topics.receivers("b", "1"), []);
  assertEquals(topics.subscribe("a", "1", 0), false);
  assertEquals(topics.size, 1);
});

Deno.test("RendezvousTopics limits the burst and the rate of a member", () => {
  const limits = { ...DEFAULT_RENDEZVOUS_LIMITS, topicBurst: 2, topicMessagesPerSecond: 1 };
  const topics = new RendezvousTopics<string>(limits);
  topics.join("a", "192.0.2.1", 0);
  assertEquals([0, 0, 0, 1000, 1000].map((ms) => topics.takeToken("a", ms)), [
    true,
    true,
    false,
    true,
    false,
  ]);
  assertEquals(topics.takeToken("unknown", 0), false);
});

Deno.test("encodeTopicMessage() writes the documented layout", () => {
  const message = { kind: "publish", topic: TOPIC, message: Uint8Array.of(7) } as const;
  assertEquals(encodeTopicMessage(message), Uint8Array.of(3, ...new Uint8Array(16), 7));
  assertEquals(
    encodeTopicMessage({ kind: "subscribe", topic: OTHER }),
    Uint8Array.of(1, ...Array.from({ length: 5 }, () => [4, 16, 65]).flat(), 4),
  );
});

Deno.test("messages of all three transports round-trip through encode and decode", () => {
  const topics = fc.uint8Array({ minLength: 16, maxLength: 16 }).map(toBase64url);
  const ids = fc.uint8Array({ minLength: 8, maxLength: 8 });
  fc.assert(fc.property(topics, ids, fc.uint8Array(), (topic, id, message) => {
    const publish = { kind: "publish", topic, message } as const;
    assertEquals(decodeTopicMessage(encodeTopicMessage(publish)), publish);
    for (const kind of ["subscribe", "unsubscribe"] as const) {
      assertEquals(decodeTopicMessage(encodeTopicMessage({ kind, topic })), { kind, topic });
    }
    const lan = decodeLanMessage(encodeLanMessage(id, topic, message));
    assertEquals([lan.topic, lan.message], [topic, message]);
    const text = encodeManualMessage({ topic, message });
    assertEquals(decodeManualMessage(text), {
      kind: "message",
      topicStart: topic.slice(0, 4),
      message,
    });
  }));
});

Deno.test("decoders of all three transports throw nothing but MalformedMessageError", () => {
  fc.assert(fc.property(fc.uint8Array(), fc.string(), (bytes, text) => {
    const decoders = [
      () => decodeTopicMessage(bytes),
      () => decodeLanMessage(bytes),
      () => decodeManualMessage(text),
      () => decodeManualMessage(`punchline-message:${text}`),
    ];
    for (const decode of decoders) {
      try {
        decode();
      } catch (error) {
        assert(error instanceof MalformedMessageError, `${error}`);
      }
    }
  }));
});

Deno.test("publish() and subscribe() reject invalid topics and messages that are too long", () =>
  withRendezvous(async (place) => {
    await using signaling = await join(place);
    await assertRejects(() => signaling.publish("kitchen", toBytes("hello")), TypeError);
    await assertRejects(() => signaling.subscribe("kitchen", () => {}), TypeError);
    await assertRejects(() => signaling.publish(TOPIC, new Uint8Array(4097)), RangeError);
    assertThrows(() => webSocketTransport("http://example.org"), TypeError);
  }));
