/**
 * The layout of a STUN message (RFC 8489 §5 and §14), and how values of the common types are read and written.
 *
 * @module
 */

import { malformed, MalformedMessageError } from "../base/errors.ts";
import { formatIp, ipFamily, ipToBytes, type TransportAddress } from "../net/address.ts";

/** The position of an attribute in its message. */
export interface AttributeSpan {
  /** The type number. */
  readonly code: number;
  /** Where its header starts. */
  readonly offset: number;
  /** The length of the value, without padding. */
  readonly length: number;
}

/**
 * The positions of the attributes of a message, in order.
 *
 * @throws {MalformedMessageError} if the header is invalid, or a length does not fit the bytes
 */
export function attributeSpans(bytes: Uint8Array): AttributeSpan[] {
  checkHeader(bytes);
  if (hasMagicCookie(bytes)) return spans(bytes, 4);
  // RFC 3489 has no padding. Some peers make every length a multiple of four, some pad, some do neither.
  try {
    return spans(bytes, 4);
  } catch (error) {
    if (!(error instanceof MalformedMessageError)) throw error;
    return spans(bytes, 1);
  }
}

/** Whether a message is of RFC 5389 or later. The bytes must hold at least a header. */
export function hasMagicCookie(bytes: Uint8Array): boolean {
  return readUint32(bytes, 4) === MAGIC_COOKIE;
}

/** The length of a value with its padding to a multiple of four. */
export function paddedLength(length: number): number {
  return (length + 3) & ~3;
}

/** Reads a 16-bit number. The bytes must be there: it is not checked. */
export function readUint16(bytes: Uint8Array, offset: number): number {
  return (bytes[offset]! << 8) | bytes[offset + 1]!;
}

/** Reads a 32-bit number. The bytes must be there: it is not checked. */
export function readUint32(bytes: Uint8Array, offset: number): number {
  return (readUint16(bytes, offset) * 0x1_0000) + readUint16(bytes, offset + 2);
}

/** Writes a 16-bit number. */
export function writeUint16(bytes: Uint8Array, offset: number, value: number): void {
  bytes[offset] = value >> 8;
  bytes[offset + 1] = value;
}

/** Writes a 32-bit number. */
export function writeUint32(bytes: Uint8Array, offset: number, value: number): void {
  writeUint16(bytes, offset, value >>> 16);
  writeUint16(bytes, offset + 2, value & 0xffff);
}

/** Writes and reads the values of one attribute type. */
export interface ValueCodec<V> {
  /**
   * The number of bytes that the value takes, without padding.
   *
   * @throws {RangeError} if the value does not fit the attribute
   */
  byteLength(value: V): number;
  /** Writes every byte of the value at `offset`. The header of the message has been written before. */
  write(value: V, message: Uint8Array, offset: number): void;
  /**
   * Reads the value at `span`. Byte arrays in the result may be views of the message.
   *
   * @throws {MalformedMessageError} if the bytes are not a valid value
   */
  read(message: Uint8Array, span: ValueSpan): V;
}

/** The position of a value in its message. */
export interface ValueSpan {
  /** The name of the attribute, for errors. */
  readonly name: string;
  readonly offset: number;
  /** The length in bytes, without padding. */
  readonly length: number;
}

/** A row of an attribute table: the type number and the codec of its value. */
export interface AttributeRow<V> {
  readonly code: number;
  readonly codec: ValueCodec<V>;
}

/** The attributes of one specification, by name. */
export type AttributeTable<Values> = {
  readonly [Name in keyof Values]: AttributeRow<Values[Name]>;
};

/** A codec for a number in the first bytes of four; the others are reserved. */
export function leadingNumber(byteCount: 1 | 2): ValueCodec<number> {
  const unit = 256 ** (4 - byteCount);
  return {
    byteLength(number) {
      checkInteger(number, 256 ** byteCount - 1);
      return 4;
    },
    write: (number, message, offset) => writeUint32(message, offset, number * unit),
    read(message, span) {
      checkLength(span, 4, 4);
      return Math.floor(readUint32(message, span.offset) / unit);
    },
  };
}

/** A codec for bytes of any length from `minLength` to `maxLength`, both included. */
export function opaque(minLength = 0, maxLength = 0xffff): ValueCodec<Uint8Array> {
  return {
    byteLength(value) {
      if (value.length < minLength || value.length > maxLength) {
        throw new RangeError(
          `Cannot encode attribute: it takes ${minLength} to ${maxLength} bytes, not ${value.length}`,
        );
      }
      return value.length;
    },
    write: (value, message, offset) => message.set(value, offset),
    read(message, span) {
      checkLength(span, minLength, maxLength);
      return message.subarray(span.offset, span.offset + span.length);
    },
  };
}

/** An unsigned 32-bit number. */
export const uint32: ValueCodec<number> = {
  byteLength(value) {
    checkInteger(value, 0xffff_ffff);
    return 4;
  },
  write: (value, message, offset) => writeUint32(message, offset, value),
  read(message, span) {
    checkLength(span, 4, 4);
    return readUint32(message, span.offset);
  },
};

/** A list of unsigned 16-bit numbers. */
export const uint16List: ValueCodec<readonly number[]> = {
  byteLength(values) {
    for (const value of values) checkInteger(value, 0xffff);
    return 2 * values.length;
  },
  write(values, message, offset) {
    values.forEach((value, index) => writeUint16(message, offset + 2 * index, value));
  },
  read(message, { name, offset, length }) {
    if (length % 2 !== 0) {
      throw malformed(name, `${length} is an odd number of bytes`);
    }
    const values: number[] = [];
    for (let i = 0; i < length; i += 2) values.push(readUint16(message, offset + i));
    return values;
  },
};

/** UTF-8 that is compared or sent back, so it must be valid. */
export function text(maxLength: number): ValueCodec<string> {
  return textCodec(maxLength, new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }));
}

/** UTF-8 for people to read. Invalid bytes become U+FFFD: a server that writes Latin-1 is still understood. */
export function freeText(maxLength: number): ValueCodec<string> {
  return textCodec(maxLength, new TextDecoder("utf-8", { ignoreBOM: true }));
}

/** A transport address in the clear. */
export const transportAddress: ValueCodec<TransportAddress> = {
  byteLength: addressLength,
  write: writeAddress,
  read(message, span) {
    checkAddress(message, span);
    const { offset, length } = span;
    return {
      ip: length === IPV4_LENGTH
        ? formatIpv4(readUint32(message, offset + 4))
        : formatIp(message.subarray(offset + 4, offset + length)),
      port: readUint16(message, offset + 2),
    };
  },
};

/**
 * A transport address XORed with the magic cookie and the transaction ID, so that NATs that rewrite addresses in the
 * payload do not recognise it.
 */
export const xorTransportAddress: ValueCodec<TransportAddress> = {
  byteLength: addressLength,
  write(address, message, offset) {
    writeAddress(address, message, offset);
    const length = addressLength(address);
    message[offset + 2]! ^= message[MASK_OFFSET]!;
    message[offset + 3]! ^= message[MASK_OFFSET + 1]!;
    for (let i = 4; i < length; i++) message[offset + i]! ^= message[MASK_OFFSET + i - 4]!;
  },
  read(message, span) {
    checkAddress(message, span);
    const { offset, length } = span;
    return {
      ip: length === IPV4_LENGTH
        ? formatIpv4(readUint32(message, offset + 4) ^ readUint32(message, MASK_OFFSET))
        : formatIp(unmask(message, offset + 4)),
      port: readUint16(message, offset + 2) ^ readUint16(message, MASK_OFFSET),
    };
  },
};

/**
 * Checks the length of a value.
 *
 * @throws {MalformedMessageError} if it is not from `min` to `max`
 */
export function checkLength({ name, length }: ValueSpan, min: number, max: number): void {
  if (length >= min && length <= max) return;
  const range = min === max ? `${min}` : `${min} to ${max}`;
  throw malformed(name, `it has ${length} bytes, not ${range}`);
}

/**
 * Checks a number to be encoded.
 *
 * @throws {RangeError} if it is not a whole number from 0 to `max`
 */
export function checkInteger(value: number, max: number): void {
  if (!Number.isInteger(value) || value < 0 || value > max) {
    throw new RangeError(`Cannot encode attribute: ${value} is not a whole number up to ${max}`);
  }
}

function checkHeader(bytes: Uint8Array): void {
  if (bytes.length < HEADER_LENGTH) {
    throw malformed(
      "STUN message",
      `a header has ${HEADER_LENGTH} bytes, this is ${bytes.length}`,
    );
  }
  if (bytes[0]! > 0x3f) {
    throw malformed(
      "STUN message",
      `its first two bits must be zero, the first byte is ${bytes[0]}`,
    );
  }
  const length = readUint16(bytes, 2);
  if (length !== bytes.length - HEADER_LENGTH) {
    throw malformed(
      "STUN message",
      `its length is ${length}, ${bytes.length - HEADER_LENGTH} bytes follow`,
    );
  }
  if (length % 4 !== 0 && hasMagicCookie(bytes)) {
    throw malformed("STUN message", `its length must be a multiple of 4, not ${length}`);
  }
}

function spans(bytes: Uint8Array, alignment: 1 | 4): AttributeSpan[] {
  const found: AttributeSpan[] = [];
  let offset = HEADER_LENGTH;
  while (offset < bytes.length) {
    if (found.length === MAX_ATTRIBUTES) {
      throw malformed("STUN message", `it has more than ${MAX_ATTRIBUTES} attributes`);
    }
    if (offset + ATTRIBUTE_HEADER_LENGTH > bytes.length) {
      throw malformed(
        "STUN message",
        `${bytes.length - offset} bytes are too few for an attribute header`,
      );
    }
    const code = readUint16(bytes, offset);
    const length = readUint16(bytes, offset + 2);
    const end = offset + ATTRIBUTE_HEADER_LENGTH +
      (alignment === 4 ? paddedLength(length) : length);
    if (end > bytes.length) {
      const left = bytes.length - offset - ATTRIBUTE_HEADER_LENGTH;
      throw malformed(
        "STUN message",
        `attribute ${hexCode(code)} has ${length} bytes, ${left} are left`,
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

function textCodec(maxLength: number, decoder: TextDecoder): ValueCodec<string> {
  return {
    byteLength(value) {
      const length = utf8Length(value);
      if (length > maxLength) {
        throw new RangeError(
          `Cannot encode attribute: text of ${length} bytes is longer than ${maxLength}`,
        );
      }
      return length;
    },
    write(value, message, offset) {
      ENCODER.encodeInto(value, message.subarray(offset));
    },
    read(message, span) {
      checkLength(span, 0, maxLength);
      const short = readShortAscii(message, span);
      if (short !== undefined) return short;
      try {
        return decoder.decode(message.subarray(span.offset, span.offset + span.length));
      } catch (cause) {
        throw malformed(span.name, "it is not UTF-8", cause);
      }
    },
  };
}

/** The number of bytes that `TextEncoder` writes. A lone surrogate becomes U+FFFD, three bytes. */
function utf8Length(value: string): number {
  let length = value.length;
  for (let i = 0; i < value.length; i++) {
    const unit = value.charCodeAt(i);
    if (unit < 0x80) continue;
    if (unit < 0x800) length += 1;
    else if (isPairAt(value, i)) {
      length += 2;
      i++;
    } else length += 2;
  }
  return length;
}

function isPairAt(value: string, index: number): boolean {
  return (value.charCodeAt(index) & 0xfc00) === 0xd800 &&
    (value.charCodeAt(index + 1) & 0xfc00) === 0xdc00;
}

/** Most text is short ASCII, for which a call of `TextDecoder` takes three times as long. */
function readShortAscii(message: Uint8Array, { offset, length }: ValueSpan): string | undefined {
  if (length > 64) return undefined;
  let text = "";
  for (let i = offset; i < offset + length; i++) {
    const byte = message[i]!;
    if (byte > 0x7f) return undefined;
    text += String.fromCharCode(byte);
  }
  return text;
}

function addressLength({ ip, port }: TransportAddress): number {
  checkInteger(port, 0xffff);
  return ipFamily(ip) === 4 ? IPV4_LENGTH : IPV6_LENGTH;
}

function writeAddress({ ip, port }: TransportAddress, message: Uint8Array, offset: number): void {
  const family = ipFamily(ip);
  message[offset] = 0;
  message[offset + 1] = family === 4 ? FAMILY_IPV4 : FAMILY_IPV6;
  writeUint16(message, offset + 2, port);
  if (family === 4) writeUint32(message, offset + 4, ipv4Number(ip));
  else message.set(ipToBytes(ip), offset + 4);
}

function checkAddress(message: Uint8Array, span: ValueSpan): void {
  checkLength(span, IPV4_LENGTH, IPV6_LENGTH);
  const family = message[span.offset + 1];
  if (family !== FAMILY_IPV4 && family !== FAMILY_IPV6) {
    throw malformed(span.name, `address family ${family} is unknown`);
  }
  const length = family === FAMILY_IPV4 ? IPV4_LENGTH : IPV6_LENGTH;
  checkLength(span, length, length);
}

function unmask(message: Uint8Array, offset: number): number[] {
  const bytes: number[] = [];
  for (let i = 0; i < 16; i++) bytes.push(message[offset + i]! ^ message[MASK_OFFSET + i]!);
  return bytes;
}

/** As `formatIp()`, without an array: servers and NAT tests do this for every datagram. */
function formatIpv4(value: number): string {
  return `${value >>> 24}.${(value >>> 16) & 0xff}.${(value >>> 8) & 0xff}.${value & 0xff}`;
}

/** As `ipToBytes()`, without an array. */
function ipv4Number(ip: string): number {
  if (!IPV4.test(ip)) {
    throw new TypeError(`Cannot encode address: ${JSON.stringify(ip)} is not an IP address`);
  }
  let value = 0;
  let byte = 0;
  for (let i = 0; i < ip.length; i++) {
    const digit = ip.charCodeAt(i) - 0x30;
    if (digit >= 0) {
      byte = byte * 10 + digit;
    } else {
      value = value * 256 + byte;
      byte = 0;
    }
  }
  return value * 256 + byte;
}

/** RFC 8489 §5. */
export const HEADER_LENGTH = 20;
/** RFC 8489 §14. */
export const ATTRIBUTE_HEADER_LENGTH = 4;
/** RFC 8489 §5: distinguishes a message from one of RFC 3489, whose transaction ID has sixteen bytes. */
export const MAGIC_COOKIE = 0x2112_a442;
/** Chosen by us: twice as many as the largest message of STUN, TURN and ICE has. Each costs an object or two. */
const MAX_ATTRIBUTES = 64;

/** RFC 8489 §14: fewer than 128 characters, which can be as long as 763 bytes. */
export const MAX_TEXT_LENGTH = 763;

const IPV4 = /^(?:(?:\d|[1-9]\d|1\d\d|2[0-4]\d|25[0-5])(?:\.(?=\d)|$)){4}$/;

/** The offset of the magic cookie and the transaction ID, sixteen bytes. */
const MASK_OFFSET = 4;

/** RFC 8489 §14.1. */
const FAMILY_IPV4 = 0x01;
const FAMILY_IPV6 = 0x02;
const IPV4_LENGTH = 8;
const IPV6_LENGTH = 20;

const ENCODER = new TextEncoder();
