/**
 * The MQTT control packets that signaling needs: MQTT 3.1.1 and MQTT 5.0 (OASIS), QoS 0.
 *
 * ```text
 * type and flags (1) | remaining length (1 to 4) | variable header | payload
 * ```
 *
 * Version 5 adds properties: none are sent, and those received are skipped.
 *
 * @module
 */

import { ByteReader, concat } from "../../base/bytes.ts";
import { malformed, type MalformedMessageError } from "../../base/errors.ts";

/** The protocol level: 4 is MQTT 3.1.1, 5 is MQTT 5.0. */
export type MqttVersion = 4 | 5;

/** A control packet, of either side. */
export type MqttPacket =
  | {
    readonly type: "connect";
    readonly clientId: string;
    readonly keepAliveSeconds: number;
    readonly username?: string;
    readonly password?: string;
  }
  /** `code` 0 accepts the connection. */
  | { readonly type: "connack"; readonly code: number }
  | {
    readonly type: "publish";
    readonly topic: string;
    readonly payload: Uint8Array;
    /** Whether the broker had stored the message: `false` for one that is published now. */
    readonly isRetained: boolean;
  }
  | { readonly type: "subscribe" | "unsubscribe"; readonly id: number; readonly topic: string }
  /** Codes from 0x80 on are failures. */
  | { readonly type: "suback" | "unsuback"; readonly id: number; readonly codes: readonly number[] }
  | { readonly type: "pingreq" | "pingresp" }
  | { readonly type: "disconnect"; readonly code: number };

/** The bytes of a packet. */
export function encodeMqttPacket(
  packet: MqttPacket,
  version: MqttVersion,
): Uint8Array<ArrayBuffer> {
  const properties = version === 5 ? Uint8Array.of(0) : NOTHING;
  switch (packet.type) {
    case "connect":
      return frame(TYPES.connect, 0, encodeConnect(packet, version, properties));
    case "connack":
      return frame(TYPES.connack, 0, concat(Uint8Array.of(0, packet.code), properties));
    case "publish": {
      const flags = packet.isRetained ? RETAIN : 0;
      return frame(TYPES.publish, flags, concat(text(packet.topic), properties, packet.payload));
    }
    case "subscribe": {
      const options = Uint8Array.of(version === 5 ? NO_LOCAL : 0);
      const body = concat(uint16(packet.id), properties, text(packet.topic), options);
      return frame(TYPES.subscribe, RESERVED_FLAGS, body);
    }
    case "unsubscribe": {
      const body = concat(uint16(packet.id), properties, text(packet.topic));
      return frame(TYPES.unsubscribe, RESERVED_FLAGS, body);
    }
    case "suback":
    case "unsuback": {
      const codes = Uint8Array.from(packet.codes);
      return frame(TYPES[packet.type], 0, concat(uint16(packet.id), properties, codes));
    }
    case "disconnect":
      return frame(TYPES.disconnect, 0, version === 5 ? Uint8Array.of(packet.code) : NOTHING);
    case "pingreq":
    case "pingresp":
      return frame(TYPES[packet.type], 0, NOTHING);
  }
}

/**
 * The length of the packet at the start of the bytes, or `undefined` if too few have arrived to tell.
 *
 * @throws {MalformedMessageError} if the length field is malformed, or the length is over `maxLength`
 */
export function mqttPacketLength(bytes: Uint8Array, maxLength: number): number | undefined {
  let remaining = 0;
  for (let index = 0; index < MAX_LENGTH_BYTES; index++) {
    const byte = bytes[1 + index];
    if (byte === undefined) return undefined;
    remaining += (byte & 0x7f) * 0x80 ** index;
    if (byte >= 0x80) continue;
    const length = 2 + index + remaining;
    if (length <= maxLength) return length;
    throw invalid("remaining length", `makes ${length} bytes, over the limit of ${maxLength}`);
  }
  throw invalid("remaining length", `has more than ${MAX_LENGTH_BYTES} bytes`);
}

/**
 * Reads a whole packet; `undefined` for one of a type that is not used here.
 *
 * @throws {MalformedMessageError} if a field is malformed
 */
export function decodeMqttPacket(bytes: Uint8Array, version: MqttVersion): MqttPacket | undefined {
  const length = mqttPacketLength(bytes, Infinity);
  if (length !== bytes.length) throw invalid("remaining length", "does not match the packet");
  const type = bytes[0]! >> 4;
  const flags = bytes[0]! & 0x0f;
  const reader = new ByteReader(bytes, "MQTT packet");
  reader.uint8("type");
  while (reader.uint8("remaining length") >= 0x80);
  switch (type) {
    case TYPES.connect:
      return decodeConnect(reader, version);
    case TYPES.connack: {
      reader.uint8("acknowledge flags");
      const code = reader.uint8("return code");
      if (version === 5) skipProperties(reader);
      return { type: "connack", code };
    }
    case TYPES.publish: {
      const topic = readText(reader, "topic");
      if ((flags & QOS) !== 0) reader.uint16("packet identifier");
      if (version === 5) skipProperties(reader);
      const payload = reader.bytes(reader.remaining, "payload");
      return { type: "publish", topic, payload, isRetained: (flags & RETAIN) !== 0 };
    }
    case TYPES.subscribe:
    case TYPES.unsubscribe: {
      const id = reader.uint16("packet identifier");
      if (version === 5) skipProperties(reader);
      const topic = readText(reader, "topic");
      return { type: type === TYPES.subscribe ? "subscribe" : "unsubscribe", id, topic };
    }
    case TYPES.suback:
    case TYPES.unsuback: {
      const id = reader.uint16("packet identifier");
      if (version === 5) skipProperties(reader);
      const codes = [...reader.bytes(reader.remaining, "codes")];
      return { type: type === TYPES.suback ? "suback" : "unsuback", id, codes };
    }
    case TYPES.pingreq:
      return { type: "pingreq" };
    case TYPES.pingresp:
      return { type: "pingresp" };
    case TYPES.disconnect:
      return { type: "disconnect", code: reader.remaining > 0 ? reader.uint8("reason code") : 0 };
    default:
      return undefined;
  }
}

function encodeConnect(
  { clientId, keepAliveSeconds, username, password }: Extract<MqttPacket, { type: "connect" }>,
  version: MqttVersion,
  properties: Uint8Array,
): Uint8Array {
  const flags = CLEAN_START | (username === undefined ? 0 : HAS_USERNAME) |
    (password === undefined ? 0 : HAS_PASSWORD);
  return concat(
    text("MQTT"),
    Uint8Array.of(version, flags),
    uint16(keepAliveSeconds),
    properties,
    text(clientId),
    username === undefined ? NOTHING : text(username),
    password === undefined ? NOTHING : text(password),
  );
}

function decodeConnect(reader: ByteReader, version: MqttVersion): MqttPacket {
  if (readText(reader, "protocol name") !== "MQTT") throw invalid("protocol name", "is not MQTT");
  if (reader.uint8("protocol level") !== version) {
    throw invalid("protocol level", `is not ${version}`);
  }
  const flags = reader.uint8("connect flags");
  const keepAliveSeconds = reader.uint16("keep alive");
  if (version === 5) skipProperties(reader);
  const clientId = readText(reader, "client identifier");
  const username = (flags & HAS_USERNAME) === 0 ? undefined : readText(reader, "user name");
  const password = (flags & HAS_PASSWORD) === 0 ? undefined : readText(reader, "password");
  return { type: "connect", clientId, keepAliveSeconds, username, password };
}

/** MQTT 5.0 §2.2.2. A packet that ends before its properties has none. */
function skipProperties(reader: ByteReader): void {
  if (reader.remaining === 0) return;
  let length = 0;
  for (let index = 0; index < MAX_LENGTH_BYTES; index++) {
    const byte = reader.uint8("property length");
    length += (byte & 0x7f) * 0x80 ** index;
    if (byte < 0x80) return void reader.bytes(length, "properties");
  }
  throw invalid("property length", `has more than ${MAX_LENGTH_BYTES} bytes`);
}

function frame(type: number, flags: number, body: Uint8Array): Uint8Array<ArrayBuffer> {
  const header = [type << 4 | flags];
  let left = body.length;
  do {
    const more = left >= 0x80;
    header.push(left % 0x80 | (more ? 0x80 : 0));
    left = Math.floor(left / 0x80);
  } while (left > 0);
  return concat(Uint8Array.from(header), body);
}

function text(value: string): Uint8Array {
  const bytes = new TextEncoder().encode(value);
  return concat(uint16(bytes.length), bytes);
}

function readText(reader: ByteReader, field: string): string {
  const bytes = reader.bytes(reader.uint16(`length of ${field}`), field);
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw invalid(field, "is not UTF-8");
  }
}

function uint16(value: number): Uint8Array {
  return Uint8Array.of(value >> 8, value & 0xff);
}

function invalid(field: string, problem: string): MalformedMessageError {
  return malformed("MQTT packet", `${field} ${problem}`);
}

const NOTHING = new Uint8Array(0);

/** MQTT 3.1.1 §2.2.1. */
const TYPES = {
  connect: 1,
  connack: 2,
  publish: 3,
  subscribe: 8,
  suback: 9,
  unsubscribe: 10,
  unsuback: 11,
  pingreq: 12,
  pingresp: 13,
  disconnect: 14,
} as const;

/** MQTT 3.1.1 §2.2.2: the flags of SUBSCRIBE and UNSUBSCRIBE. */
const RESERVED_FLAGS = 0x02;
/** MQTT 3.1.1 §3.3.1: flags of PUBLISH. */
const RETAIN = 0x01;
const QOS = 0x06;
/** MQTT 3.1.1 §3.1.2.3: flags of CONNECT. */
const CLEAN_START = 0x02;
const HAS_PASSWORD = 0x40;
const HAS_USERNAME = 0x80;
/** MQTT 5.0 §3.8.3.1: the publisher gets no copy. */
const NO_LOCAL = 0x04;
/** MQTT 3.1.1 §2.2.3. */
const MAX_LENGTH_BYTES = 4;
