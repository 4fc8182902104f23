/**
 * Byte arrays: reading big-endian fields with every length checked, joining, comparing, copying, queueing, and text encodings.
 *
 * @module
 */

import { malformed } from "./errors.ts";
import { Buffer } from "node:buffer";

/** Reads fields one after another. If a field does not fit, it throws an error that names the field. */
export class ByteReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #what: string;
  #offset = 0;

  /**
   * @param bytes the bytes to read; they are not copied
   * @param what the name of what is read, for errors, such as `"MAPPED-ADDRESS"`
   */
  constructor(bytes: Uint8Array, what: string) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#what = what;
  }

  /** The number of bytes that have not been read yet. */
  get remaining(): number {
    return this.#bytes.length - this.#offset;
  }

  /**
   * The next byte.
   *
   * @throws {MalformedMessageError} if no byte is left
   */
  uint8(field: string): number {
    return this.#view.getUint8(this.#take(1, field));
  }

  /**
   * The next two bytes as an unsigned number.
   *
   * @throws {MalformedMessageError} if fewer than two bytes are left
   */
  uint16(field: string): number {
    return this.#view.getUint16(this.#take(2, field));
  }

  /**
   * The next four bytes as an unsigned number.
   *
   * @throws {MalformedMessageError} if fewer than four bytes are left
   */
  uint32(field: string): number {
    return this.#view.getUint32(this.#take(4, field));
  }

  /**
   * A copy of the next `length` bytes.
   *
   * @throws {MalformedMessageError} if fewer are left
   */
  bytes(length: number, field: string): Uint8Array<ArrayBuffer> {
    const start = this.#take(length, field);
    return this.#bytes.slice(start, start + length) as Uint8Array<ArrayBuffer>;
  }

  /**
   * Checks that everything has been read.
   *
   * @throws {MalformedMessageError} if bytes are left
   */
  end(): void {
    if (this.remaining > 0) {
      throw malformed(this.#what, `${this.remaining} bytes too many`);
    }
  }

  #take(length: number, field: string): number {
    if (length > this.remaining) {
      throw malformed(
        this.#what,
        `${field} needs ${length} bytes, ${this.remaining} are left`,
      );
    }
    const start = this.#offset;
    this.#offset += length;
    return start;
  }
}

/** Joins arrays in a new one. */
export function concat(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const joined = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    joined.set(part, offset);
    offset += part.length;
  }
  return joined;
}

/** Whether two arrays hold the same bytes. Not for secrets: the time that it takes depends on the bytes. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}

/**
 * As `subarray()`, but returns the array itself for all of its bytes, and always the same one for no bytes: most messages
 * are small and passed on whole, and a view takes a hundred bytes.
 */
export function partOf(bytes: Uint8Array, start: number, end: number = bytes.length): Uint8Array {
  if (start === 0 && end >= bytes.length) return bytes;
  return start < end && start < bytes.length ? bytes.subarray(start, end) : NOTHING;
}

/** A new array with arbitrary contents, from a pool. The caller must write every byte. */
export function takeUnwritten(length: number): Uint8Array<ArrayBuffer> {
  const { buffer, byteOffset } = Buffer.allocUnsafe(length);
  return new Uint8Array(buffer as ArrayBuffer, byteOffset, length);
}

/** A copy of the bytes, in memory from a pool. */
export function copyOf(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const copy = takeUnwritten(bytes.length);
  copy.set(bytes);
  return copy;
}

/**
 * Frees the memory of an array that is no longer used, at once, if the array spans its whole buffer. For records of
 * 64 KiB this costs a fifth of what garbage collection costs.
 */
export function release({ buffer, byteLength }: Uint8Array): void {
  const isWhole = buffer instanceof ArrayBuffer && buffer.byteLength === byteLength;
  if (isWhole && byteLength >= LARGE_LENGTH) buffer.transfer(0);
}

/** Lower-case hexadecimal digits, two per byte. */
export function toHex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Base64url (RFC 4648 §5) without padding: safe in URLs and file names. */
export function toBase64url(bytes: Uint8Array): string {
  return bytes.toBase64({ alphabet: "base64url", omitPadding: true });
}

/** Decodes base64url. `undefined` if the text is not the canonical encoding, which has no padding. */
export function fromBase64url(text: string): Uint8Array<ArrayBuffer> | undefined {
  if (!/^[A-Za-z0-9_-]*$/.test(text) || text.length % 4 === 1) return undefined;
  try {
    return Uint8Array.fromBase64(text + "=".repeat(-text.length & 3), {
      alphabet: "base64url",
      lastChunkHandling: "strict",
    });
  } catch { // the last digit has stray bits
    return undefined;
  }
}

const NOTHING = new Uint8Array(0);

/** Chosen by us: collecting a smaller array costs less than the call. */
const LARGE_LENGTH = 4096;

/**
 * The value of JSON in UTF-8.
 *
 * @param what the kind of message, for the error, as for {@linkcode malformed}
 * @throws {MalformedMessageError} if the bytes are not JSON
 */
export function parseJson(bytes: Uint8Array, what: string): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    throw malformed(what, "it is not JSON", cause);
  }
}

/** As {@linkcode parseJson}, for an object. Its fields are not checked. */
export function parseJsonObject(bytes: Uint8Array, what: string): Record<string, unknown> {
  const value = parseJson(bytes, what);
  if (typeof value === "object" && value !== null) return value as Record<string, unknown>;
  throw malformed(what, "it is not a JSON object");
}

/** Bytes, first in, first out; uses about as much memory as there are bytes. */
export class ByteQueue {
  readonly #chunks: Chunk[] = [];
  /** The memory of a small chunk that was read, for reuse; that of large ones is shared, see {@linkcode SPARE_CHUNKS}. */
  #spare: Uint8Array | undefined;
  #length = 0;

  /** How many bytes are queued. */
  get length(): number {
    return this.#length;
  }

  /** Adds a copy of the bytes. */
  push(data: Uint8Array): void {
    for (let rest = data; rest.length > 0;) {
      const chunk = this.#lastChunk(rest.length);
      const part = rest.subarray(0, chunk.bytes.length - chunk.end);
      chunk.bytes.set(part, chunk.end);
      chunk.end += part.length;
      this.#length += part.length;
      rest = rest.subarray(part.length);
    }
  }

  /** Moves bytes to the start of the buffer; returns how many. */
  take(buffer: Uint8Array): number {
    let filled = 0;
    for (let first = this.#chunks[0]; first !== undefined; first = this.#chunks[0]) {
      const part = first.bytes.subarray(
        first.start,
        Math.min(first.end, first.start + buffer.length - filled),
      );
      buffer.set(part, filled);
      filled += part.length;
      first.start += part.length;
      if (first.start < first.end) break;
      this.#chunks.shift();
      this.#keep(first.bytes);
    }
    this.#length -= filled;
    return filled;
  }

  /** Gives back the memory that is kept for what arrives next. */
  rest(): void {
    this.#spare = undefined;
  }

  /** Discards everything. */
  clear(): void {
    this.#chunks.length = this.#length = 0;
    this.#spare = undefined;
  }

  #lastChunk(length: number): Chunk {
    const last = this.#chunks.at(-1);
    if (last !== undefined && last.end < last.bytes.length) return last;
    const doubled = Math.max(length, 2 * (last?.bytes.length ?? 0));
    const least = doubled <= SMALL_CHUNK_LENGTH
      ? SMALL_CHUNK_LENGTH
      : Math.min(CHUNK_LENGTH, 2 ** Math.ceil(Math.log2(doubled)));
    const bytes = this.#takeSpare(least) ?? new Uint8Array(least);
    const chunk = { bytes, start: 0, end: 0 };
    this.#chunks.push(chunk);
    return chunk;
  }

  #keep(bytes: Uint8Array): void {
    if (bytes.length < CHUNK_LENGTH) this.#spare = bytes;
    else if (SPARE_CHUNKS.length < MAX_SPARE) SPARE_CHUNKS.push(bytes);
  }

  #takeSpare(least: number): Uint8Array | undefined {
    if (least === CHUNK_LENGTH) return SPARE_CHUNKS.pop();
    const spare = this.#spare;
    this.#spare = undefined;
    return spare !== undefined && spare.length >= least ? spare : undefined;
  }
}

interface Chunk {
  readonly bytes: Uint8Array;
  start: number;
  end: number;
}

/** Chosen by us: a small message needs no more. */
const SMALL_CHUNK_LENGTH = 2048;

/** Chosen by us: as much as one read returns. */
const CHUNK_LENGTH = 65_536;

/** The memory of large chunks that were read, for all queues: a thousand idle ones must not keep some each. */
const SPARE_CHUNKS: Uint8Array[] = [];

/** Chosen by us: enough for eight fast paths, each of which reads four records at once. */
const MAX_SPARE = 32;
