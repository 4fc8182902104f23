/**
 * The frames of the streams that share a session: a type of one byte, the number of the stream, and the fields of that
 * type. They are written one after another into the session's own stream, which loses and repeats nothing.
 * `docs/session.md` has the table.
 *
 * @module
 */

import { malformed } from "../base/errors.ts";

/** The stream that a session has from the start. */
export const FIRST_STREAM = 0;

/** The length of the longest frame without data. */
export const MAX_STREAM_FRAME_LENGTH = 13;

/** The length of a DATA frame without its data. */
export const STREAM_DATA_HEADER_LENGTH = 7;

/** How many bytes a DATA frame carries at most. */
export const MAX_STREAM_DATA_LENGTH = 65_535;

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
  const bytes = new Uint8Array(LENGTHS[frame.kind]);
  const view = new DataView(bytes.buffer);
  bytes[0] = TYPES[frame.kind];
  view.setUint32(1, frame.id);
  if (frame.kind === "data") view.setUint16(5, frame.length);
  else if (frame.kind === "reset") view.setUint16(5, frame.code);
  else if (frame.kind === "window") {
    view.setUint32(5, Math.floor(frame.limit / 2 ** 32));
    view.setUint32(9, frame.limit % 2 ** 32);
  }
  return bytes;
}

/** Writes the header of a DATA frame to the start of `target`: the same as encoding it, without an allocation. */
export function writeStreamDataHeader(target: Uint8Array, id: number, length: number): void {
  target[0] = TYPES.data;
  target[1] = id >>> 24;
  target[2] = id >>> 16;
  target[3] = id >>> 8;
  target[4] = id;
  target[5] = length >> 8;
  target[6] = length;
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
  const kind = KINDS[bytes[0]!];
  if (kind === undefined) throw malformed(WHAT, `type ${bytes[0]} is unknown`);
  const length = LENGTHS[kind];
  if (bytes.length < length) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return { frame: decodeFields(kind, view), length };
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
      const data = rest.subarray(0, this.#dataLeft);
      rest = rest.subarray(data.length);
      this.#dataLeft -= data.length;
      this.#onData(this.#dataId, data);
    }
  }

  /** What most frames begin with, if it is there as a whole. */
  #takeDataHeader(bytes: Uint8Array): Uint8Array | undefined {
    if (this.#partial !== undefined || bytes.length < STREAM_DATA_HEADER_LENGTH) return undefined;
    if (bytes[0] !== TYPES.data) return undefined;
    const length = bytes[5]! << 8 | bytes[6]!;
    if (length === 0) return undefined; // an error
    this.#dataId = (bytes[1]! << 24 | bytes[2]! << 16 | bytes[3]! << 8 | bytes[4]!) >>> 0;
    this.#dataLeft = length;
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

function decodeFields(kind: StreamFrame["kind"], view: DataView): StreamFrame {
  const id = view.getUint32(1);
  switch (kind) {
    case "open":
    case "end":
      return { kind, id };
    case "reset":
      return { kind, id, code: view.getUint16(5) };
    case "data": {
      const length = view.getUint16(5);
      if (length === 0) throw malformed(WHAT, "DATA has 0 bytes");
      return { kind, id, length };
    }
    case "window": {
      const limit = view.getUint32(5) * 2 ** 32 + view.getUint32(9);
      if (!Number.isSafeInteger(limit)) throw malformed(WHAT, "limit is not below 2^53");
      return { kind, id, limit };
    }
  }
}

const WHAT = "stream frame";

const NOTHING = new Uint8Array(0);

const TYPES = { open: 1, data: 2, window: 3, end: 4, reset: 5 } as const;

/** The kind of each type. */
const KINDS: readonly (StreamFrame["kind"] | undefined)[] = [
  undefined,
  ...Object.keys(TYPES) as StreamFrame["kind"][],
];

const LENGTHS: Readonly<Record<StreamFrame["kind"], number>> = {
  open: 5,
  data: STREAM_DATA_HEADER_LENGTH,
  window: MAX_STREAM_FRAME_LENGTH,
  end: 5,
  reset: 7,
};
