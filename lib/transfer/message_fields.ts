/**
 * The fields of the messages of a transfer: numbers, texts, lists of items, and choices, each of which has a number.
 *
 * @module
 */

import { type ByteReader, concat } from "../base/bytes.ts";
import { malformed } from "../base/errors.ts";

/** All parts in one: they may be too many to pass to `concat()` as arguments. */
export function joined(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    bytes.set(part, offset);
    offset += part.length;
  }
  return bytes;
}

/** Reads items to the end: at least one. */
export function readAll<T>(reader: ByteReader, read: (reader: ByteReader) => T): T[] {
  const items = [read(reader)];
  while (reader.remaining > 0) items.push(read(reader));
  return items;
}

/**
 * Reads a count, and as many items.
 *
 * @param minBytes the least that an item takes, so that a false count cannot make this side allocate memory
 */
export function readCounted<T>(
  reader: ByteReader,
  minBytes: number,
  read: (reader: ByteReader) => T,
): T[] {
  const count = reader.uint32("count");
  if (count * minBytes > reader.remaining) {
    throw malformed("count", `${count} items do not fit into ${reader.remaining} bytes`);
  }
  return Array.from({ length: count }, () => read(reader));
}

/** A text with its length before it. */
export function encodeText(text: string): Uint8Array {
  const bytes = utf8(text);
  if (bytes.length > 0xffff) {
    throw new RangeError(`Cannot offer ${text}: its name has ${bytes.length} bytes`);
  }
  return concat(Uint8Array.of(bytes.length >> 8, bytes.length & 0xff), bytes);
}

/** Reads a text with its length before it. */
export function readText(reader: ByteReader, field: string): string {
  const bytes = reader.bytes(reader.uint16(`length of a ${field}`), field);
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw malformed(field, "it is not UTF-8", cause);
  }
}

/** Four bytes, big-endian. */
export function uint32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value);
  return bytes;
}

/** Reads eight bytes, big-endian, as far as a number can hold them. */
export function readUint64(reader: ByteReader, field: string): number {
  const value = reader.uint32(field) * 2 ** 32 + reader.uint32(field);
  if (Number.isSafeInteger(value)) return value;
  throw malformed(field, "it is over 2^53 - 1");
}

/** The choice that a number stands for. */
export function oneOf<T extends string>(choices: readonly T[], index: number, field: string): T {
  const found = choices[index];
  if (found !== undefined) return found;
  throw malformed(field, "it is unknown in this version");
}

/** A text without its length. */
export function utf8(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(text);
}
