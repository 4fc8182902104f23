// Brokers that are hostile or broken: what they cost, and which error they lead to.

import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { delay } from "@std/async/delay";
import {
  MalformedMessageError,
  NetworkError,
  NoResponseError,
  RefusedError,
} from "../../lib/base/errors.ts";
import { encodeMqttPacket } from "../../lib/signal/mqtt/packet.ts";
import { toBytes } from "../simnet/fixtures.ts";
import { withBroker } from "./scripted_broker.ts";

const TOPIC = "AAAAAAAAAAAAAAAAAAAAAA";

for (
  const [what, bytes, message] of [
    ["garbage", "ffffffffffff", "the first one is not a CONNACK"],
    ["an endless packet", "20ffffff7f", "over the limit"],
    [
      "another protocol",
      toBytes("HTTP/1.1 400 Bad Request").toHex(),
      "the first one is not a CONNACK",
    ],
  ] as const
) {
  Deno.test(`a server that answers with ${what} is rejected`, () =>
    withBroker(async ({ connect, broker }) => {
      broker.answers = () => [bytes];
      await assertRejects(connect, MalformedMessageError, message);
    }));
}

Deno.test("connecting to a broker that does not answer times out", () =>
  withBroker(async ({ connect, broker, nowMs }) => {
    broker.answers = () => [];
    await assertRejects(connect, NoResponseError, "no answer in 10 s");
    assertEquals(Math.round(nowMs() / 1000), 10);
  }));

Deno.test("a broker that falls silent is dropped", () =>
  withBroker(async ({ connect, broker, nowMs }) => {
    await using signaling = await connect();
    broker.answers = () => [];
    const startedAtMs = nowMs();
    await assertRejects(() => signaling.finished, NetworkError);
    assert(nowMs() - startedAtMs <= 30_100, `${nowMs() - startedAtMs}`);
  }));

for (const version of [undefined, 4, 5] as const) {
  Deno.test(`a broker that hangs up is reported as such, with version ${version ?? "4 or 5"}`, () =>
    withBroker(async ({ connect, broker }) => {
      broker.hangsUp = true;
      const error = await assertRejects(
        () => connect({ version }),
        NetworkError,
        "without an answer",
      );
      assertEquals(error.reason, "reset");
    }));
}

Deno.test("a broker that cuts off a long message is named, with what to do", () =>
  withBroker(async ({ connect, broker }) => {
    await using signaling = await connect();
    broker.hangsUp = true;
    await signaling.publish(TOPIC, new Uint8Array(4096));
    const error = await assertRejects(() => signaling.finished, NetworkError, "4096 bytes");
    assertEquals(error.reason, "reset");
    assertMatch(error.remedy!, /packets of 5 KiB/);
  }));

Deno.test("a broker that hangs up after a short message, or long after a long one, is not blamed for its size", () =>
  withBroker(async ({ connect, broker }) => {
    for (const bytes of [16, 4096]) {
      await using signaling = await connect();
      await signaling.publish(TOPIC, new Uint8Array(bytes));
      await delay(1500);
      broker.hangsUp = true;
      await signaling.publish(TOPIC, new Uint8Array(16));
      const error = await assertRejects(() => signaling.finished, NetworkError);
      assertEquals(error.message.includes("limit"), false, error.message);
      broker.hangsUp = false;
    }
  }));

Deno.test("a broker that acknowledges no subscription is dropped", () =>
  withBroker(async ({ connect, broker, nowMs }) => {
    await using signaling = await connect();
    broker.answers = (packet) => packet[0] === 0xc0 ? ["d000"] : [];
    const startedAtMs = nowMs();
    await assertRejects(
      () => signaling.subscribe(TOPIC, () => {}),
      NetworkError,
      "acknowledges no subscription",
    );
    await assertRejects(() => signaling.finished, NetworkError, "acknowledges no subscription");
    assertEquals(Math.round((nowMs() - startedAtMs) / 1000), 10);
  }));

Deno.test("a SUBACK without a return code is a refusal", () =>
  withBroker(async ({ connect, broker }) => {
    await using signaling = await connect();
    broker.answers = (packet) => packet[0] === 0x82 ? ["9002" + packet.subarray(2, 4).toHex()] : [];
    await assertRejects(() => signaling.subscribe(TOPIC, () => {}), RefusedError);
  }));

Deno.test("a broker that sends but does not read is dropped, with little queued for it", () =>
  withBroker(async ({ connect, broker }) => {
    await using signaling = await connect();
    broker.reads = false;
    let taken = 0;
    const error = await assertRejects(async () => {
      const publishing: Promise<void>[] = [];
      for (; taken < 1000; taken++) publishing.push(signaling.publish(TOPIC, new Uint8Array(4096)));
      await Promise.all(publishing);
    }, NetworkError);
    assert(error.message.includes("reads too slowly"), error.message);
    await assertRejects(() => signaling.finished, NetworkError);
  }));

Deno.test("a signaling connection closes soon even if the broker does not read", () =>
  withBroker(async ({ connect, broker, nowMs }) => {
    const signaling = await connect();
    broker.reads = false;
    const publishing = Array.from(
      { length: 50 },
      () => signaling.publish(TOPIC, new Uint8Array(4096)),
    );
    const settled = Promise.allSettled(publishing);
    await delay(1000);
    const startedAtMs = nowMs();
    await signaling[Symbol.asyncDispose]();
    assert(nowMs() - startedAtMs <= 2000, `${nowMs() - startedAtMs}`);
    await settled;
    await assertRejects(
      () => signaling.publish(TOPIC, new Uint8Array()),
      NetworkError,
      "is closed",
    );
  }));

Deno.test("the reason code of a DISCONNECT is reported", () =>
  withBroker(async ({ connect, broker }) => {
    broker.answers = () => ["2003000000"];
    await using signaling = await connect({ version: 5 });
    await broker.send(Uint8Array.fromHex("e0018e"));
    const error = await assertRejects(
      () => signaling.finished,
      NetworkError,
      "session taken over (0x8e)",
    );
    assert(error.cause instanceof RefusedError);
    assertEquals(error.cause.code, 0x8e);
  }));

for (
  const [what, hex] of [
    ["garbage", "ffffffffff"],
    ["an endless packet", "30ffffff7f"],
    ["a packet that is cut short", "30020009"],
    ["a topic that is not UTF-8", "30040002ffff"],
  ] as const
) {
  Deno.test(`a broker that sends ${what} later is dropped`, () =>
    withBroker(async ({ connect, broker }) => {
      await using signaling = await connect();
      await broker.send(Uint8Array.fromHex(hex));
      const error = await assertRejects(
        () => signaling.finished,
        NetworkError,
        "Cannot read MQTT packet",
      );
      assert(error.cause instanceof MalformedMessageError);
    }));
}

Deno.test("messages of other topics, and messages that are too long, are dropped", () =>
  withBroker(async ({ connect, broker }) => {
    const received: number[] = [];
    await using signaling = await connect();
    await using _subscription = await signaling.subscribe(
      TOPIC,
      ({ length }) => received.push(length),
    );
    for (
      const [topic, length] of [
        [TOPIC, 1],
        ["punchline/1/", 2],
        ["punchline/1/BAAAAAAAAAAAAAAAAAAAAA", 3],
        [`punchline/1/${TOPIC}`, 4097],
        [`punchline/1/${TOPIC}`, 4096],
        ["", 6],
      ] as const
    ) {
      const payload = new Uint8Array(length);
      await broker.send(
        encodeMqttPacket({ type: "publish", topic, payload, isRetained: false }, 4),
      );
    }
    await delay(1000);
    assertEquals(received, [4096]);
  }));

Deno.test("a flood of useless packets does no harm", () =>
  withBroker(async ({ connect, broker }) => {
    await using signaling = await connect();
    const each = [
      "d000",
      "90030009ff",
      "b0020009",
      "40020001",
      "f000",
      "20020005",
      "100c00044d5154540400003c0000",
    ];
    await broker.send(Uint8Array.fromHex(each.join("").repeat(2000)));
    await using _subscription = await signaling.subscribe(TOPIC, () => {});
  }));
