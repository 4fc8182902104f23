import { assert, assertEquals, assertRejects } from "@std/assert";
import { delay } from "@std/async/delay";
import { NetworkError, RefusedError } from "../../lib/base/errors.ts";
import { encodeMqttPacket } from "../../lib/signal/mqtt/packet.ts";
import { openSignaling } from "../../lib/signal/open.ts";
import { toBytes, toText } from "../simnet/fixtures.ts";
import { simulate } from "../simnet/simulate.ts";
import { withBroker } from "./scripted_broker.ts";

const TOPIC = "AAAAAAAAAAAAAAAAAAAAAA";

Deno.test("a broker's refusal is told in words", () =>
  withBroker(async ({ connect, broker }) => {
    broker.answers = () => ["20020005"];
    const error = await assertRejects(connect, RefusedError, "not authorized (0x05)");
    assertEquals(error.code, 5);
    assert(error.message.includes("check the user name and the password"));
  }));

Deno.test("a broker that speaks MQTT 5 alone is spoken to in MQTT 5", () =>
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

Deno.test("what a broker has kept is not what is said now", () =>
  withBroker(async ({ connect, broker }) => {
    const heard: string[] = [];
    await using signaling = await connect();
    await using _subscription = await signaling.subscribe(
      TOPIC,
      (message) => heard.push(toText(message)),
    );
    for (const isRetained of [true, false]) {
      const payload = toBytes(isRetained ? "old" : "new");
      const topic = `punchline/1/${TOPIC}`;
      await broker.say(encodeMqttPacket({ type: "publish", topic, payload, isRetained }, 4));
    }
    await delay(100);
    assertEquals(heard, ["new"]);
  }));

Deno.test("check() notices a dead broker at once", () =>
  withBroker(async ({ connect, broker, nowMs }) => {
    await using signaling = await connect();
    broker.answers = () => [];
    const startedAtMs = nowMs();
    signaling.check!();
    await assertRejects(() => signaling.finished, NetworkError);
    assert(nowMs() - startedAtMs <= 2100, `${nowMs() - startedAtMs}`);
  }));

Deno.test("a subscription that the broker refuses is refused", () =>
  withBroker(async ({ connect, broker }) => {
    await using signaling = await connect();
    broker.answers = (packet) => packet[0] === 0x82 ? ["9003000187"] : [];
    await assertRejects(() => signaling.subscribe(TOPIC, () => {}), RefusedError, "not authorized");
  }));

Deno.test("openBus() loads MQTT for its URLs", async () => {
  await simulate(async ({ internet }) => {
    const { network } = internet.host("a");
    const server = internet.host("server");
    const url = `mqtt://${server.addresses[0]}`;
    await assertRejects(() => openSignaling(url, { network }), NetworkError);
  });
});

for (const [said, message] of [["20020001", "of 3.1.1"], ["2003008400", "of 5"]] as const) {
  Deno.test(`a broker that refuses MQTT 3.1.1 in words ${message} is spoken to in MQTT 5`, () =>
    withBroker(async ({ connect, broker }) => {
      const levels: number[] = [];
      broker.answers = (packet) => {
        if (packet[0] !== 0x10) return [];
        levels.push(packet[8]!);
        return [packet[8] === 4 ? said : "2003000000"];
      };
      await using _signaling = await connect();
      assertEquals(levels, [4, 5]);
    }));
}

Deno.test("a broker that repeats a message is heard twice: telling is for who listens", () =>
  withBroker(async ({ connect, broker }) => {
    const heard: string[] = [];
    await using signaling = await connect();
    await using _subscription = await signaling.subscribe(
      TOPIC,
      (message) => heard.push(toText(message)),
    );
    const topic = `punchline/1/${TOPIC}`;
    const said = encodeMqttPacket({
      type: "publish",
      topic,
      payload: toBytes("hey"),
      isRetained: false,
    }, 4);
    await broker.say(said);
    said[0]! |= 0x08; // DUP
    await broker.say(said);
    await delay(100);
    assertEquals(heard, ["hey", "hey"]);
  }));

Deno.test("the last who listens to a topic takes the subscription back, and the first makes it", () =>
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

Deno.test("publishing waits for nobody", () =>
  withBroker(async ({ connect, nowMs }) => {
    await using signaling = await connect();
    const startedAtMs = nowMs();
    for (let i = 0; i < 5; i++) await signaling.publish(TOPIC, new Uint8Array(1000));
    assertEquals(nowMs(), startedAtMs);
  }));

for (const afterMs of [0, 5, 10, 15, 20, 25, 29]) {
  Deno.test(`opening that is aborted after ${afterMs} ms rejects with the reason, and leaves nothing`, () =>
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

Deno.test("a subscription that is aborted rejects with the reason, and the bus goes on", () =>
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

Deno.test("who listens anew while another stops leaves no subscription behind", () =>
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
