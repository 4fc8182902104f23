/**
 * Memory for a part of the stream that is sent, in the form in which it is sent.
 *
 * @module
 */

import {
  DATA_HEADER_LENGTH,
  MAX_DATA_FRAME_LENGTH,
  readDataLength,
  writeDataHeader,
} from "./frame.ts";

/** DATA frames behind each other, so that they can be written in one piece, and again over another path. */
export class SendBlock {
  /** The offset of the first byte in it. */
  readonly start: number;
  /** The offset after the last byte in it. */
  end: number;
  /** How many writes are under way that read its memory. */
  writes = 0;
  readonly #bytes: Uint8Array;
  #length = 0;
  /** How much was taken for the path that there is now. */
  #taken = 0;
  /** Where the header of the last frame is; `undefined` once that can grow no more. */
  #openAt: number | undefined;

  /** @param bytes taken over; at most as long as the longest frame */
  constructor(bytes: Uint8Array, start: number) {
    this.#bytes = bytes;
    this.start = this.end = start;
  }

  /** How many more bytes of the stream find room. */
  get room(): number {
    const header = this.#openAt === undefined ? DATA_HEADER_LENGTH : 0;
    return Math.max(0, this.#bytes.length - this.#length - header);
  }

  /** Whether {@linkcode SendBlock.take} has something. */
  get hasUntaken(): boolean {
    return this.#taken < this.#length;
  }

  /** @param data no longer than there is room */
  append(data: Uint8Array): void {
    if (this.#openAt === undefined) {
      this.#openAt = this.#length;
      this.#length += DATA_HEADER_LENGTH;
    }
    this.#bytes.set(data, this.#length);
    this.#length += data.length;
    this.end += data.length;
    const length = this.#length - this.#openAt - DATA_HEADER_LENGTH;
    writeDataHeader(this.#bytes, this.#openAt, length);
  }

  /** Whole frames: all that were not taken yet. */
  take(): Uint8Array {
    const frames = this.#bytes.subarray(this.#taken, this.#length);
    this.#taken = this.#length;
    this.#openAt = undefined;
    return frames;
  }

  /** Lets all be taken again, and changes nothing of it: writes to an earlier path may still read it. */
  rewind(): void {
    this.#taken = 0;
    this.#openAt = undefined;
  }

  /** A block with what is in this one from an offset on. */
  from(offset: number): SendBlock {
    const rest = new SendBlock(new Uint8Array(MAX_DATA_FRAME_LENGTH), offset);
    let position = this.start;
    for (let at = 0; at < this.#length;) {
      const dataAt = at + DATA_HEADER_LENGTH;
      const length = readDataLength(this.#bytes, at);
      const skipped = Math.max(0, offset - position);
      if (skipped < length) rest.append(this.#bytes.subarray(dataAt + skipped, dataAt + length));
      position += length;
      at = dataAt + length;
    }
    rest.rewind();
    return rest;
  }

  /** Its memory, for another block. */
  release(): Uint8Array | undefined {
    return this.writes === 0 ? this.#bytes : undefined;
  }
}
