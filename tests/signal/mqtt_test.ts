import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { delay } from "@std/async/delay";
import fc from "fast-check";
import {
  MalformedMessageError,
  NetworkError,
  NoResponseError,
  RefusedError,
} from "../../lib/errors.ts";
import type { TcpConnection } from "../../lib/net/network.ts";
import { parseBrokerUrl } from "../../lib/signal/mqtt/broker_url.ts";
import {
  decodePacket,
  encodePacket,
  type MqttPacket,
  type MqttVersion,
  packetLength,
} from "../../lib/signal/mqtt/packet_message.ts";
import { mqttTransport } from "../../lib/signal/mqtt/transport.ts";
import { openBus } from "../../lib/signal/open_bus.ts";
import { toBytes, toText } from "../simnet/fixtures.ts";
import type { Host } from "../simnet/host.ts";
import { simulate } from "../simnet/simulate.ts";

const TOPIC = "AAAAAAAAAAAAAAAAAAAAAA";
const VERSIONS = [4, 5] as const;
const CONNECT: MqttPacket = { type: "connect", clientId: "pl-1", keepAliveSeconds: 60 };

const hey = {
  type: "publish",
  topic: "a",
  payload: Uint8Array.of(0x68, 0x65, 0x79),
  isRetained: false,
} as const;

/** Between mosquitto_sub, mosquitto_pub and mosquitto 2.0.11, recorded; and figures of the specifications. */
const GOLDEN: readonly [MqttVersion, string, MqttPacket, "both" | "read"][] = [
  [4, "101000044d5154540402003c0004706c2d31", CONNECT, "both"],
  [5, "101400044d5154540502003c032100010004706c2d31", CONNECT, "read"],
  [4, "20020000", { type: "connack", code: 0 }, "both"],
  [4, "20020005", { type: "connack", code: 5 }, "both"],
  [5, "200900000622000a210014", { type: "connack", code: 0 }, "read"],
  [4, "8206000100016100", { type: "subscribe", id: 1, topic: "a" }, "both"],
  [5, "820700010000016100", { type: "subscribe", id: 1, topic: "a" }, "read"],
  [4, "9003000100", { type: "suback", id: 1, codes: [0] }, "both"],
  [4, "9003000180", { type: "suback", id: 1, codes: [0x80] }, "both"],
  [5, "900400010000", { type: "suback", id: 1, codes: [0] }, "both"],
  [4, "3006000161686579", hey, "both"],
  [5, "300700016100686579", hey, "both"],
  [4, "3106000161686579", { ...hey, isRetained: true }, "both"],
  [4, "c000", { type: "pingreq" }, "both"],
  [4, "d000", { type: "pingresp" }, "both"],
  [4, "e000", { type: "disconnect", code: 0 }, "both"],
  [5, "e0018b", { type: "disconnect", code: 0x8b }, "both"],
];

for (const [version, hex, packet, direction] of GOLDEN) {
  Deno.test(`MQTT, level ${version}: ${packet.type} is ${hex}`, () => {
    const bytes = Uint8Array.fromHex(hex);
    assertEquals(decodePacket(bytes, version), packet);
    assertEquals(packetLength(bytes, 100), bytes.length);
    if (direction === "both") assertEquals(encodePacket(packet, version), bytes);
  });
}

Deno.test("MQTT packets are what they were before they were bytes", () => {
  const text = fc.string({ unit: "grapheme", maxLength: 40 });
  const id = fc.integer({ min: 0, max: 65_535 });
  const packets = fc.oneof(
    fc.record({
      type: fc.constant("connect" as const),
      clientId: text,
      keepAliveSeconds: id,
      username: text,
      password: text,
    }),
    fc.record({
      type: fc.constant("publish" as const),
      topic: text,
      payload: fc.uint8Array({ maxLength: 5000 }),
      isRetained: fc.boolean(),
    }),
    fc.record({
      type: fc.constantFrom("subscribe" as const, "unsubscribe" as const),
      id,
      topic: text,
    }),
    fc.record({
      type: fc.constantFrom("suback" as const, "unsuback" as const),
      id,
      codes: fc.array(fc.integer({ min: 0, max: 255 }), { maxLength: 4 }),
    }),
  );
  fc.assert(fc.property(packets, fc.constantFrom(...VERSIONS), (packet, version) => {
    const bytes = encodePacket(packet, version);
    assertEquals(decodePacket(bytes, version), packet);
    for (const end of [1, 2, bytes.length - 1]) {
      assertThrows(() => decodePacket(bytes.subarray(0, end), version), MalformedMessageError);
    }
  }));
});

Deno.test("decodePacket() throws nothing but MalformedMessageError", () => {
  fc.assert(fc.property(fc.uint8Array(), fc.constantFrom(...VERSIONS), (bytes, version) => {
    const framed = Uint8Array.of(bytes[0] ?? 0, bytes.length, ...bytes);
    for (const each of [bytes, framed]) {
      try {
        decodePacket(each, version);
      } catch (error) {
        assert(error instanceof MalformedMessageError, `${error}`);
      }
    }
  }));
});

Deno.test("packetLength() waits for nothing that is too long", () => {
  assertEquals(packetLength(Uint8Array.of(0x30), 100), undefined);
  assertEquals(packetLength(Uint8Array.of(0x30, 0x80), 100), undefined);
  assertThrows(() => packetLength(Uint8Array.of(0x30, 0x80, 0x01), 100), MalformedMessageError);
  const endless = Uint8Array.of(0x30, 0xff, 0xff, 0xff, 0xff, 0xff);
  assertThrows(() => packetLength(endless, Infinity), MalformedMessageError);
});

Deno.test("parseBrokerUrl() reads the URLs of brokers", () => {
  const at = (protocol: string, host: string, port: number) => ({
    protocol,
    host,
    port,
    path: "/mqtt",
  });
  for (
    const [url, expected] of [
      ["mqtt://example.org", at("tcp", "example.org", 1883)],
      ["mqtts://example.org", at("tls", "example.org", 8883)],
      ["mqtt://example.org:80", at("tcp", "example.org", 80)],
      ["mqtt+ws://example.org", at("ws", "example.org", 80)],
      ["mqtt+wss://[2001:db8::1]:8084/x", { ...at("wss", "2001:db8::1", 8084), path: "/x" }],
      ["mqtts://ann:s%40me@example.org:1", {
        ...at("tls", "example.org", 1),
        username: "ann",
        password: "s@me",
      }],
    ] as const
  ) {
    assertEquals(parseBrokerUrl(url), expected as ReturnType<typeof parseBrokerUrl>);
  }
  for (const url of ["http://example.org", "mqtt:", "mqtt://", "mqtts://a b"]) {
    assertThrows(() => parseBrokerUrl(url), TypeError);
  }
});

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
    await using bus = await connect();
    await using _subscription = await bus.subscribe(TOPIC, () => {});
    assertEquals(levels, [4, 5]);
  }));

Deno.test("what a broker has kept is not what is said now", () =>
  withBroker(async ({ connect, broker }) => {
    const heard: string[] = [];
    await using bus = await connect();
    await using _subscription = await bus.subscribe(
      TOPIC,
      (message) => heard.push(toText(message)),
    );
    for (const isRetained of [true, false]) {
      const payload = toBytes(isRetained ? "old" : "new");
      const topic = `punchline/1/${TOPIC}`;
      broker.say(encodePacket({ type: "publish", topic, payload, isRetained }, 4));
    }
    await delay(100);
    assertEquals(heard, ["new"]);
  }));

for (
  const [what, bytes, message] of [
    ["garbage", "ffffffffffff", "the first one is a CONNACK"],
    ["an endless packet", "20ffffff7f", "over the limit"],
    ["another protocol", toHex("HTTP/1.1 400 Bad Request"), "the first one is a CONNACK"],
  ] as const
) {
  Deno.test(`a broker that answers with ${what} is none`, () =>
    withBroker(async ({ connect, broker }) => {
      broker.answers = () => [bytes];
      await assertRejects(connect, MalformedMessageError, message);
    }));
}

Deno.test("a broker that says nothing is given up", () =>
  withBroker(async ({ connect, broker, nowMs }) => {
    broker.answers = () => [];
    await assertRejects(connect, NoResponseError, "no answer in 10 s");
    assertEquals(Math.round(nowMs() / 1000), 10);
  }));

Deno.test("a broker that falls silent is noticed", () =>
  withBroker(async ({ connect, broker, nowMs }) => {
    await using bus = await connect();
    broker.answers = () => [];
    const startedAtMs = nowMs();
    await assertRejects(() => bus.finished, NetworkError);
    assert(nowMs() - startedAtMs <= 30_100, `${nowMs() - startedAtMs}`);
  }));

Deno.test("check() notices a dead broker at once", () =>
  withBroker(async ({ connect, broker, nowMs }) => {
    await using bus = await connect();
    broker.answers = () => [];
    const startedAtMs = nowMs();
    bus.check!();
    await assertRejects(() => bus.finished, NetworkError);
    assert(nowMs() - startedAtMs <= 2100, `${nowMs() - startedAtMs}`);
  }));

Deno.test("a subscription that the broker refuses is refused", () =>
  withBroker(async ({ connect, broker }) => {
    await using bus = await connect();
    broker.answers = (packet) => packet[0] === 0x82 ? ["9003000187"] : [];
    await assertRejects(() => bus.subscribe(TOPIC, () => {}), RefusedError, "not authorized");
  }));

Deno.test("openBus() loads MQTT for its URLs", async () => {
  await simulate(async ({ internet }) => {
    const { network } = internet.host("a");
    const server = internet.host("server");
    const url = `mqtt://${server.addresses[0]}`;
    await assertRejects(() => openBus(url, { network }), NetworkError);
  });
});

/** A broker that answers as a test has it. */
interface ScriptedBroker {
  /** Hexadecimal packets for each that comes. */
  answers: (packet: Uint8Array) => readonly string[];
  say(bytes: Uint8Array): void;
}

async function withBroker(
  test: (place: {
    broker: ScriptedBroker;
    connect: () => ReturnType<ReturnType<typeof mqttTransport>["open"]>;
    nowMs: () => number;
  }) => Promise<void>,
): Promise<void> {
  await simulate(async ({ internet, time }) => {
    const link = { delayMs: 5 };
    const [server, client] = [internet.host("broker", { link }), internet.host("a", { link })];
    const connections: TcpConnection[] = [];
    const broker: ScriptedBroker = {
      answers: (packet) => {
        if (packet[0] === 0x10) return ["20020000"];
        if (packet[0] === 0x82) return ["9003" + packet.subarray(2, 4).toHex() + "00"];
        return packet[0] === 0xc0 ? ["d000"] : [];
      },
      say: (bytes) => void connections.at(-1)!.write(bytes),
    };
    using listener = await server.network.listenTcp({ ip: server.addresses[0]!, port: 1883 });
    const serving = serve(listener, connections, broker);
    const { network } = client;
    const transport = mqttTransport(`mqtt://${(server as Host).addresses[0]}`);
    await test({ broker, connect: () => transport.open({ network }), nowMs: () => time.nowMs });
    listener.close();
    for (const connection of connections) connection.reset();
    await serving;
  });
}

async function serve(
  listener: { accept(): Promise<TcpConnection> },
  connections: TcpConnection[],
  broker: ScriptedBroker,
): Promise<void> {
  const conversations: Promise<void>[] = [];
  try {
    for (;;) {
      const connection = await listener.accept();
      connections.push(connection);
      conversations.push(converse(connection, broker));
    }
  } catch (error) {
    if (!(error instanceof NetworkError)) throw error; // closed
  }
  await Promise.all(conversations);
}

async function converse(connection: TcpConnection, broker: ScriptedBroker): Promise<void> {
  const buffer = new Uint8Array(8192);
  try {
    for (let count; (count = await connection.read(buffer)) !== null;) {
      for (let rest = buffer.slice(0, count); rest.length > 0;) {
        const packet = rest.slice(0, packetLength(rest, 8192));
        rest = rest.slice(packet.length);
        for (const answer of broker.answers(packet)) {
          await connection.write(Uint8Array.fromHex(answer));
        }
      }
    }
    connection.close();
  } catch (error) {
    if (!(error instanceof NetworkError)) throw error; // the client has gone
  }
}

function toHex(text: string): string {
  return toBytes(text).toHex();
}
