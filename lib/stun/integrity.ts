/**
 * Authenticity and checksum of a message: MESSAGE-INTEGRITY, MESSAGE-INTEGRITY-SHA256 and FINGERPRINT (RFC 8489 §14.5 to
 * §14.7).
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
  /** The key of a short-term or long-term credential: `shortTermKey()`, `longTermKey()`. */
  readonly key: Uint8Array;
}

/** The result of a check. A missing attribute is not the same as a wrong one. */
export type Verification = "valid" | "invalid" | "absent";

/**
 * Whether the sender of the message has the key. Attributes after the integrity are not covered: see `protectedPart()`.
 *
 * @throws {MalformedMessageError} if the header or the lengths are not those of a STUN message
 */
export function verifyIntegrity(bytes: Uint8Array, integrity: MessageIntegrity): Verification {
  const span = findIntegrity(bytes, integrity.algorithm);
  if (span === undefined) return "absent";
  const { minLength, maxLength } = FORMS[integrity.algorithm];
  if (span.length < minLength || span.length > maxLength || span.length % 4 !== 0) return "invalid";

  const start = span.offset + ATTRIBUTE_HEADER_LENGTH;
  const received = bytes.subarray(start, start + span.length);
  // The hashed length reaches to the end of this attribute, whatever follows it.
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

/** The length of what {@linkcode writeIntegrity} writes, with its header. */
export function integrityLength({ algorithm }: MessageIntegrity): number {
  return ATTRIBUTE_HEADER_LENGTH + FORMS[algorithm].maxLength;
}

/** Writes the integrity of the `offset` bytes before it, and updates the length of the message. */
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

/**
 * Whether the message ends with a correct FINGERPRINT.
 *
 * @throws {MalformedMessageError} if the header or the lengths are not those of a STUN message
 */
export function verifyFingerprint(bytes: Uint8Array): Verification {
  const spans = attributeSpans(bytes);
  const span = spans.find(({ code }) => code === FINGERPRINT);
  if (span === undefined) return "absent";
  if (span !== spans.at(-1) || span.length !== 4) return "invalid";
  const expected = (crc32(bytes.subarray(0, span.offset)) ^ FINGERPRINT_MASK) >>> 0;
  return readUint32(bytes, span.offset + ATTRIBUTE_HEADER_LENGTH) === expected
    ? "valid"
    : "invalid";
}

/** Writes the FINGERPRINT of the `offset` bytes before it, and updates the length of the message. */
export function writeFingerprint(message: Uint8Array, offset: number): void {
  writeUint16(message, 2, offset + FINGERPRINT_LENGTH - HEADER_LENGTH);
  writeUint16(message, offset, FINGERPRINT);
  writeUint16(message, offset + 2, 4);
  const checksum = crc32(message.subarray(0, offset)) ^ FINGERPRINT_MASK;
  writeUint32(message, offset + ATTRIBUTE_HEADER_LENGTH, checksum);
}

function findIntegrity(
  bytes: Uint8Array,
  algorithm: MessageIntegrity["algorithm"],
): AttributeSpan | undefined {
  const spans = attributeSpans(bytes);
  // RFC 3489 §11.2.8 pads the text to a multiple of 64 bytes before hashing. We found no server that does.
  if (!hasMagicCookie(bytes)) return undefined;
  const { code, endedBy } = FORMS[algorithm];
  for (const span of spans) {
    if (span.code === code) return span;
    if (endedBy.includes(span.code)) return undefined;
  }
  return undefined;
}

/** The CRC-32 of ITU-T V.42, also used by zip and Ethernet. */
function crc32(bytes: Uint8Array): number {
  let crc = 0xffff_ffff;
  for (let i = 0; i < bytes.length; i++) {
    crc = CRC_TABLE[(crc ^ bytes[i]!) & 0xff]! ^ (crc >>> 8);
  }
  return ~crc;
}

/** The length of a FINGERPRINT, with its header. */
export const FINGERPRINT_LENGTH = 8;

const FINGERPRINT = RFC8489_ATTRIBUTES["FINGERPRINT"].code;
const MESSAGE_INTEGRITY = RFC8489_ATTRIBUTES["MESSAGE-INTEGRITY"].code;
const MESSAGE_INTEGRITY_SHA256 = RFC8489_ATTRIBUTES["MESSAGE-INTEGRITY-SHA256"].code;

/** RFC 8489 §14.5, §14.6; after one of the attributes in `endedBy`, an integrity is to be ignored. */
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

/** RFC 8489 §14.7: "STUN" in ASCII, so that the checksum differs from one of another protocol. */
const FINGERPRINT_MASK = 0x5354_554e;

const CRC_TABLE = new Int32Array(256);
for (let byte = 0; byte < 256; byte++) {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb8_8320 : crc >>> 1;
  CRC_TABLE[byte] = crc;
}
