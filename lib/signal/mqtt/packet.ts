/**
 * MQTT control packets, as far as signalling needs them: MQTT 3.1.1 and MQTT 5.0 (OASIS), QoS 0.
 *
 * ```text
 * type and flags (1) | remaining length (1 to 4) | variable header | payload
 * ```
 *
 * What version 5 adds are properties: none are sent, and those that come are passed over.
 *
 * @module
 */

import { ByteReader, concat } from "../../base/bytes.ts";
import { MalformedMessageError } from "../../base/errors.ts";

/** 4 is that of MQTT 3.1.1. */
export type MqttVersion = 4 | 5;

/** What both sides say. */
export type MqttPacket =
  | {
    readonly type: "connect";
    readonly clientId: string;
    readonly keepAliveSeconds: number;
    readonly username?: string;
    readonly password?: string;
  }
  /** `code` 0 is a yes. */
  | { readonly type: "connack"; readonly code: number }
  | {
    readonly type: "publish";
    readonly topic: string;
    readonly payload: Uint8Array;
    /** Whether the broker had kept it: `false` for what is said now. */
    readonly isRetained: boolean;
  }
  | { readonly type: "subscribe" | "unsubscribe"; readonly id: number; readonly topic: string }
  /** A code of 0x80 and more is a no. */
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
 * The length of the packet that the bytes begin with, or `undefined` if that does not show yet.
 *
 * @throws {MalformedMessageError} if the length is none, or over `maxLength`
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
    throw malformed("remaining length", `makes ${length} bytes, over the limit of ${maxLength}`);
  }
  throw malformed("remaining length", `has more than ${MAX_LENGTH_BYTES} bytes`);
}

/**
 * Reads a whole packet; one of a type that is of no use here is `undefined`.
 *
 * @throws {MalformedMessageError} if a field is not what it should be
 */
export function decodeMqttPacket(bytes: Uint8Array, version: MqttVersion): MqttPacket | undefined {
  const length = mqttPacketLength(bytes, Infinity);
  if (length !== bytes.length) throw malformed("remaining length", "is that of the packet");
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
  if (readText(reader, "protocol name") !== "MQTT") throw malformed("protocol name", "is MQTT");
  if (reader.uint8("protocol level") !== version) {
    throw malformed("protocol level", `is ${version}`);
  }
  const flags = reader.uint8("connect flags");
  const keepAliveSeconds = reader.uint16("keep alive");
  if (version === 5) skipProperties(reader);
  const clientId = readText(reader, "client identifier");
  const username = (flags & HAS_USERNAME) === 0 ? undefined : readText(reader, "user name");
  const password = (flags & HAS_PASSWORD) === 0 ? undefined : readText(reader, "password");
  return {
    ...{ type: "connect", clientId, keepAliveSeconds },
    ...username !== undefined && { username },
    ...password !== undefined && { password },
  };
}

/** MQTT 5.0 §2.2.2; a packet that ends before them has none. */
function skipProperties(reader: ByteReader): void {
  if (reader.remaining === 0) return;
  let length = 0;
  for (let index = 0; index < MAX_LENGTH_BYTES; index++) {
    const byte = reader.uint8("property length");
    length += (byte & 0x7f) * 0x80 ** index;
    if (byte < 0x80) return void reader.bytes(length, "properties");
  }
  throw malformed("property length", `has more than ${MAX_LENGTH_BYTES} bytes`);
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
    throw malformed(field, "is UTF-8");
  }
}

function uint16(value: number): Uint8Array {
  return Uint8Array.of(value >> 8, value & 0xff);
}

function malformed(field: string, rule: string): MalformedMessageError {
  return new MalformedMessageError(`Cannot read MQTT packet: ${field} ${rule}`);
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

/** §2.2.2: what SUBSCRIBE and UNSUBSCRIBE have to have. */
const RESERVED_FLAGS = 0x02;
/** §3.3.1, of PUBLISH. */
const RETAIN = 0x01;
const QOS = 0x06;
/** §3.1.2.3. */
const CLEAN_START = 0x02;
const HAS_PASSWORD = 0x40;
const HAS_USERNAME = 0x80;
/** MQTT 5.0 §3.8.3.1: who speaks does not hear itself. */
const NO_LOCAL = 0x04;
/** §2.2.3. */
const MAX_LENGTH_BYTES = 4;
