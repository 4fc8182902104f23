/**
 * How values of STUN attributes are written: what a row of an attribute table is, and the simple kinds of
 * value.
 *
 * Values are written and read in place, in the message: XOR-MAPPED-ADDRESS depends on its header, and
 * making a `Uint8Array` costs more than all the rest of a small message.
 *
 * @module
 */

import { MalformedMessageError } from "../base/errors.ts";
import { readUint16, readUint32, writeUint16, writeUint32 } from "./codec.ts";

/** Writes and reads the value of one kind of attribute. */
export interface ValueCodec<V> {
  /**
   * How many bytes the value takes, without padding.
   *
   * @throws {RangeError} if the value does not fit the attribute
   */
  byteLength(value: V): number;
  /** Writes every byte of the value at `offset`. The header of the message is there already. */
  write(value: V, message: Uint8Array, offset: number): void;
  /**
   * Reads the value at `span`. Bytes in it may be views of the message.
   *
   * @throws {MalformedMessageError} if the bytes are not such a value
   */
  read(message: Uint8Array, span: ValueSpan): V;
}

/** Where a value stands in its message. */
export interface ValueSpan {
  /** The attribute's, for errors. */
  readonly name: string;
  readonly offset: number;
  /** Without padding. */
  readonly length: number;
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

/** Any bytes of a length from `minLength` to `maxLength`, both included. */
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

/** An unsigned number of 32 bits. */
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

/** Numbers of 16 bits, one after another. */
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
      throw new MalformedMessageError(`Cannot read ${name}: ${length} is an odd number of bytes`);
    }
    const values: number[] = [];
    for (let i = 0; i < length; i += 2) values.push(readUint16(message, offset + i));
    return values;
  },
};

/** @throws {MalformedMessageError} if the length of the value is not from `min` to `max` */
export function checkLength({ name, length }: ValueSpan, min: number, max: number): void {
  if (length >= min && length <= max) return;
  const range = min === max ? `${min}` : `${min} to ${max}`;
  throw new MalformedMessageError(`Cannot read ${name}: it has ${length} bytes, not ${range}`);
}

/** @throws {RangeError} if the value is not a whole number from 0 to `max` */
export function checkInteger(value: number, max: number): void {
  if (!Number.isInteger(value) || value < 0 || value > max) {
    throw new RangeError(`Cannot encode attribute: ${value} is not a whole number up to ${max}`);
  }
}
