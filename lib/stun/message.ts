/**
 * STUN messages: RFC 8489 §5, and RFC 3489, whose messages have no magic cookie.
 *
 * @module
 */

import { copyOf, takeUnwritten } from "../base/bytes.ts";
import { type TransportAddress, unwrapIp } from "../net/address.ts";
import {
  attributeCode,
  attributeRow,
  isComprehensionRequired,
  isNamed,
  readAttribute,
  type StunAttribute,
  type StunAttributeName,
  type StunAttributeValues,
} from "./attributes.ts";
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
} from "./codec.ts";
import {
  FINGERPRINT_LENGTH,
  integrityLength,
  type MessageIntegrity,
  writeFingerprint,
  writeIntegrity,
} from "./integrity.ts";

/** The class of a message: RFC 8489 §5. */
export type StunClass = "request" | "indication" | "success" | "error";

/** One STUN message. */
export interface StunMessage {
  /** A request and its response have the same method and transaction ID. */
  readonly class: StunClass;
  /** 0 to 0xfff, such as {@linkcode BINDING}. */
  readonly method: number;
  /** 12 bytes; 16 in an RFC 3489 message, which has no magic cookie. */
  readonly transactionId: Uint8Array;
  /** In their order in the message. */
  readonly attributes: readonly StunAttribute[];
}

/** The one method of RFC 8489: §18.2. */
export const BINDING = 0x001;

/** What {@linkcode encodeMessage} adds after the attributes of the message. */
export interface EncodeMessageOptions {
  /** MESSAGE-INTEGRITY, MESSAGE-INTEGRITY-SHA256, or both, which RFC 8489 §9.1.2 requires in some requests. */
  readonly integrity?: MessageIntegrity | readonly MessageIntegrity[];
  /** Whether to add a FINGERPRINT: RFC 8489 §14.7. */
  readonly fingerprint?: boolean;
}

/**
 * The bytes of a message. With a transaction ID of sixteen bytes it is an RFC 3489 message.
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
 * @throws {RangeError} if a value does not fit its field, or the message is longer than 64 KiB
 * @throws {TypeError} if an IP address is invalid
 */
export function encodeMessage(
  message: StunMessage,
  options: EncodeMessageOptions = {},
): Uint8Array<ArrayBuffer> {
  const integrities = orderedIntegrities(options.integrity);
  let length = HEADER_LENGTH + (options.fingerprint ? FINGERPRINT_LENGTH : 0);
  for (const integrity of integrities) length += integrityLength(integrity);
  for (const attribute of message.attributes) length += attributeLength(attribute);

  const bytes = allocate(length);
  writeHeader(message, bytes);
  let offset = HEADER_LENGTH;
  for (const attribute of message.attributes) {
    writeAttribute(attribute, bytes, offset);
    offset += attributeLength(attribute);
  }
  for (const integrity of integrities) {
    writeIntegrity(bytes, offset, integrity);
    offset += integrityLength(integrity);
  }
  if (options.fingerprint) writeFingerprint(bytes, offset);
  return bytes;
}

/**
 * Reads one message, which must be all of `bytes`. Attributes that are in no table are kept by number. Integrity and
 * fingerprint are not checked here: use {@linkcode verifyIntegrity} and {@linkcode verifyFingerprint}.
 *
 * @throws {MalformedMessageError} if the bytes are not a STUN message
 */
export function decodeMessage(bytes: Uint8Array): StunMessage {
  const spans = attributeSpans(bytes);
  const owned = copyOf(bytes);
  const type = readUint16(owned, 0);
  return {
    class: CLASSES[((type >> 7) & 0b10) | ((type >> 4) & 0b01)]!,
    method: ((type >> 2) & 0xf80) | ((type >> 1) & 0x070) | (type & 0x00f),
    transactionId: owned.subarray(hasMagicCookie(owned) ? 8 : 4, HEADER_LENGTH),
    attributes: spans.map((span) => readAttribute(owned, span)),
  };
}

/** The value of the first attribute of a type. RFC 8489 §14: further ones are ignored. */
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
 * The address that the server saw: XOR-MAPPED-ADDRESS, or the same under the number that it had before RFC 5389, or
 * MAPPED-ADDRESS. Servers with one socket for both families write IPv4 addresses as IPv4-mapped ones (RFC 4291 §2.5.5.2).
 */
export function mappedAddress(response: StunMessage): TransportAddress | undefined {
  const mapped = getAttribute(response, "XOR-MAPPED-ADDRESS") ??
    getAttribute(response, "OLD-XOR-MAPPED-ADDRESS") ?? getAttribute(response, "MAPPED-ADDRESS");
  return mapped && unmapped(mapped);
}

/** With an IPv4-mapped address as the IPv4 address that it stands for. */
export function unmapped({ ip, port }: TransportAddress): TransportAddress {
  return { ip: /^::ffff:/.test(ip) ? unwrapIp(ip) : ip, port };
}

/**
 * The type numbers of the comprehension-required attributes (RFC 8489 §14) that are not understood: a server lists them
 * in UNKNOWN-ATTRIBUTES, and a client discards a response that has any.
 *
 * @param isUnderstood default: whether the attribute is in a table
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
 * The message without the attributes that its integrity does not cover. RFC 8489 §14.5 and §14.6: a receiver that has
 * checked the integrity ignores them.
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

function allocate(length: number): Uint8Array<ArrayBuffer> {
  if (length > MAX_MESSAGE_LENGTH) {
    throw new RangeError(
      `Cannot encode STUN message: ${length} bytes do not fit ${MAX_MESSAGE_LENGTH}`,
    );
  }
  return takeUnwritten(length);
}

function writeHeader(message: StunMessage, bytes: Uint8Array): void {
  const { method, transactionId } = message;
  if (!Number.isInteger(method) || method < 0 || method > 0xfff) {
    throw new RangeError(`Cannot encode STUN message: method ${method} has more than 12 bits`);
  }
  const classBits = CLASSES.indexOf(message.class);
  writeUint16(
    bytes,
    0,
    ((method & 0xf80) << 2) | ((classBits & 0b10) << 7) | ((method & 0x070) << 1) |
      ((classBits & 0b01) << 4) | (method & 0x00f),
  );
  writeUint16(bytes, 2, bytes.length - HEADER_LENGTH);
  if (transactionId.length === 12) {
    writeUint32(bytes, 4, MAGIC_COOKIE);
    bytes.set(transactionId, 8);
    return;
  }
  if (transactionId.length !== 16) {
    throw new RangeError(
      `Cannot encode STUN message: a transaction ID has 12 or 16 bytes, not ${transactionId.length}`,
    );
  }
  bytes.set(transactionId, 4);
  if (hasMagicCookie(bytes)) {
    throw new RangeError(
      "Cannot encode STUN message: a transaction ID of 16 bytes must not start with the magic cookie",
    );
  }
}

/** The length of an attribute with its header and padding. */
function attributeLength(attribute: StunAttribute): number {
  const { codec } = attributeRow(attribute);
  return ATTRIBUTE_HEADER_LENGTH + paddedLength(codec.byteLength(attribute.value));
}

function writeAttribute(attribute: StunAttribute, message: Uint8Array, offset: number): void {
  const { code, codec } = attributeRow(attribute);
  const length = codec.byteLength(attribute.value);
  const start = offset + ATTRIBUTE_HEADER_LENGTH;
  writeUint16(message, offset, code);
  writeUint16(message, offset + 2, length);
  codec.write(attribute.value, message, start);
  message.fill(0, start + length, start + paddedLength(length));
}

/** RFC 8489 §14.6: MESSAGE-INTEGRITY comes before MESSAGE-INTEGRITY-SHA256. */
function orderedIntegrities(
  integrity: EncodeMessageOptions["integrity"],
): readonly MessageIntegrity[] {
  if (integrity === undefined) return NO_INTEGRITY;
  const list = "algorithm" in integrity ? [integrity] : [...integrity];
  return list.sort((a, b) => FINAL_ORDER.indexOf(a.algorithm) - FINAL_ORDER.indexOf(b.algorithm));
}

/** RFC 8489 §5, in the order of the two class bits. */
const CLASSES: readonly StunClass[] = ["request", "indication", "success", "error"];

const NO_INTEGRITY: readonly MessageIntegrity[] = [];

/** RFC 8489 §14.6. */
const FINAL_ORDER: readonly MessageIntegrity["algorithm"][] = ["sha1", "sha256"];

/** The header, and as many 32-bit words as the length field can count. */
const MAX_MESSAGE_LENGTH = HEADER_LENGTH + 0xfffc;
