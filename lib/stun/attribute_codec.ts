/**
 * How values of STUN attributes are written: the kinds of value that the attribute tables are made of.
 *
 * @module
 */

import { ByteReader } from "../bytes.ts";
import { MalformedMessageError } from "../errors.ts";
import { formatIp, ipToBytes, type TransportAddress } from "../net/address.ts";

/** Writes and reads the value of one kind of attribute. */
export interface ValueCodec<V> {
  /**
   * @param mask bytes 4 to 19 of the message: the magic cookie and the transaction id
   * @throws {RangeError} if the value does not fit the attribute
   */
  encode(value: V, mask: Uint8Array): Uint8Array;
  /**
   * @param bytes the value without its padding; what is returned does not refer to them
   * @param mask bytes 4 to 19 of the message
   * @param name the attribute's, for errors
   * @throws {MalformedMessageError} if the bytes are not such a value
   */
  decode(bytes: Uint8Array, mask: Uint8Array, name: string): V;
}

/** A row of an attribute table: the number of an attribute type and how its value is written. */
export interface AttributeRow<V> {
  readonly code: number;
  readonly codec: ValueCodec<V>;
}

/** The rows of one specification, by the attribute's name in it. */
export type AttributeTable<Values> = {
  readonly [Name in keyof Values]: AttributeRow<Values[Name]>;
};

/** RFC 8489 §14: fewer than 128 characters, which can be as long as 763 bytes. */
export const MAX_TEXT_LENGTH = 763;

/** Any bytes of a length from `minLength` to `maxLength`, both included. */
export function opaque(minLength = 0, maxLength = MAX_VALUE_LENGTH): ValueCodec<Uint8Array> {
  return {
    encode(value) {
      if (value.length < minLength || value.length > maxLength) {
        throw new RangeError(
          `Cannot encode attribute: it takes ${minLength} to ${maxLength} bytes, not ${value.length}`,
        );
      }
      return value;
    },
    decode(bytes, _mask, name) {
      checkLength(bytes, minLength, maxLength, name);
      return bytes.slice();
    },
  };
}

/** UTF-8 that is compared or sent back, so it has to be exact. */
export function text(maxLength: number): ValueCodec<string> {
  return textCodec(maxLength, new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }));
}

/** UTF-8 for people: a server that writes Latin-1 is no reason to lose its answer. */
export function freeText(maxLength: number): ValueCodec<string> {
  return textCodec(maxLength, new TextDecoder("utf-8", { ignoreBOM: true }));
}

/** An unsigned number of 32 bits. */
export const uint32: ValueCodec<number> = {
  encode(value) {
    checkInteger(value, 0xffff_ffff);
    return Uint8Array.of(value >>> 24, value >>> 16, value >>> 8, value);
  },
  decode(bytes, _mask, name) {
    const reader = new ByteReader(bytes, name);
    const value = reader.uint32("value");
    reader.end();
    return value;
  },
};

/** Numbers of 16 bits, one after another. */
export const uint16List: ValueCodec<readonly number[]> = {
  encode(values) {
    const bytes = new Uint8Array(2 * values.length);
    for (const [i, value] of values.entries()) {
      checkInteger(value, 0xffff);
      bytes[2 * i] = value >> 8;
      bytes[2 * i + 1] = value;
    }
    return bytes;
  },
  decode(bytes, _mask, name) {
    const reader = new ByteReader(bytes, name);
    const values: number[] = [];
    while (reader.remaining > 0) values.push(reader.uint16("attribute type"));
    return values;
  },
};

/** An address as it is: RFC 8489 §14.1. */
export const transportAddress: ValueCodec<TransportAddress> = {
  encode: (address) => encodeAddress(address, NO_MASK),
  decode: (bytes, _mask, name) => decodeAddress(bytes, NO_MASK, name),
};

/** An address combined by exclusive or with cookie and transaction id, which rewriting NATs do not recognise: RFC 8489 §14.2. */
export const xorTransportAddress: ValueCodec<TransportAddress> = {
  encode: encodeAddress,
  decode: decodeAddress,
};

/** @throws {MalformedMessageError} if the length of the value is not in the range */
export function checkLength(bytes: Uint8Array, min: number, max: number, name: string): void {
  if (bytes.length >= min && bytes.length <= max) return;
  const range = min === max ? `${min}` : `${min} to ${max}`;
  throw new MalformedMessageError(
    `Cannot read ${name}: it has ${bytes.length} bytes, not ${range}`,
  );
}

/** @throws {RangeError} if the value is not a whole number from 0 to `max` */
export function checkInteger(value: number, max: number): void {
  if (!Number.isInteger(value) || value < 0 || value > max) {
    throw new RangeError(`Cannot encode attribute: ${value} is not a whole number up to ${max}`);
  }
}

function textCodec(maxLength: number, decoder: TextDecoder): ValueCodec<string> {
  return {
    encode(value) {
      const bytes = new TextEncoder().encode(value);
      if (bytes.length > maxLength) {
        throw new RangeError(
          `Cannot encode attribute: text of ${bytes.length} bytes is longer than ${maxLength}`,
        );
      }
      return bytes;
    },
    decode(bytes, _mask, name) {
      checkLength(bytes, 0, maxLength, name);
      try {
        return decoder.decode(bytes);
      } catch (cause) {
        throw new MalformedMessageError(`Cannot read ${name}: it is not UTF-8`, { cause });
      }
    },
  };
}

function encodeAddress({ ip, port }: TransportAddress, mask: Uint8Array): Uint8Array {
  checkInteger(port, 0xffff);
  const address = ipToBytes(ip);
  const bytes = new Uint8Array(4 + address.length);
  bytes[1] = address.length === 4 ? FAMILY_IPV4 : FAMILY_IPV6;
  bytes[2] = (port >> 8) ^ mask[0]!;
  bytes[3] = port ^ mask[1]!;
  for (let i = 0; i < address.length; i++) bytes[4 + i] = address[i]! ^ mask[i]!;
  return bytes;
}

function decodeAddress(bytes: Uint8Array, mask: Uint8Array, name: string): TransportAddress {
  const family = bytes[1];
  if (family !== FAMILY_IPV4 && family !== FAMILY_IPV6) {
    checkLength(bytes, 8, 20, name);
    throw new MalformedMessageError(`Cannot read ${name}: address family ${family} is unknown`);
  }
  const length = family === FAMILY_IPV4 ? 8 : 20;
  checkLength(bytes, length, length, name);
  const port = ((bytes[2]! ^ mask[0]!) << 8) | (bytes[3]! ^ mask[1]!);
  const address = bytes.slice(4);
  for (let i = 0; i < address.length; i++) address[i]! ^= mask[i]!;
  return { ip: formatIp(address), port };
}

const FAMILY_IPV4 = 1;
const FAMILY_IPV6 = 2;
const NO_MASK: Uint8Array = new Uint8Array(16);
const MAX_VALUE_LENGTH = 0xffff;
