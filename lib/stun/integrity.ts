/**
 * MESSAGE-INTEGRITY and MESSAGE-INTEGRITY-SHA256: RFC 8489 §14.5 and §14.6.
 *
 * @module
 */

import { equalSecrets, hmac } from "../base/crypto.ts";
import { RFC8489_ATTRIBUTES } from "./attribute_tables.ts";
import {
  ATTRIBUTE_HEADER_LENGTH,
  type AttributeSpan,
  attributeSpans,
  hasMagicCookie,
  HEADER_LENGTH,
  readUint32,
  writeUint16,
  writeUint32,
} from "./codec.ts";

/** How a message is authenticated. */
export interface MessageIntegrity {
  /** `sha1` is MESSAGE-INTEGRITY, `sha256` is MESSAGE-INTEGRITY-SHA256. */
  readonly algorithm: "sha1" | "sha256";
  /** Of a short-term or a long-term credential: see `credentials.ts`. */
  readonly key: Uint8Array;
}

/** What a check said; a message without the attribute is not the same as one with a wrong one. */
export type Verification = "valid" | "invalid" | "absent";

/**
 * Whether the message was written by someone who has the key. Attributes behind it say nothing:
 * see `protectedAttributes()`.
 *
 * @throws {MalformedMessageError} if the bytes are not framed as a STUN message
 */
export function verifyIntegrity(bytes: Uint8Array, integrity: MessageIntegrity): Verification {
  const span = findIntegrity(bytes, integrity.algorithm);
  if (span === undefined) return "absent";
  const { minLength, maxLength } = FORMS[integrity.algorithm];
  if (span.length < minLength || span.length > maxLength || span.length % 4 !== 0) return "invalid";

  const start = span.offset + ATTRIBUTE_HEADER_LENGTH;
  const received = bytes.subarray(start, start + span.length);
  // The length counts up to the end of this attribute, whatever follows it.
  const lengthField = new Uint8Array(2);
  writeUint16(lengthField, 0, start + span.length - HEADER_LENGTH);
  const expected = hmac(
    integrity.algorithm,
    integrity.key,
    bytes.subarray(0, 2),
    lengthField,
    bytes.subarray(4, span.offset),
  );
  return equalSecrets(received, expected.subarray(0, span.length)) ? "valid" : "invalid";
}

/** The length on the wire of what {@linkcode writeIntegrity} writes. */
export function integrityLength({ algorithm }: MessageIntegrity): number {
  return ATTRIBUTE_HEADER_LENGTH + FORMS[algorithm].maxLength;
}

/** Writes the HMAC of the `offset` bytes before it, and the length that the message has with it. */
export function writeIntegrity(
  message: Uint8Array,
  offset: number,
  integrity: MessageIntegrity,
): void {
  const { code, maxLength } = FORMS[integrity.algorithm];
  writeUint16(message, 2, offset + integrityLength(integrity) - HEADER_LENGTH);
  writeUint16(message, offset, code);
  writeUint16(message, offset + 2, maxLength);
  message.set(
    hmac(integrity.algorithm, integrity.key, message.subarray(0, offset)),
    offset + ATTRIBUTE_HEADER_LENGTH,
  );
}

function findIntegrity(
  bytes: Uint8Array,
  algorithm: MessageIntegrity["algorithm"],
): AttributeSpan | undefined {
  const spans = attributeSpans(bytes);
  // RFC 3489 §11.2.8 pads the text to 64 bytes before it is hashed. No server was found that does.
  if (!hasMagicCookie(bytes)) return undefined;
  const { code, endedBy } = FORMS[algorithm];
  for (const span of spans) {
    if (span.code === code) return span;
    if (endedBy.includes(span.code)) return undefined;
  }
  return undefined;
}

const FINGERPRINT = RFC8489_ATTRIBUTES["FINGERPRINT"].code;
const MESSAGE_INTEGRITY = RFC8489_ATTRIBUTES["MESSAGE-INTEGRITY"].code;
const MESSAGE_INTEGRITY_SHA256 = RFC8489_ATTRIBUTES["MESSAGE-INTEGRITY-SHA256"].code;

/** RFC 8489 §14.5, §14.6; `endedBy` are the attributes behind which it is to be ignored. */
const FORMS = {
  sha1: {
    code: MESSAGE_INTEGRITY,
    minLength: 20,
    maxLength: 20,
    endedBy: [MESSAGE_INTEGRITY_SHA256, FINGERPRINT],
  },
  sha256: {
    code: MESSAGE_INTEGRITY_SHA256,
    minLength: 16,
    maxLength: 32,
    endedBy: [FINGERPRINT],
  },
} as const;

/** On the wire, header included. */
export const FINGERPRINT_LENGTH = 8;

/**
 * Whether the message ends with a FINGERPRINT that is right.
 *
 * @throws {MalformedMessageError} if the bytes are not framed as a STUN message
 */
export function verifyFingerprint(bytes: Uint8Array): Verification {
  const spans = attributeSpans(bytes);
  const span = spans.find(({ code }) => code === FINGERPRINT_FINGERPRINT);
  if (span === undefined) return "absent";
  if (span !== spans.at(-1) || span.length !== 4) return "invalid";
  const expected = (crc32(bytes.subarray(0, span.offset)) ^ FINGERPRINT_MASK) >>> 0;
  return readUint32(bytes, span.offset + ATTRIBUTE_HEADER_LENGTH) === expected
    ? "valid"
    : "invalid";
}

/** Writes the FINGERPRINT of the `offset` bytes before it, and the length that the message has with it. */
export function writeFingerprint(message: Uint8Array, offset: number): void {
  writeUint16(message, 2, offset + FINGERPRINT_LENGTH - HEADER_LENGTH);
  writeUint16(message, offset, FINGERPRINT_FINGERPRINT);
  writeUint16(message, offset + 2, 4);
  const checksum = crc32(message.subarray(0, offset)) ^ FINGERPRINT_MASK;
  writeUint32(message, offset + ATTRIBUTE_HEADER_LENGTH, checksum);
}

/** The CRC-32 of ITU-T V.42, which is that of zip and Ethernet. */
function crc32(bytes: Uint8Array): number {
  let crc = 0xffff_ffff;
  for (let i = 0; i < bytes.length; i++) {
    crc = CRC_TABLE[(crc ^ bytes[i]!) & 0xff]! ^ (crc >>> 8);
  }
  return ~crc;
}

const FINGERPRINT_FINGERPRINT = RFC8489_ATTRIBUTES["FINGERPRINT"].code;

/** RFC 8489 §14.7: "STUN" in ASCII, so that the checksum differs from that of another protocol. */
const FINGERPRINT_MASK = 0x5354_554e;

const CRC_TABLE = Int32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb8_8320 : crc >>> 1;
  return crc;
});
