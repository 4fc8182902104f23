/**
 * Reading and writing big-endian fields with every length checked first.
 *
 * @module
 */

import { MalformedMessageError } from "./errors.ts";
import { Buffer } from "node:buffer";

/** Reads fields one after another; a field that does not fit throws an error that names it. */
export class ByteReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #what: string;
  #offset = 0;

  /**
   * @param bytes what to read; it is not copied
   * @param what names the thing being read in errors, e.g. `"MAPPED-ADDRESS"`
   */
  constructor(bytes: Uint8Array, what: string) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#what = what;
  }

  /** How many bytes have not been read yet. */
  get remaining(): number {
    return this.#bytes.length - this.#offset;
  }

  /** @throws {MalformedMessageError} if no byte is left */
  uint8(field: string): number {
    return this.#view.getUint8(this.#take(1, field));
  }

  /** @throws {MalformedMessageError} if fewer than two bytes are left */
  uint16(field: string): number {
    return this.#view.getUint16(this.#take(2, field));
  }

  /** @throws {MalformedMessageError} if fewer than four bytes are left */
  uint32(field: string): number {
    return this.#view.getUint32(this.#take(4, field));
  }

  /**
   * An owned copy of the next `length` bytes.
   *
   * @throws {MalformedMessageError} if fewer are left
   */
  bytes(length: number, field: string): Uint8Array<ArrayBuffer> {
    const start = this.#take(length, field);
    return this.#bytes.slice(start, start + length) as Uint8Array<ArrayBuffer>;
  }

  /**
   * Checks that everything was read.
   *
   * @throws {MalformedMessageError} if bytes are left
   */
  end(): void {
    if (this.remaining > 0) {
      throw new MalformedMessageError(
        `Cannot read ${this.#what}: ${this.remaining} bytes too many`,
      );
    }
  }

  #take(length: number, field: string): number {
    if (length > this.remaining) {
      throw new MalformedMessageError(
        `Cannot read ${this.#what}: ${field} needs ${length} bytes, ${this.remaining} are left`,
      );
    }
    const start = this.#offset;
    this.#offset += length;
    return start;
  }
}

/** The arrays joined in a new one. */
export function concat(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const joined = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    joined.set(part, offset);
    offset += part.length;
  }
  return joined;
}

/** Whether two arrays hold the same bytes. Not for secrets: the time it takes depends on them. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}

/** An array of this length that nobody else has, with anything in it: whoever takes it writes every byte. */
export function takeUnwritten(length: number): Uint8Array<ArrayBuffer> {
  const { buffer, byteOffset } = Buffer.allocUnsafe(length);
  return new Uint8Array(buffer as ArrayBuffer, byteOffset, length);
}

/** A copy of the bytes that nobody else has. */
export function copyOf(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const copy = takeUnwritten(bytes.length);
  copy.set(bytes);
  return copy;
}

/**
 * Gives memory back at once that nobody uses any more, if the bytes are all of it. With 64 KiB for each record, that
 * costs a fifth of what collecting it costs.
 */
export function release({ buffer, byteLength }: Uint8Array): void {
  const isWhole = buffer instanceof ArrayBuffer && buffer.byteLength === byteLength;
  if (isWhole && byteLength >= LARGE_LENGTH) buffer.transfer(0);
}

/** Lower-case hexadecimal digits, two a byte. */
export function toHex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Base64 of RFC 4648 §5, which stands unescaped in URLs and file names; without padding. */
export function toBase64url(bytes: Uint8Array): string {
  return bytes.toBase64({ alphabet: "base64url", omitPadding: true });
}

/** The bytes of a text in base64url, or `undefined` if it is none: each has one text, and that has no padding. */
export function fromBase64url(text: string): Uint8Array<ArrayBuffer> | undefined {
  if (!/^[A-Za-z0-9_-]*$/.test(text) || text.length % 4 === 1) return undefined;
  try {
    return Uint8Array.fromBase64(text + "=".repeat(-text.length & 3), {
      alphabet: "base64url",
      lastChunkHandling: "strict",
    });
  } catch { // bits that belong to no byte
    return undefined;
  }
}

/** Ours: what is smaller is collected at less than the cost of a call. */
const LARGE_LENGTH = 4096;
