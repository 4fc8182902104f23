/**
 * A message as text that people pass on.
 *
 * ```text
 * punchline-message: | base64url of  topic (16) | message | checksum (4)
 * ```
 *
 * @module
 */

import { ByteReader, concat, equalBytes, fromBase64url, toBase64url } from "../bytes.ts";
import { hash } from "../crypto.ts";
import { MalformedMessageError } from "../errors.ts";

/** What somebody says, and under which topic. */
export interface HandMessage {
  /** 22 characters of base64url. */
  readonly topic: string;
  readonly message: Uint8Array;
}

/** One line of text. @throws {TypeError} if the topic is none */
export function encodeHandMessage({ topic, message }: HandMessage): string {
  const bytes = fromBase64url(topic);
  if (bytes?.length !== TOPIC_BYTES) {
    throw new TypeError(`Cannot use topic ${JSON.stringify(topic)}: it is none`);
  }
  const content = concat(bytes, message);
  return PREFIX + toBase64url(concat(content, checksum(content)));
}

/**
 * Reads the text, with whatever white space pasting has added.
 *
 * @throws {MalformedMessageError} if it is none, or damaged
 */
export function decodeHandMessage(text: string): HandMessage {
  const plain = text.length > MAX_TEXT_LENGTH ? "" : text.replaceAll(/\s+/g, "");
  if (!plain.toLowerCase().startsWith(PREFIX)) {
    throw new MalformedMessageError(`Cannot read message: a message starts with ${PREFIX}`);
  }
  const bytes = fromBase64url(plain.slice(PREFIX.length)) ?? new Uint8Array(0);
  const content = bytes.subarray(0, Math.max(0, bytes.length - CHECKSUM_BYTES));
  if (!equalBytes(bytes.subarray(content.length), checksum(content))) {
    throw new MalformedMessageError("Cannot read message: it is damaged, its checksum is wrong");
  }
  const reader = new ByteReader(content, "message");
  const topic = toBase64url(reader.bytes(TOPIC_BYTES, "topic"));
  return { topic, message: reader.bytes(reader.remaining, "message") };
}

function checksum(content: Uint8Array): Uint8Array {
  return hash("sha256", content).subarray(0, CHECKSUM_BYTES);
}

/** How such a text starts. */
const PREFIX = "punchline-message:";
const TOPIC_BYTES = 16;
const CHECKSUM_BYTES = 4;

/** The longest message, and room for the white space of a paste. */
const MAX_TEXT_LENGTH = 16_384;
