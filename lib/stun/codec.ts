/**
 * Where things stand in a STUN message: RFC 8489 §5 and §14, with the lengths checked.
 *
 * @module
 */

import { MalformedMessageError } from "../base/errors.ts";

/** Where an attribute stands in the bytes of its message. */
export interface AttributeSpan {
  readonly code: number;
  /** Where its header starts. */
  readonly offset: number;
  /** Of the value, without padding. */
  readonly length: number;
}

/** RFC 8489 §5. */
export const HEADER_LENGTH = 20;
/** RFC 8489 §14. */
export const ATTRIBUTE_HEADER_LENGTH = 4;
/** RFC 8489 §5: what tells a message from one of RFC 3489, which has sixteen bytes of transaction id instead. */
export const MAGIC_COOKIE = 0x2112_a442;
/** Ours: twice what the busiest message of STUN, TURN and ICE carries; each one costs an object or two. */
export const MAX_ATTRIBUTES = 64;

/**
 * The attributes of a message, in order.
 *
 * @throws {MalformedMessageError} if the header, or the length of an attribute, does not fit the bytes
 */
export function attributeSpans(bytes: Uint8Array): AttributeSpan[] {
  checkHeader(bytes);
  if (hasMagicCookie(bytes)) return spans(bytes, 4);
  // RFC 3489 knows no padding: some peers make every length a multiple of four, some pad, some do neither.
  try {
    return spans(bytes, 4);
  } catch (error) {
    if (!(error instanceof MalformedMessageError)) throw error;
    return spans(bytes, 1);
  }
}

/** Whether a message is of RFC 5389 or later; it has to have a header. */
export function hasMagicCookie(bytes: Uint8Array): boolean {
  return readUint32(bytes, 4) === MAGIC_COOKIE;
}

/** The length on the wire of a value and its padding. */
export function paddedLength(length: number): number {
  return (length + 3) & ~3;
}

/** Reads two bytes that are known to be there. */
export function readUint16(bytes: Uint8Array, offset: number): number {
  return (bytes[offset]! << 8) | bytes[offset + 1]!;
}

/** Reads four bytes that are known to be there. */
export function readUint32(bytes: Uint8Array, offset: number): number {
  return (readUint16(bytes, offset) * 0x1_0000) + readUint16(bytes, offset + 2);
}

/** Writes two bytes. */
export function writeUint16(bytes: Uint8Array, offset: number, value: number): void {
  bytes[offset] = value >> 8;
  bytes[offset + 1] = value;
}

/** Writes four bytes. */
export function writeUint32(bytes: Uint8Array, offset: number, value: number): void {
  writeUint16(bytes, offset, value >>> 16);
  writeUint16(bytes, offset + 2, value & 0xffff);
}

function checkHeader(bytes: Uint8Array): void {
  if (bytes.length < HEADER_LENGTH) {
    throw new MalformedMessageError(
      `Cannot read STUN message: a header has ${HEADER_LENGTH} bytes, this is ${bytes.length}`,
    );
  }
  if (bytes[0]! > 0x3f) {
    throw new MalformedMessageError(
      `Cannot read STUN message: its first two bits are zero, the first byte is ${bytes[0]}`,
    );
  }
  const length = readUint16(bytes, 2);
  if (length !== bytes.length - HEADER_LENGTH) {
    throw new MalformedMessageError(
      `Cannot read STUN message: its length is ${length}, ${
        bytes.length - HEADER_LENGTH
      } bytes follow`,
    );
  }
  if (length % 4 !== 0 && hasMagicCookie(bytes)) {
    throw new MalformedMessageError(
      `Cannot read STUN message: its length is a multiple of 4, not ${length}`,
    );
  }
}

function spans(bytes: Uint8Array, alignment: 1 | 4): AttributeSpan[] {
  const found: AttributeSpan[] = [];
  let offset = HEADER_LENGTH;
  while (offset < bytes.length) {
    if (found.length === MAX_ATTRIBUTES) {
      throw new MalformedMessageError(
        `Cannot read STUN message: it has more than ${MAX_ATTRIBUTES} attributes`,
      );
    }
    if (offset + ATTRIBUTE_HEADER_LENGTH > bytes.length) {
      throw new MalformedMessageError(
        `Cannot read STUN message: ${bytes.length - offset} bytes are no attribute header`,
      );
    }
    const code = readUint16(bytes, offset);
    const length = readUint16(bytes, offset + 2);
    const end = offset + ATTRIBUTE_HEADER_LENGTH +
      (alignment === 4 ? paddedLength(length) : length);
    if (end > bytes.length) {
      throw new MalformedMessageError(
        `Cannot read STUN message: attribute ${hexCode(code)} has ${length} bytes, ` +
          `${bytes.length - offset - ATTRIBUTE_HEADER_LENGTH} are left`,
      );
    }
    found.push({ code, offset, length });
    offset = end;
  }
  return found;
}

function hexCode(code: number): string {
  return `0x${code.toString(16).padStart(4, "0")}`;
}
