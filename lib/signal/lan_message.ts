/**
 * What peers in one LAN say to each other: UDP datagrams to a multicast group.
 *
 * ```text
 * "PNC" | version (1) | id (8) | topic (16) | message
 * ```
 *
 * @module
 */

import {
  ByteReader,
  concat,
  equalBytes,
  fromBase64url,
  toBase64url,
  toHex,
} from "../base/bytes.ts";
import { MalformedMessageError } from "../base/errors.ts";

/** One datagram. */
export interface LanMessage {
  /** 16 hexadecimal digits: what is said again is another datagram, what comes over two interfaces is the same. */
  readonly id: string;
  /** 22 characters of base64url. */
  readonly topic: string;
  readonly message: Uint8Array;
}

/**
 * The bytes of a datagram.
 *
 * @param id 8 random bytes
 * @throws {TypeError} if the topic is none
 */
export function encodeLanMessage(
  id: Uint8Array,
  topicText: string,
  message: Uint8Array,
): Uint8Array<ArrayBuffer> {
  const topic = fromBase64url(topicText);
  if (topic?.length !== TOPIC_BYTES || id.length !== ID_BYTES) {
    throw new TypeError(`Cannot use topic ${JSON.stringify(topicText)}: it is none`);
  }
  return concat(MAGIC, id, topic, message);
}

/**
 * Reads a datagram.
 *
 * @throws {MalformedMessageError} if it is none
 */
export function decodeLanMessage(bytes: Uint8Array): LanMessage {
  const reader = new ByteReader(bytes, "LAN message");
  if (!equalBytes(reader.bytes(MAGIC.length, "magic"), MAGIC)) {
    throw new MalformedMessageError("Cannot read LAN message: it is of another program");
  }
  const id = toHex(reader.bytes(ID_BYTES, "id"));
  const topic = toBase64url(reader.bytes(TOPIC_BYTES, "topic"));
  return { id, topic, message: reader.bytes(reader.remaining, "message") };
}

/** "PNC", and version 1. */
const MAGIC = Uint8Array.of(0x50, 0x4e, 0x43, 1);
const TOPIC_BYTES = 16;

/** How long an id is. */
export const ID_BYTES = 8;
