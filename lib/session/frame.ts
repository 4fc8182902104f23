/**
 * What two ends of a session say to each other over a path: frames, one after another, each a type of one byte and what
 * belongs to it. All numbers are big-endian; offsets have 64 bits, of which 53 are used. `docs/session.md` has the table.
 *
 * @module
 */

import { MalformedMessageError } from "../base/errors.ts";
import type { TcpConnection } from "../net/network.ts";
import { MAX_SIGNAL_BYTES } from "../signal/channel.ts";

/** The version of this protocol, of which there is one. */
export const VERSION = 1;

/** What comes before the bytes of a DATA frame. */
export const DATA_HEADER_LENGTH = 3;

/** The longest DATA frame fills a record of a secured connection. */
export const MAX_DATA_FRAME_LENGTH = 65_519;

/** How many bytes of the stream a DATA frame has at most. */
export const MAX_DATA_LENGTH = MAX_DATA_FRAME_LENGTH - DATA_HEADER_LENGTH;

/** The longest frame that has to be there as a whole before it can be read. */
export const MAX_WHOLE_FRAME_LENGTH = 3 + MAX_SIGNAL_BYTES;

/** How many bytes either side may send before it has heard how many: 64 KiB. */
export const INITIAL_LIMIT = 65_536;

/** A frame. The bytes of a DATA frame follow it, and are not part of it. */
export type Frame =
  | {
    readonly kind: "hello";
    readonly version: number;
    /** The number of the path. */
    readonly generation: number;
    readonly received: number;
    readonly limit: number;
  }
  /** From here on the stream runs over this path, beginning with this offset. */
  | { readonly kind: "start"; readonly offset: number }
  | {
    readonly kind: "ack";
    /** How much of the other side's stream is here, in order; its end counts as one more byte. */
    readonly received: number;
    /** Up to which offset the other side may send. */
    readonly limit: number;
  }
  | { readonly kind: "data"; readonly length: number }
  /** The stream has ended, and is so long. */
  | { readonly kind: "fin"; readonly offset: number }
  | { readonly kind: "ping"; readonly token: number }
  | { readonly kind: "pong"; readonly token: number }
  | { readonly kind: "message"; readonly message: Uint8Array }
  /** The sender needs nothing more. */
  | { readonly kind: "done" }
  /** The session has ended, and not as it should. */
  | { readonly kind: "reset" };

/** A frame that is not DATA, as bytes. */
export function encodeFrame(frame: Exclude<Frame, { kind: "data" }>): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(encodedLength(frame));
  const view = new DataView(bytes.buffer);
  bytes[0] = TYPES[frame.kind];
  switch (frame.kind) {
    case "hello":
      bytes[1] = frame.version;
      view.setUint32(2, frame.generation);
      setOffset(view, 6, frame.received);
      setOffset(view, 14, frame.limit);
      break;
    case "ack":
      setOffset(view, 1, frame.received);
      setOffset(view, 9, frame.limit);
      break;
    case "start":
    case "fin":
      setOffset(view, 1, frame.offset);
      break;
    case "ping":
    case "pong":
      view.setUint32(1, frame.token);
      break;
    case "message":
      view.setUint16(1, frame.message.length);
      bytes.set(frame.message, 3);
  }
  return bytes;
}

/** Puts the header of a DATA frame at a place of the target. */
export function writeDataHeader(target: Uint8Array, at: number, length: number): void {
  target[at] = TYPES.data;
  target[at + 1] = length >> 8;
  target[at + 2] = length & 0xff;
}

/** The length in the header of a DATA frame. */
export function readDataLength(source: Uint8Array, at: number): number {
  return source[at + 1]! << 8 | source[at + 2]!;
}

/**
 * The frame at the start of the bytes, and its length; `undefined` if not all of it is there.
 *
 * @throws {MalformedMessageError} if there is no such frame
 */
export function decodeFrame(bytes: Uint8Array): { frame: Frame; length: number } | undefined {
  if (bytes.length === 0) return undefined;
  const kind = KINDS[bytes[0]!];
  if (kind === undefined) throw malformed(`type ${bytes[0]} is unknown`);
  const fixedLength = LENGTHS[kind];
  if (bytes.length < fixedLength) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  switch (kind) {
    case "data": {
      const length = readDataLength(bytes, 0);
      if (length === 0 || length > MAX_DATA_LENGTH) throw malformed(`data of ${length} bytes`);
      return { frame: { kind, length }, length: fixedLength };
    }
    case "message": {
      const length = view.getUint16(1);
      if (length > MAX_SIGNAL_BYTES) throw malformed(`a message of ${length} bytes`);
      if (bytes.length < fixedLength + length) return undefined;
      const message = new Uint8Array(bytes.subarray(fixedLength, fixedLength + length));
      return { frame: { kind, message }, length: fixedLength + length };
    }
    default:
      return { frame: decodeFixed(kind, view), length: fixedLength };
  }
}

function decodeFixed(kind: Exclude<Frame["kind"], "data" | "message">, view: DataView): Frame {
  switch (kind) {
    case "hello":
      return {
        kind,
        version: view.getUint8(1),
        generation: view.getUint32(2),
        received: getOffset(view, 6, "received"),
        limit: getOffset(view, 14, "limit"),
      };
    case "ack":
      return {
        kind,
        received: getOffset(view, 1, "received"),
        limit: getOffset(view, 9, "limit"),
      };
    case "start":
    case "fin":
      return { kind, offset: getOffset(view, 1, "offset") };
    case "ping":
    case "pong":
      return { kind, token: view.getUint32(1) };
    case "done":
    case "reset":
      return { kind };
  }
}

function encodedLength(frame: Exclude<Frame, { kind: "data" }>): number {
  return LENGTHS[frame.kind] + (frame.kind === "message" ? frame.message.length : 0);
}

function setOffset(view: DataView, at: number, offset: number): void {
  view.setUint32(at, Math.floor(offset / 2 ** 32));
  view.setUint32(at + 4, offset % 2 ** 32);
}

function getOffset(view: DataView, at: number, field: string): number {
  const offset = view.getUint32(at) * 2 ** 32 + view.getUint32(at + 4);
  if (!Number.isSafeInteger(offset)) throw malformed(`${field} is over the limit of 2^53`);
  return offset;
}

function malformed(what: string): MalformedMessageError {
  return new MalformedMessageError(`Cannot read a frame of a session: ${what}`);
}

const TYPES = {
  hello: 1,
  start: 2,
  ack: 3,
  data: 4,
  fin: 5,
  ping: 6,
  pong: 7,
  message: 8,
  done: 9,
  reset: 10,
} as const;

/** By their types. */
const KINDS: readonly (Frame["kind"] | undefined)[] = [
  undefined,
  ...Object.keys(TYPES) as Frame["kind"][],
];

/** Of what comes before the bytes of a DATA frame or a message, and of all other frames as a whole. */
const LENGTHS: Readonly<Record<Frame["kind"], number>> = {
  hello: 22,
  start: 9,
  ack: 17,
  data: DATA_HEADER_LENGTH,
  fin: 9,
  ping: 5,
  pong: 5,
  message: 3,
  done: 1,
  reset: 1,
};

/** Reads a connection into a buffer, which is small until much comes. */
export class FrameReader {
  readonly #connection: TcpConnection;
  #buffer = new Uint8Array(SMALL_BUFFER_LENGTH);
  #start = 0;
  #end = 0;
  /** How much is to come of a DATA frame. */
  #dataLeft = 0;

  /** @param connection which nobody else reads */
  constructor(connection: TcpConnection) {
    this.#connection = connection;
  }

  /**
   * Reads what is there; `false` at the end of the stream.
   *
   * @throws what the connection fails with
   */
  async fill(): Promise<boolean> {
    this.#makeRoom();
    const length = await this.#connection.read(this.#buffer.subarray(this.#end));
    this.#end += length ?? 0;
    return length !== null;
  }

  /**
   * The next frame that is not DATA, or the next bytes of one that is, in memory that is used again; `undefined` if
   * there is none of all that was read.
   *
   * @throws {MalformedMessageError} if there is something else
   */
  next(): Exclude<Frame, { kind: "data" }> | Uint8Array | undefined {
    if (this.#dataLeft > 0) return this.#nextData();
    const decoded = decodeFrame(this.#buffer.subarray(this.#start, this.#end));
    if (decoded === undefined) return undefined;
    this.#start += decoded.length;
    if (decoded.frame.kind !== "data") return decoded.frame;
    this.#dataLeft = decoded.frame.length;
    return this.#nextData();
  }

  /** Forgets what was read. */
  clear(): void {
    this.#start = this.#end = 0;
  }

  #nextData(): Uint8Array | undefined {
    const data = this.#buffer.subarray(
      this.#start,
      Math.min(this.#end, this.#start + this.#dataLeft),
    );
    this.#start += data.length;
    this.#dataLeft -= data.length;
    return data.length > 0 ? data : undefined;
  }

  /** What is left is less than a frame, and goes to the front. */
  #makeRoom(): void {
    const isFull = this.#end === this.#buffer.length;
    const source = this.#buffer;
    if (isFull && source.length < BUFFER_LENGTH) this.#buffer = new Uint8Array(BUFFER_LENGTH);
    this.#buffer.set(source.subarray(this.#start, this.#end));
    this.#end -= this.#start;
    this.#start = 0;
  }
}

/** Ours: small messages and acknowledgements need no more. */
const SMALL_BUFFER_LENGTH = MAX_WHOLE_FRAME_LENGTH;

/** Ours: a full record. */
const BUFFER_LENGTH = 65_536;
