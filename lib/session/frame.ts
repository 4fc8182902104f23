/**
 * The frames of a session, and those of the streams that share it: a type of one byte, then the fields of that type.
 * Numbers are big-endian; offsets have 64 bits, of which 53 are used. The frames of streams follow each other in the
 * session's own stream, which loses and repeats nothing. `docs/session.md` has the tables.
 *
 * @module
 */

import { concat, partOf } from "../base/bytes.ts";
import { malformed } from "../base/errors.ts";
import { MAX_SIGNAL_BYTES } from "../signal/channel.ts";

/** The version of this protocol: 2 since streams share a session. */
export const SESSION_VERSION = 2;

/** The length of a DATA frame without its bytes of the stream. */
export const DATA_HEADER_LENGTH = 3;

/** The length of the longest DATA frame, which fills a record of a secured connection. */
export const MAX_DATA_FRAME_LENGTH = 65_519;

/** How many bytes of the stream a DATA frame carries at most. */
export const MAX_DATA_LENGTH = MAX_DATA_FRAME_LENGTH - DATA_HEADER_LENGTH;

/** How many bytes each side may send before the other has set a limit: 64 KiB. */
export const INITIAL_LIMIT = 65_536;

/** A frame. The bytes of the stream follow a DATA frame, and are not part of it. */
export type SessionFrame =
  | {
    readonly kind: "hello";
    readonly version: number;
    /** The number that the controlling side gave the path. */
    readonly pathNumber: number;
    readonly received: number;
    readonly limit: number;
  }
  /** From here on the stream runs over this path, starting at this offset. */
  | { readonly kind: "start"; readonly offset: number }
  | {
    readonly kind: "ack";
    /** How much of the other side's stream has arrived, in order; its end counts as one more byte. */
    readonly received: number;
    /** The offset up to which the other side may send. */
    readonly limit: number;
  }
  | { readonly kind: "data"; readonly length: number }
  /** The stream ends at this offset. */
  | { readonly kind: "fin"; readonly offset: number }
  | { readonly kind: "ping"; readonly token: number }
  | { readonly kind: "pong"; readonly token: number }
  | { readonly kind: "message"; readonly message: Uint8Array }
  /** Both streams have ended, and the sender needs nothing more. */
  | { readonly kind: "done" }
  /** The session has ended abnormally. */
  | { readonly kind: "reset" }
  /** The same, and the application says why: a code of its own, from 1. */
  | { readonly kind: "abort"; readonly code: number };

/** Every frame but DATA. */
export type ControlFrame = Exclude<SessionFrame, { kind: "data" }>;

/** Encodes a control frame. */
export function encodeSessionFrame(frame: ControlFrame): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(encodedLength(frame));
  const view = new DataView(bytes.buffer);
  bytes[0] = TYPES[frame.kind];
  switch (frame.kind) {
    case "hello":
      bytes[1] = frame.version;
      view.setUint32(2, frame.pathNumber);
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
    case "abort":
      view.setUint16(1, frame.code);
      break;
    case "message":
      view.setUint16(1, frame.message.length);
      bytes.set(frame.message, 3);
  }
  return bytes;
}

/** Writes the header of a DATA frame into `target`, at the offset `at`. */
export function writeDataHeader(target: Uint8Array, at: number, length: number): void {
  target[at] = TYPES.data;
  target[at + 1] = length >> 8;
  target[at + 2] = length & 0xff;
}

/** Reads the length from the header of a DATA frame. */
export function readDataLength(source: Uint8Array, at: number): number {
  return source[at + 1]! << 8 | source[at + 2]!;
}

/**
 * Decodes the frame at the start of the bytes.
 *
 * @returns the frame and its length, or `undefined` if it is not complete
 * @throws {MalformedMessageError} if the type or a field is invalid
 */
export function decodeSessionFrame(
  bytes: Uint8Array,
): { frame: SessionFrame; length: number } | undefined {
  if (bytes.length === 0) return undefined;
  const kind = KINDS[bytes[0]!];
  if (kind === undefined) throw malformed(WHAT, `type ${bytes[0]} is unknown`);
  const fixedLength = LENGTHS[kind];
  if (bytes.length < fixedLength) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  switch (kind) {
    case "data": {
      const length = checkDataLength(readDataLength(bytes, 0));
      return { frame: { kind, length }, length: fixedLength };
    }
    case "message": {
      const length = view.getUint16(1);
      if (length > MAX_SIGNAL_BYTES) throw malformed(WHAT, `MESSAGE has ${length} bytes`);
      if (bytes.length < fixedLength + length) return undefined;
      const message = new Uint8Array(bytes.subarray(fixedLength, fixedLength + length));
      return { frame: { kind, message }, length: fixedLength + length };
    }
    default:
      return { frame: decodeFixed(kind, view), length: fixedLength };
  }
}

/** Splits what a connection delivers, in chunks of any length, into frames. */
export class SessionFrameReader {
  /** What was received and not returned: of the last chunk, or the beginning of a frame of which the rest is to come. */
  #unread: Uint8Array = NOTHING;
  /** How many bytes of the current DATA frame are still to be delivered. */
  #dataLeft = 0;

  /** Takes the next chunk, after {@linkcode SessionFrameReader.next} has returned `undefined`. */
  push(chunk: Uint8Array): void {
    this.#unread = this.#unread.length === 0 ? chunk : concat(this.#unread, chunk);
  }

  /**
   * The next control frame, or the next bytes of a DATA frame, in the memory of the chunk.
   *
   * @returns `undefined` if nothing more is there; the chunk is not needed any more then
   * @throws {MalformedMessageError} if there is anything else
   */
  next(): ControlFrame | Uint8Array | undefined {
    if (this.#unread.length === 0) return undefined;
    if (this.#dataLeft > 0) return this.#takeData(0);
    if (this.#unread[0] === TYPES.data && this.#unread.length > DATA_HEADER_LENGTH) {
      this.#dataLeft = checkDataLength(readDataLength(this.#unread, 0));
      return this.#takeData(DATA_HEADER_LENGTH);
    }
    const decoded = decodeSessionFrame(this.#unread);
    if (decoded === undefined) {
      this.#unread = this.#unread.slice();
      return undefined;
    }
    this.#unread = partOf(this.#unread, decoded.length);
    if (decoded.frame.kind !== "data") return decoded.frame;
    this.#dataLeft = decoded.frame.length;
    return undefined; // the chunk ends with its header
  }

  #takeData(start: number): Uint8Array {
    const data = partOf(this.#unread, start, start + this.#dataLeft);
    this.#unread = partOf(this.#unread, start + data.length);
    this.#dataLeft -= data.length;
    return data;
  }
}

/**
 * Checks the code of an ABORT.
 *
 * @throws {RangeError} if it is not from 1 to 65,535
 */
export function checkResetCode(code: number): void {
  if (Number.isInteger(code) && code >= 1 && code <= 0xffff) return;
  throw new RangeError(`Cannot reset: code ${code} is not from 1 to 65535`);
}

/** The stream that a session has from the start. */
export const FIRST_STREAM = 0;

/** The length of the longest frame without data. */
export const MAX_STREAM_FRAME_LENGTH = 13;

/** The length of a DATA frame without its data. */
export const STREAM_DATA_HEADER_LENGTH = 7;

/** How many bytes a DATA frame carries at most: what most programs write at once. */
export const MAX_STREAM_DATA_LENGTH = 65_536;

/** A frame. The data follows a DATA frame, and is not part of it. */
export type StreamFrame =
  /** A stream begins. */
  | { readonly kind: "open"; readonly id: number }
  | { readonly kind: "data"; readonly id: number; readonly length: number }
  /** The offset up to which the receiver of the frame may send on this stream. */
  | { readonly kind: "window"; readonly id: number; readonly limit: number }
  /** The sender writes no more to this stream. */
  | { readonly kind: "end"; readonly id: number }
  /** The stream has ended abnormally, in both directions; 0 if the sender gives no reason. */
  | { readonly kind: "reset"; readonly id: number; readonly code: number };

/** Encodes a frame; of DATA, its header. */
export function encodeStreamFrame(frame: StreamFrame): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(STREAM_LENGTHS[frame.kind]);
  const view = new DataView(bytes.buffer);
  bytes[0] = STREAM_TYPES[frame.kind];
  view.setUint32(1, frame.id);
  if (frame.kind === "data") view.setUint16(5, frame.length - 1);
  else if (frame.kind === "reset") view.setUint16(5, frame.code);
  else if (frame.kind === "window") {
    view.setUint32(5, Math.floor(frame.limit / 2 ** 32));
    view.setUint32(9, frame.limit % 2 ** 32);
  }
  return bytes;
}

/** Writes the header of a DATA frame to the start of `target`: the same as encoding it, without an allocation. */
export function writeStreamDataHeader(target: Uint8Array, id: number, length: number): void {
  target[0] = STREAM_TYPES.data;
  target[1] = id >>> 24;
  target[2] = id >>> 16;
  target[3] = id >>> 8;
  target[4] = id;
  target[5] = (length - 1) >> 8;
  target[6] = length - 1;
}

/**
 * Decodes the frame at the start of the bytes.
 *
 * @returns the frame and its length, of DATA that of its header; or `undefined` if it is not complete
 * @throws {MalformedMessageError} if the type or a field is invalid
 */
export function decodeStreamFrame(
  bytes: Uint8Array,
): { frame: StreamFrame; length: number } | undefined {
  if (bytes.length === 0) return undefined;
  const kind = STREAM_KINDS[bytes[0]!];
  if (kind === undefined) throw malformed(STREAM_WHAT, `type ${bytes[0]} is unknown`);
  const length = STREAM_LENGTHS[kind];
  if (bytes.length < length) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return { frame: decodeStreamFields(kind, view), length };
}

/** Splits a stream of bytes, in pieces of any length, into frames and data. */
export class StreamFrameReader {
  readonly #onFrame: (frame: Exclude<StreamFrame, { kind: "data" }>) => void;
  readonly #onData: (id: number, data: Uint8Array) => void;
  /** The beginning of a frame of which the rest is still to come. */
  #partial: Uint8Array | undefined;
  /** The stream of the current DATA frame, and how much of its data is still to come. */
  #dataId = 0;
  #dataLeft = 0;

  /**
   * @param onFrame called for each frame but DATA
   * @param onData called for each piece of data, which lies in memory of the caller
   */
  constructor(
    onFrame: (frame: Exclude<StreamFrame, { kind: "data" }>) => void,
    onData: (id: number, data: Uint8Array) => void,
  ) {
    this.#onFrame = onFrame;
    this.#onData = onData;
  }

  /**
   * Takes the next piece.
   *
   * @throws {MalformedMessageError} if it is not what a frame may be
   */
  push(bytes: Uint8Array): void {
    for (let rest = bytes; rest.length > 0;) {
      if (this.#dataLeft === 0) {
        rest = this.#takeDataHeader(rest) ?? this.#takeFrame(rest);
        continue;
      }
      const data = partOf(rest, 0, this.#dataLeft);
      rest = partOf(rest, data.length);
      this.#dataLeft -= data.length;
      this.#onData(this.#dataId, data);
    }
  }

  /** What most frames begin with, if it is there as a whole. */
  #takeDataHeader(bytes: Uint8Array): Uint8Array | undefined {
    if (this.#partial !== undefined || bytes.length < STREAM_DATA_HEADER_LENGTH) return undefined;
    if (bytes[0] !== STREAM_TYPES.data) return undefined;
    this.#dataId = (bytes[1]! << 24 | bytes[2]! << 16 | bytes[3]! << 8 | bytes[4]!) >>> 0;
    this.#dataLeft = (bytes[5]! << 8 | bytes[6]!) + 1;
    return bytes.subarray(STREAM_DATA_HEADER_LENGTH);
  }

  #takeFrame(bytes: Uint8Array): Uint8Array {
    const known = this.#partial?.length ?? 0;
    let head = bytes;
    if (this.#partial !== undefined) {
      head = new Uint8Array(Math.min(MAX_STREAM_FRAME_LENGTH, known + bytes.length));
      head.set(this.#partial);
      head.set(bytes.subarray(0, head.length - known), known);
    }
    const decoded = decodeStreamFrame(head);
    if (decoded === undefined) {
      this.#partial = head.slice();
      return NOTHING;
    }
    this.#partial = undefined;
    const { frame, length } = decoded;
    if (frame.kind === "data") [this.#dataId, this.#dataLeft] = [frame.id, frame.length];
    else this.#onFrame(frame);
    return bytes.subarray(length - known);
  }
}

function checkDataLength(length: number): number {
  if (length > 0 && length <= MAX_DATA_LENGTH) return length;
  throw malformed(WHAT, `DATA has ${length} bytes`);
}

function decodeFixed(
  kind: Exclude<SessionFrame["kind"], "data" | "message">,
  view: DataView,
): SessionFrame {
  switch (kind) {
    case "hello":
      return {
        kind,
        version: view.getUint8(1),
        pathNumber: view.getUint32(2),
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
    case "abort":
      return { kind, code: view.getUint16(1) };
    case "done":
    case "reset":
      return { kind };
  }
}

function encodedLength(frame: ControlFrame): number {
  return LENGTHS[frame.kind] + (frame.kind === "message" ? frame.message.length : 0);
}

function setOffset(view: DataView, at: number, offset: number): void {
  view.setUint32(at, Math.floor(offset / 2 ** 32));
  view.setUint32(at + 4, offset % 2 ** 32);
}

function getOffset(view: DataView, at: number, field: string): number {
  const offset = view.getUint32(at) * 2 ** 32 + view.getUint32(at + 4);
  if (!Number.isSafeInteger(offset)) throw malformed(WHAT, `${field} is not below 2^53`);
  return offset;
}

function decodeStreamFields(kind: StreamFrame["kind"], view: DataView): StreamFrame {
  const id = view.getUint32(1);
  switch (kind) {
    case "open":
    case "end":
      return { kind, id };
    case "reset":
      return { kind, id, code: view.getUint16(5) };
    case "data":
      return { kind, id, length: view.getUint16(5) + 1 };
    case "window": {
      const limit = view.getUint32(5) * 2 ** 32 + view.getUint32(9);
      if (!Number.isSafeInteger(limit)) throw malformed(STREAM_WHAT, "limit is not below 2^53");
      return { kind, id, limit };
    }
  }
}

const WHAT = "session frame";

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
  abort: 11,
} as const;

/** The kind of each type. */
const KINDS: readonly (SessionFrame["kind"] | undefined)[] = [
  undefined,
  ...Object.keys(TYPES) as SessionFrame["kind"][],
];

/** The lengths of whole frames; of DATA and MESSAGE without their variable part. */
const LENGTHS: Readonly<Record<SessionFrame["kind"], number>> = {
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
  abort: 3,
};

const STREAM_WHAT = "stream frame";

const NOTHING = new Uint8Array(0);

const STREAM_TYPES = { open: 1, data: 2, window: 3, end: 4, reset: 5 } as const;

/** The kind of each type. */
const STREAM_KINDS: readonly (StreamFrame["kind"] | undefined)[] = [
  undefined,
  ...Object.keys(STREAM_TYPES) as StreamFrame["kind"][],
];

const STREAM_LENGTHS: Readonly<Record<StreamFrame["kind"], number>> = {
  open: 5,
  data: STREAM_DATA_HEADER_LENGTH,
  window: MAX_STREAM_FRAME_LENGTH,
  end: 5,
  reset: 7,
};
