import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { MalformedMessageError } from "../../lib/base/errors.ts";
import { parseBrokerUrl } from "../../lib/signal/mqtt/pipe.ts";
import {
  decodeMqttPacket,
  encodeMqttPacket,
  type MqttPacket,
  mqttPacketLength,
  type MqttVersion,
} from "../../lib/signal/mqtt/packet.ts";
import { MqttPacketReader } from "../../lib/signal/mqtt/client.ts";
import { mqttRefusal } from "../../lib/signal/mqtt/reason_codes.ts";

const VERSIONS = [4, 5] as const;
const CONNECT: MqttPacket = {
  type: "connect",
  clientId: "pl-1",
  keepAliveSeconds: 60,
  username: undefined,
  password: undefined,
};
const LOGIN: MqttPacket = { ...CONNECT, username: "ann", password: "s@me" };

const hey = {
  type: "publish",
  topic: "a",
  payload: Uint8Array.of(0x68, 0x65, 0x79),
  isRetained: false,
} as const;

/** Recorded between mosquitto_sub, mosquitto_pub and mosquitto 2.0.11, or taken from figures of the specifications. */
const GOLDEN: readonly [MqttVersion, string, MqttPacket, "both" | "read"][] = [
  [4, "101000044d5154540402003c0004706c2d31", CONNECT, "both"],
  [5, "101400044d5154540502003c032100010004706c2d31", CONNECT, "read"],
  [4, "101b00044d51545404c2003c0004706c2d310003616e6e000473406d65", LOGIN, "both"],
  [5, "101f00044d51545405c2003c032100140004706c2d310003616e6e000473406d65", LOGIN, "read"],
  [4, "20020000", { type: "connack", code: 0 }, "both"],
  [4, "20020005", { type: "connack", code: 5 }, "both"],
  [5, "200900000622000a210014", { type: "connack", code: 0 }, "read"],
  [5, "2003008700", { type: "connack", code: 0x87 }, "both"],
  [4, "8206000100016100", { type: "subscribe", id: 1, topic: "a" }, "both"],
  [5, "820700010000016100", { type: "subscribe", id: 1, topic: "a" }, "read"],
  [4, "9003000100", { type: "suback", id: 1, codes: [0] }, "both"],
  [4, "9003000180", { type: "suback", id: 1, codes: [0x80] }, "both"],
  [5, "900400010000", { type: "suback", id: 1, codes: [0] }, "both"],
  [4, "3006000161686579", hey, "both"],
  [5, "300700016100686579", hey, "both"],
  [4, "3106000161686579", { ...hey, isRetained: true }, "both"],
  [4, "32080001610001686579", hey, "read"],
  [5, "321500016100010c2600016b0001760200000009686579", hey, "read"],
  [5, "32100001610001072600016b000176686579", hey, "read"],
  [4, "a2050002000162", { type: "unsubscribe", id: 2, topic: "b" }, "both"],
  [5, "a206000200000162", { type: "unsubscribe", id: 2, topic: "b" }, "both"],
  [4, "b0020002", { type: "unsuback", id: 2, codes: [] }, "both"],
  [5, "b00400020011", { type: "unsuback", id: 2, codes: [0x11] }, "both"],
  [4, "c000", { type: "pingreq" }, "both"],
  [4, "d000", { type: "pingresp" }, "both"],
  [4, "e000", { type: "disconnect", code: 0 }, "both"],
  [5, "e0018b", { type: "disconnect", code: 0x8b }, "both"],
];

for (const [version, hex, packet, direction] of GOLDEN) {
  Deno.test(`MQTT, level ${version}: ${packet.type} is ${hex}`, () => {
    const bytes = Uint8Array.fromHex(hex);
    assertEquals(decodeMqttPacket(bytes, version), packet);
    assertEquals(mqttPacketLength(bytes, 100), bytes.length);
    if (direction === "both") assertEquals(encodeMqttPacket(packet, version), bytes);
  });
}

Deno.test("MQTT packets round-trip through encode and decode", () => {
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
    const bytes = encodeMqttPacket(packet, version);
    assertEquals(decodeMqttPacket(bytes, version), packet);
    for (const end of [1, 2, bytes.length - 1]) {
      assertThrows(() => decodeMqttPacket(bytes.subarray(0, end), version), MalformedMessageError);
    }
  }));
});

Deno.test("decodeMqttPacket() throws nothing but MalformedMessageError", () => {
  fc.assert(fc.property(fc.uint8Array(), fc.constantFrom(...VERSIONS), (bytes, version) => {
    const framed = Uint8Array.of(bytes[0] ?? 0, bytes.length, ...bytes);
    for (const each of [bytes, framed]) {
      try {
        decodeMqttPacket(each, version);
      } catch (error) {
        assert(error instanceof MalformedMessageError, `${error}`);
      }
    }
  }));
});

Deno.test("mqttPacketLength() rejects a length over the limit at once", () => {
  assertEquals(mqttPacketLength(Uint8Array.of(0x30), 100), undefined);
  assertEquals(mqttPacketLength(Uint8Array.of(0x30, 0x80), 100), undefined);
  assertThrows(() => mqttPacketLength(Uint8Array.of(0x30, 0x80, 0x01), 100), MalformedMessageError);
  const endless = Uint8Array.of(0x30, 0xff, 0xff, 0xff, 0xff, 0xff);
  assertThrows(() => mqttPacketLength(endless, Infinity), MalformedMessageError);
});

Deno.test("parseBrokerUrl() reads the URLs of brokers", () => {
  const at = (protocol: string, host: string, port: number) => ({
    protocol,
    host,
    port,
    path: "/mqtt",
    username: undefined,
    password: undefined,
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
  const none = ["http://example.org", "mqtt:", "mqtt://", "mqtts://a b", "mqtt://%zz:%ff@a"];
  for (const url of [...none, "mqtt://a:65536"]) {
    assertThrows(() => parseBrokerUrl(url), TypeError);
  }
});

Deno.test("parseBrokerUrl() adds an empty user name to a password, as MQTT 3.1.1 requires", () => {
  const { username, password } = parseBrokerUrl("mqtt://:secret@example.org");
  assertEquals({ username, password }, { username: "", password: "secret" });
});

Deno.test("parseBrokerUrl() keeps passwords out of its messages", () => {
  for (const url of ["mqtt://ann:secret@a b", "mqtt://ann:secret%zz@a", "mqtt://ann:secret@"]) {
    const { message } = assertThrows(() => parseBrokerUrl(url), TypeError);
    assert(!message.includes("secret"), message);
  }
});

Deno.test("mqttRefusal() has a remedy for every code", () => {
  for (const version of VERSIONS) {
    for (let code = 1; code < 256; code++) {
      const error = mqttRefusal("connect", code, version);
      assertEquals(error.code, code);
      const hex = code.toString(16).padStart(2, "0");
      const [, shown] = /^Cannot connect: the broker reported .+ \(0x(..)\)$/.exec(error.message)!;
      assertEquals(shown, hex);
      assert(/^(?:Change|Check|Let|Try|Use) /.test(error.remedy!), error.remedy);
    }
  }
});

Deno.test("MqttPacketReader splits the stream into packets, wherever it is cut", async () => {
  const sent = fc.array(fc.uint8Array({ maxLength: 300 }), { minLength: 1, maxLength: 9 });
  await fc.assert(
    fc.asyncProperty(sent, fc.integer({ min: 1, max: 700 }), async (payloads, cut) => {
      const packets = payloads.map((payload): MqttPacket => ({ ...hey, payload }));
      const bytes = packets.flatMap((packet) => [...encodeMqttPacket(packet, 4)]);
      const read = (buffer: Uint8Array) => {
        const part = bytes.splice(0, Math.min(cut, buffer.length));
        buffer.set(part);
        return Promise.resolve(part.length === 0 ? null : part.length);
      };
      const reader = new MqttPacketReader({ read });
      for (const packet of packets) assertEquals(await reader.next(4), packet);
      assertEquals(await reader.next(4), null);
    }),
  );
});
