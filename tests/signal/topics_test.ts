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
import { join, LINK, meet, next } from "./rendezvous_fixtures.ts";

const TOPIC = "AAAAAAAAAAAAAAAAAAAAAA";
const OTHER = "BBBBBBBBBBBBBBBBBBBBBA";
const RTT_MS = 4 * LINK.delayMs;

Deno.test("what is said under a topic reaches all who listen, and nobody else", () =>
  meet(async (meeting) => {
    await using speaker = await join(meeting);
    await using listener = await join(meeting);
    await using another = await join(meeting);
    await using stranger = await join(meeting);
    const heard = [listener, another].map((each) => next(each, TOPIC));
    await stranger.subscribe(OTHER, () => assert(false, "a stranger heard it"));
    await delay(RTT_MS);
    await speaker.publish(TOPIC, toBytes("hello"));
    assertEquals((await Promise.all(heard)).map(toText), ["hello", "hello"]);
  }));

Deno.test("who speaks does not hear itself", () =>
  meet(async (meeting) => {
    await using signaling = await join(meeting);
    await signaling.subscribe(TOPIC, () => assert(false, "it heard itself"));
    await signaling.publish(TOPIC, toBytes("hello"));
    await delay(10 * RTT_MS);
  }));

Deno.test("a subscription is in force for whatever is said after it, without waiting", () =>
  meet(async (meeting) => {
    await using asker = await join(meeting);
    await using answerer = await join(meeting);
    await using _answering = await answerer.subscribe(OTHER, (message) => {
      answerer.publish(TOPIC, message);
    });
    const startedAtMs = meeting.time.nowMs;
    const answer = next(asker, TOPIC);
    await asker.publish(OTHER, toBytes("ping"));
    assertEquals(toText(await answer), "ping");
    assertEquals(meeting.time.nowMs - startedAtMs, 2 * RTT_MS);
  }));

Deno.test("a bus knows its round trip to the server once it has subscribed", () =>
  meet(async (meeting) => {
    await using signaling = await join(meeting);
    assertEquals(signaling.rttMs, undefined);
    await using _subscription = await signaling.subscribe(TOPIC, () => {});
    assertEquals(signaling.rttMs, RTT_MS);
  }));

Deno.test("who unsubscribes hears no more, and leaves nothing at the server", () =>
  meet(async (meeting) => {
    await using speaker = await join(meeting);
    await using listener = await join(meeting);
    const subscription = await listener.subscribe(TOPIC, () => assert(false, "it heard"));
    assertEquals(meeting.server.topics, 1);
    await subscription[Symbol.asyncDispose]();
    await delay(RTT_MS);
    assertEquals(meeting.server.topics, 0);
    await speaker.publish(TOPIC, toBytes("hello"));
    await delay(RTT_MS);
  }));

Deno.test("who leaves takes its topics with it", () =>
  meet(async (meeting) => {
    {
      await using listener = await join(meeting);
      await listener.subscribe(TOPIC, () => {});
      assertEquals(meeting.server.topics, 1);
    }
    await delay(RTT_MS);
    assertEquals(meeting.server.topics, 0);
  }));

Deno.test("several in one program may listen to one topic", () =>
  meet(async (meeting) => {
    await using speaker = await join(meeting);
    await using listener = await join(meeting);
    const first = await listener.subscribe(TOPIC, () => assert(false, "the first heard it"));
    const second = next(listener, TOPIC);
    await first[Symbol.asyncDispose]();
    await delay(RTT_MS);
    await speaker.publish(TOPIC, toBytes("hello"));
    assertEquals(toText(await second), "hello");
  }));

Deno.test("rooms and topics of one server do not know of each other", () =>
  meet(async (meeting) => {
    await using signaling = await join(meeting);
    await signaling.subscribe(TOPIC, () => assert(false, "it heard the room"));
    await using a = await meeting.enter(TOPIC);
    await using b = await meeting.enter(TOPIC);
    await a.send(toBytes("hello"));
    assertEquals(toText(await b.receive()), "hello");
    assertEquals([meeting.server.rooms, meeting.server.topics], [1, 1]);
  }));

Deno.test("a bus says that its server has gone", () =>
  meet(async (meeting) => {
    await using signaling = await join(meeting);
    await meeting.server[Symbol.asyncDispose]();
    await assertRejects(() => signaling.finished, NetworkError, "1001");
  }));

Deno.test("RendezvousTopics keeps to its limits", () => {
  const limits = { ...DEFAULT_RENDEZVOUS_LIMITS, maxTopics: 2, maxMembersPerTopic: 1 };
  const topics = new RendezvousTopics<string>(limits);
  topics.join("a", "192.0.2.1", 0);
  topics.join("b", "192.0.2.2", 0);
  assertEquals(topics.subscribe("a", "1"), true);
  assertEquals(topics.subscribe("a", "1"), true);
  assertEquals(topics.subscribe("b", "1"), false);
  assertEquals(topics.subscribe("b", "2"), true);
  assertEquals(topics.subscribe("b", "3"), false);
  assertEquals(topics.receivers("b", "1"), ["a"]);
  topics.leave("a");
  assertEquals(topics.receivers("b", "1"), []);
  assertEquals(topics.subscribe("a", "1"), false);
  assertEquals(topics.size, 1);
});

Deno.test("RendezvousTopics lets a member say so much at once, and so much a second", () => {
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
  assertEquals(topics.takeToken("nobody", 0), false);
});

Deno.test("encodeTopicMessage() writes the bytes that the layout says", () => {
  const message = { kind: "publish", topic: TOPIC, message: Uint8Array.of(7) } as const;
  assertEquals(encodeTopicMessage(message), Uint8Array.of(3, ...new Uint8Array(16), 7));
  assertEquals(
    encodeTopicMessage({ kind: "subscribe", topic: OTHER }),
    Uint8Array.of(1, ...Array.from({ length: 5 }, () => [4, 16, 65]).flat(), 4),
  );
});

Deno.test("messages of all three carriers are what they were before they were bytes", () => {
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
    assertEquals(decodeManualMessage(text), { kind: "message", topic, message });
  }));
});

Deno.test("decoders of all three carriers throw nothing but MalformedMessageError", () => {
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

Deno.test("a topic has to be one, and a message not too long", () =>
  meet(async (meeting) => {
    await using signaling = await join(meeting);
    await assertRejects(() => signaling.publish("kitchen", toBytes("hello")), TypeError);
    await assertRejects(() => signaling.subscribe("kitchen", () => {}), TypeError);
    await assertRejects(() => signaling.publish(TOPIC, new Uint8Array(4097)), RangeError);
    assertThrows(() => webSocketTransport("http://example.org"), TypeError);
  }));
