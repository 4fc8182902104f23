import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { delay } from "@std/async/delay";
import { NetworkError, RefusedError } from "../../lib/base/errors.ts";
import { encodeMqttPacket } from "../../lib/signal/mqtt/packet.ts";
import { openSignaling } from "../../lib/signal/open.ts";
import { toBytes, toText } from "../simnet/fixtures.ts";
import { simulate } from "../simnet/simulate.ts";
import { withBroker } from "./scripted_broker.ts";

const TOPIC = "AAAAAAAAAAAAAAAAAAAAAA";

Deno.test("a broker's refusal is reported in words", () =>
  withBroker(async ({ connect, broker }) => {
    broker.answers = () => ["20020005"];
    const error = await assertRejects(connect, RefusedError, "not authorized (0x05)");
    assertEquals(error.code, 5);
    assertMatch(error.remedy!, /^Check the user name and the password/);
  }));

Deno.test("a broker that speaks only MQTT 5 gets MQTT 5", () =>
  withBroker(async ({ connect, broker }) => {
    const levels: number[] = [];
    broker.answers = (packet) => {
      if (packet[0] !== 0x10) return ["900400010000"];
      levels.push(packet[8]!);
      return [packet[8] === 4 ? "20020001" : "2003000000"];
    };
    await using signaling = await connect();
    await using _subscription = await signaling.subscribe(TOPIC, () => {});
    assertEquals(levels, [4, 5]);
  }));

Deno.test("retained messages are dropped", () =>
  withBroker(async ({ connect, broker }) => {
    const received: string[] = [];
    await using signaling = await connect();
    await using _subscription = await signaling.subscribe(
      TOPIC,
      (message) => received.push(toText(message)),
    );
    for (const isRetained of [true, false]) {
      const payload = toBytes(isRetained ? "old" : "new");
      const topic = `punchline/1/${TOPIC}`;
      await broker.send(encodeMqttPacket({ type: "publish", topic, payload, isRetained }, 4));
    }
    await delay(100);
    assertEquals(received, ["new"]);
  }));

Deno.test("check() notices a dead broker within two seconds", () =>
  withBroker(async ({ connect, broker, nowMs }) => {
    await using signaling = await connect();
    broker.answers = () => [];
    const startedAtMs = nowMs();
    signaling.check!();
    await assertRejects(() => signaling.finished, NetworkError);
    assert(nowMs() - startedAtMs <= 2100, `${nowMs() - startedAtMs}`);
  }));

Deno.test("subscribe() rejects if the broker refuses", () =>
  withBroker(async ({ connect, broker }) => {
    await using signaling = await connect();
    broker.answers = (packet) => packet[0] === 0x82 ? ["9003000187"] : [];
    await assertRejects(() => signaling.subscribe(TOPIC, () => {}), RefusedError, "not authorized");
  }));

Deno.test("openSignaling() loads MQTT for its URLs", async () => {
  await simulate(async ({ internet }) => {
    const { network } = internet.host("a");
    const server = internet.host("server");
    const url = `mqtt://${server.addresses[0]}`;
    await assertRejects(() => openSignaling(url, { network }), NetworkError);
  });
});

for (const [refusal, version] of [["20020001", "3.1.1"], ["2003008400", "5"]] as const) {
  Deno.test(`a broker that refuses MQTT 3.1.1 with a code of MQTT ${version} gets MQTT 5`, () =>
    withBroker(async ({ connect, broker }) => {
      const levels: number[] = [];
      broker.answers = (packet) => {
        if (packet[0] !== 0x10) return [];
        levels.push(packet[8]!);
        return [packet[8] === 4 ? refusal : "2003000000"];
      };
      await using _signaling = await connect();
      assertEquals(levels, [4, 5]);
    }));
}

Deno.test("a message that the broker repeats is delivered twice: recognizing it is up to the listener", () =>
  withBroker(async ({ connect, broker }) => {
    const received: string[] = [];
    await using signaling = await connect();
    await using _subscription = await signaling.subscribe(
      TOPIC,
      (message) => received.push(toText(message)),
    );
    const topic = `punchline/1/${TOPIC}`;
    const message = encodeMqttPacket({
      type: "publish",
      topic,
      payload: toBytes("hey"),
      isRetained: false,
    }, 4);
    await broker.send(message);
    message[0]! |= 0x08; // DUP
    await broker.send(message);
    await delay(100);
    assertEquals(received, ["hey", "hey"]);
  }));

Deno.test("the first listener of a topic subscribes, and the last unsubscribes", () =>
  withBroker(async ({ connect, broker }) => {
    const asked: number[] = [];
    const { answers } = broker;
    broker.answers = (packet) => {
      asked.push(packet[0]! >> 4);
      return answers(packet);
    };
    await using signaling = await connect();
    const both = await Promise.all([1, 2].map(() => signaling.subscribe(TOPIC, () => {})));
    for (const each of both) await each[Symbol.asyncDispose]();
    await delay(100);
    assertEquals(asked, [1, 8, 10]);
  }));

Deno.test("publish() does not wait for the broker", () =>
  withBroker(async ({ connect, nowMs }) => {
    await using signaling = await connect();
    const startedAtMs = nowMs();
    for (let i = 0; i < 5; i++) await signaling.publish(TOPIC, new Uint8Array(1000));
    assertEquals(nowMs(), startedAtMs);
  }));

for (const afterMs of [0, 5, 10, 15, 20, 25, 29]) {
  Deno.test(`open() that is aborted after ${afterMs} ms rejects with the reason, and leaves nothing open`, () =>
    withBroker(async ({ connect, broker }) => {
      const { answers } = broker;
      broker.answers = (packet) => answers(packet).flatMap((packet) => [packet.slice(0, 2)]);
      const controller = new AbortController();
      const reason = new Error("enough");
      setTimeout(() => controller.abort(reason), afterMs);
      const error = await assertRejects(() => connect({ signal: controller.signal }));
      assertEquals(error, reason);
    }));
}

Deno.test("subscribe() that is aborted rejects with the reason, and the connection stays open", () =>
  withBroker(async ({ connect, broker }) => {
    await using signaling = await connect();
    const { answers } = broker;
    broker.answers = () => [];
    const controller = new AbortController();
    const reason = new Error("enough");
    const subscribing = signaling.subscribe(TOPIC, () => {}, { signal: controller.signal });
    controller.abort(reason);
    assertEquals(await assertRejects(() => subscribing), reason);
    await delay(100);
    broker.answers = answers;
    await using _subscription = await signaling.subscribe(TOPIC, () => {});
  }));

Deno.test("subscribing while another listener unsubscribes leaves no subscription behind", () =>
  withBroker(async ({ network, url, broker }) => {
    const asked: number[] = [];
    const { answers } = broker;
    broker.answers = (packet) => {
      asked.push(packet[0]! >> 4);
      return answers(packet);
    };
    await using signaling = await openSignaling(url, { network });
    const first = await signaling.subscribe(TOPIC, () => {});
    const stopping = first[Symbol.asyncDispose]();
    const second = await signaling.subscribe(TOPIC, () => {});
    await stopping;
    await second[Symbol.asyncDispose]();
    await delay(100);
    assertEquals(asked.filter((type) => type === 10).length, 1);
    assertEquals(asked.at(-1), 10);
  }));
