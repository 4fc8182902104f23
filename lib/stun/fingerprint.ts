/**
 * FINGERPRINT: RFC 8489 §14.7, a checksum that tells STUN from other protocols on the same port.
 *
 * @module
 */

import { RFC8489_ATTRIBUTES } from "./attribute_tables.ts";
import {
  ATTRIBUTE_HEADER_LENGTH,
  attributeSpans,
  HEADER_LENGTH,
  readUint32,
  writeUint16,
  writeUint32,
} from "./codec.ts";
import type { Verification } from "./integrity.ts";

/** On the wire, header included. */
export const FINGERPRINT_LENGTH = 8;

/**
 * Whether the message ends with a FINGERPRINT that is right.
 *
 * @throws {MalformedMessageError} if the bytes are not framed as a STUN message
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

/** Writes the FINGERPRINT of the `offset` bytes before it, and the length that the message has with it. */
export function writeFingerprint(message: Uint8Array, offset: number): void {
  writeUint16(message, 2, offset + FINGERPRINT_LENGTH - HEADER_LENGTH);
  writeUint16(message, offset, FINGERPRINT);
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

const FINGERPRINT = RFC8489_ATTRIBUTES["FINGERPRINT"].code;

/** RFC 8489 §14.7: "STUN" in ASCII, so that the checksum differs from that of another protocol. */
const FINGERPRINT_MASK = 0x5354_554e;

const CRC_TABLE = Int32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb8_8320 : crc >>> 1;
  return crc;
});
