/**
 * STUN messages: RFC 8489 §5, and the cookie-less ones of RFC 3489.
 *
 * @module
 */

import {
  attributeCode,
  decodeAttribute,
  encodeAttribute,
  isComprehensionRequired,
  isNamed,
  type StunAttribute,
  type StunAttributeName,
  type StunAttributeValues,
} from "./attributes.ts";
import { FINGERPRINT_LENGTH, writeFingerprint } from "./fingerprint.ts";
import { integrityLength, type MessageIntegrity, writeIntegrity } from "./integrity.ts";
import {
  ATTRIBUTE_HEADER_LENGTH,
  attributeSpans,
  hasMagicCookie,
  HEADER_LENGTH,
  MAGIC_COOKIE,
  paddedLength,
  readUint16,
  writeUint16,
  writeUint32,
} from "./layout.ts";

/** What a message is in its exchange. */
export type StunClass = "request" | "indication" | "success" | "error";

/** One STUN message. */
export interface StunMessage {
  readonly class: StunClass;
  /** 0 to 0xfff, such as {@linkcode BINDING}. */
  readonly method: number;
  /** 12 bytes; 16 in an RFC 3489 message, which has no magic cookie. */
  readonly transactionId: Uint8Array;
  /** In the order of the message. */
  readonly attributes: readonly StunAttribute[];
}

/** The one method of RFC 8489: §18.2. */
export const BINDING = 0x001;

/** What {@linkcode encodeMessage} adds behind the attributes of the message. */
export interface EncodeMessageOptions {
  /** MESSAGE-INTEGRITY, MESSAGE-INTEGRITY-SHA256, or both, which RFC 8489 §9.1.2 asks of some requests. */
  readonly integrity?: MessageIntegrity | readonly MessageIntegrity[];
  /** FINGERPRINT: RFC 8489 §14.7. */
  readonly fingerprint?: boolean;
}

/**
 * The bytes of a message. A transaction id of sixteen bytes makes it one of RFC 3489.
 *
 * @example
 * ```ts
 * import { BINDING, decodeMessage, encodeMessage } from "@punchline/punchline/stun";
 * import { assertEquals } from "@std/assert";
 *
 * const request = {
 *   class: "request",
 *   method: BINDING,
 *   transactionId: crypto.getRandomValues(new Uint8Array(12)),
 *   attributes: [{ type: "CHANGE-REQUEST", value: { changeIp: false, changePort: true } }],
 * } as const;
 * assertEquals(decodeMessage(encodeMessage(request)), request);
 * ```
 *
 * @throws {RangeError} if a value does not fit its field
 */
export function encodeMessage(
  message: StunMessage,
  options: EncodeMessageOptions = {},
): Uint8Array<ArrayBuffer> {
  const header = encodeHeader(message);
  const mask = header.subarray(4);
  const attributes = message.attributes.map((attribute) => encodeAttribute(attribute, mask));
  const integrities = orderedIntegrities(options.integrity);

  let length = HEADER_LENGTH;
  for (const { value } of attributes) {
    length += ATTRIBUTE_HEADER_LENGTH + paddedLength(value.length);
  }
  let end = length;
  for (const integrity of integrities) end += integrityLength(integrity);
  if (options.fingerprint) end += FINGERPRINT_LENGTH;
  if (end - HEADER_LENGTH > MAX_LENGTH) {
    throw new RangeError(`Cannot encode STUN message: ${end} bytes are more than ${MAX_LENGTH}`);
  }

  const bytes = new Uint8Array(end);
  bytes.set(header);
  writeUint16(bytes, 2, length - HEADER_LENGTH);
  let offset = HEADER_LENGTH;
  for (const { type, value } of attributes) {
    writeUint16(bytes, offset, type);
    writeUint16(bytes, offset + 2, value.length);
    bytes.set(value, offset + ATTRIBUTE_HEADER_LENGTH);
    offset += ATTRIBUTE_HEADER_LENGTH + paddedLength(value.length);
  }
  for (const integrity of integrities) {
    writeIntegrity(bytes, offset, integrity);
    offset += integrityLength(integrity);
  }
  if (options.fingerprint) writeFingerprint(bytes, offset);
  return bytes;
}

/**
 * Reads one message, which has to be all of `bytes`. Attributes that are in no table are kept by number;
 * whether integrity and fingerprint are right is for {@linkcode verifyIntegrity} and
 * {@linkcode verifyFingerprint} to say.
 *
 * @throws {MalformedMessageError} if the bytes are not a STUN message
 */
export function decodeMessage(bytes: Uint8Array): StunMessage {
  const spans = attributeSpans(bytes);
  const mask = bytes.subarray(4, HEADER_LENGTH);
  const type = readUint16(bytes, 0);
  return {
    class: CLASSES[((type >> 7) & 0b10) | ((type >> 4) & 0b01)]!,
    method: ((type >> 2) & 0xf80) | ((type >> 1) & 0x070) | (type & 0x00f),
    transactionId: bytes.slice(hasMagicCookie(bytes) ? 8 : 4, HEADER_LENGTH),
    attributes: spans.map(({ code, offset, length }) => {
      const start = offset + ATTRIBUTE_HEADER_LENGTH;
      return decodeAttribute(code, bytes.subarray(start, start + length), mask);
    }),
  };
}

/** The value of the first attribute of a type; RFC 8489 §14 has the others ignored. */
export function getAttribute<Name extends StunAttributeName>(
  message: StunMessage,
  type: Name,
): StunAttributeValues[Name] | undefined {
  for (const attribute of message.attributes) {
    if (isNamed(attribute, type)) return attribute.value;
  }
  return undefined;
}

/**
 * The numbers of the comprehension-required attributes (RFC 8489 §14) of which `isUnderstood` is false:
 * what a server lists in UNKNOWN-ATTRIBUTES, and for what a client discards a response.
 *
 * @param isUnderstood by default, whether the attribute is in a table
 */
export function unknownRequiredAttributes(
  message: StunMessage,
  isUnderstood: (attribute: StunAttribute) => boolean = ({ type }) => typeof type === "string",
): number[] {
  const unknown = new Set<number>();
  for (const attribute of message.attributes) {
    const code = typeof attribute.type === "number"
      ? attribute.type
      : attributeCode(attribute.type);
    if (isComprehensionRequired(code) && !isUnderstood(attribute)) unknown.add(code);
  }
  return [...unknown];
}

/**
 * The message without the attributes that its integrity does not protect: RFC 8489 §14.5 and §14.6 have
 * them ignored by whoever checked it.
 */
export function protectedPart(message: StunMessage): StunMessage {
  const end = message.attributes.findIndex(({ type }) =>
    type === "MESSAGE-INTEGRITY" || type === "MESSAGE-INTEGRITY-SHA256"
  );
  if (end === -1) return message;
  const attributes = message.attributes.filter(({ type }, index) =>
    index <= end || type === "MESSAGE-INTEGRITY-SHA256" || type === "FINGERPRINT"
  );
  return { ...message, attributes };
}

function encodeHeader(message: StunMessage): Uint8Array {
  const { method, transactionId } = message;
  if (!Number.isInteger(method) || method < 0 || method > 0xfff) {
    throw new RangeError(`Cannot encode STUN message: method ${method} has more than 12 bits`);
  }
  const classBits = CLASSES.indexOf(message.class);
  const header = new Uint8Array(HEADER_LENGTH);
  writeUint16(
    header,
    0,
    ((method & 0xf80) << 2) | ((classBits & 0b10) << 7) | ((method & 0x070) << 1) |
      ((classBits & 0b01) << 4) | (method & 0x00f),
  );
  if (transactionId.length === 12) {
    writeUint32(header, 4, MAGIC_COOKIE);
    header.set(transactionId, 8);
  } else if (transactionId.length === 16) {
    header.set(transactionId, 4);
    if (hasMagicCookie(header)) {
      throw new RangeError(
        "Cannot encode STUN message: a transaction id of 16 bytes starts with the magic cookie",
      );
    }
  } else {
    throw new RangeError(
      `Cannot encode STUN message: a transaction id has 12 or 16 bytes, not ${transactionId.length}`,
    );
  }
  return header;
}

/** RFC 8489 §14.6: MESSAGE-INTEGRITY comes before MESSAGE-INTEGRITY-SHA256. */
function orderedIntegrities(integrity: EncodeMessageOptions["integrity"]): MessageIntegrity[] {
  if (integrity === undefined) return [];
  const list = "algorithm" in integrity ? [integrity] : [...integrity];
  return list.sort((a, b) => a.algorithm.length - b.algorithm.length);
}

/** RFC 8489 §5, by the two bits of the class. */
const CLASSES: readonly StunClass[] = ["request", "indication", "success", "error"];

/** What the length field holds, in whole words. */
const MAX_LENGTH = 0xfffc;
