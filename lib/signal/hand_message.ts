/**
 * A message as text that people pass on.
 *
 * ```text
 * punchline-message: | base64url of  topic (16) | length of the message (2) | message | checksum (4)
 * ```
 *
 * @module
 */

import { ByteReader, concat, equalBytes, fromBase64url, toBase64url } from "../base/bytes.ts";
import { hash } from "../base/crypto.ts";
import { MalformedMessageError } from "../base/errors.ts";
import { MAX_SIGNAL_BYTES } from "./channel.ts";

/** What somebody says, and under which topic. */
export interface HandMessage {
  /** 22 characters of base64url. */
  readonly topic: string;
  readonly message: Uint8Array;
}

/** What a text is; of an incomplete one there is more in the lines after it. */
export type DecodedHandMessage =
  | HandMessage & { readonly kind: "message" }
  | { readonly kind: "incomplete" };

/**
 * One line of text.
 *
 * @throws {TypeError} if the topic is none
 * @throws {RangeError} if the message is too long
 */
export function encodeHandMessage({ topic, message }: HandMessage): string {
  const bytes = fromBase64url(topic);
  if (bytes?.length !== TOPIC_BYTES) {
    throw new TypeError(`Cannot use topic ${JSON.stringify(topic)}: it is none`);
  }
  const { length } = message;
  if (length > MAX_SIGNAL_BYTES) {
    throw new RangeError(`Cannot write message: it has ${length} bytes, more than a text may`);
  }
  const content = concat(bytes, Uint8Array.of(length >> 8, length & 0xff), message);
  return PREFIX + toBase64url(concat(content, checksum(content)));
}

/** Whether a text is one of these, or its beginning. */
export function beginsHandMessage(text: string): boolean {
  return text.trimStart().slice(0, PREFIX.length).toLowerCase() === PREFIX;
}

/**
 * Reads the text, with whatever white space pasting has added.
 *
 * @throws {MalformedMessageError} if it is none, or damaged
 */
export function decodeHandMessage(text: string): DecodedHandMessage {
  if (text.length > MAX_TEXT_LENGTH) throw malformed(`it has ${text.length} characters`);
  if (!beginsHandMessage(text)) throw malformed(`a message starts with ${PREFIX}`);
  const digits = text.replaceAll(ADDED_BY_PASTING, "").slice(PREFIX.length);
  if (/[^A-Za-z0-9_-]/.test(digits)) throw malformed("it is damaged, or something else follows");
  if (digits.length < HEADER_DIGITS) return { kind: "incomplete" };
  const header = fromBase64url(digits.slice(0, HEADER_DIGITS))!;
  const length = header[TOPIC_BYTES]! << 8 | header[TOPIC_BYTES + 1]!;
  if (length > MAX_SIGNAL_BYTES) throw malformed("it is damaged, no message is as long");
  const wholeDigits = Math.ceil((header.length + length + CHECKSUM_BYTES) * 8 / 6);
  if (digits.length < wholeDigits) return { kind: "incomplete" };
  const bytes = fromBase64url(digits) ?? new Uint8Array(0);
  const content = bytes.subarray(0, Math.max(0, bytes.length - CHECKSUM_BYTES));
  if (!equalBytes(bytes.subarray(content.length), checksum(content))) {
    throw malformed("it is damaged, its checksum is wrong");
  }
  const reader = new ByteReader(content, "message");
  const topic = toBase64url(reader.bytes(TOPIC_BYTES, "topic"));
  const message = reader.bytes(reader.uint16("length"), "message");
  reader.end();
  return { kind: "message", topic, message };
}

function checksum(content: Uint8Array): Uint8Array {
  return hash("sha256", content).subarray(0, CHECKSUM_BYTES);
}

function malformed(why: string): MalformedMessageError {
  return new MalformedMessageError(`Cannot read message: ${why}`);
}

/** How such a text starts. */
const PREFIX = "punchline-message:";
const TOPIC_BYTES = 16;
const CHECKSUM_BYTES = 4;

/** Of topic and length, which fill them. */
const HEADER_DIGITS = (TOPIC_BYTES + 2) * 8 / 6;

/** White space, and what chats put in to break long words. */
const ADDED_BY_PASTING = /[\s\u00ad\u200b-\u200d\u2060]+/g;

/** The longest message, and room for the white space of a paste. */
const MAX_TEXT_LENGTH = 16_384;
