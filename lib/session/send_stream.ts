/**
 * The sending half of a session's stream: keeps what is sent until the other side has it.
 *
 * @module
 */

import { MalformedMessageError } from "../base/errors.ts";
import {
  DATA_HEADER_LENGTH,
  encodeFrame,
  INITIAL_LIMIT,
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

/** Something to write to a path. */
export interface Outgoing {
  readonly bytes: Uint8Array;
  /** Called once the path has taken the bytes. */
  onWritten?(): void;
}

/** Takes writes, and gives out frames: each byte once for each path, and in order. */
export class SendStream {
  readonly #windowBytes: number;
  /** What the other side has not acknowledged. */
  readonly #blocks: SendBlock[] = [];
  /** The first block of which something is to be taken. */
  #cursor = 0;
  /** Of the stream, as far as it was written to blocks. */
  #end = 0;
  /** Up to where it was taken for the path that there is now. */
  #position = 0;
  /** Up to where it was ever taken; the end of the stream counts as one more byte. */
  #mostTaken = 0;
  #acknowledged = 0;
  #limit = INITIAL_LIMIT;
  #isFinTaken = false;
  #ending: PromiseWithResolvers<void> | undefined;
  /** What has found no room. */
  readonly #waiting: Write[] = [];
  #spare: Uint8Array[] = [];
  #failure: { readonly reason: unknown } | undefined;

  /** @param windowBytes how much may be under way at most, whatever the other side allows */
  constructor(windowBytes: number) {
    this.#windowBytes = windowBytes;
  }

  /** What the other side has for sure. */
  get acknowledged(): number {
    return this.#acknowledged;
  }

  /** Whether the other side has yet to acknowledge something that went out. */
  get isOwed(): boolean {
    return this.#acknowledged < this.#mostTaken;
  }

  /** How much it would take to send all that was not acknowledged. */
  get unacknowledged(): number {
    return this.#end - Math.min(this.#end, this.#acknowledged);
  }

  /** Whether the other side has all of the stream, and its end. */
  get isFinished(): boolean {
    return this.#ending !== undefined && this.#acknowledged > this.#end &&
      this.#waiting.length === 0;
  }

  /**
   * Takes as much as there is room for; what is left waits.
   *
   * @returns `undefined` if all was taken, or what resolves when it is
   * @throws {TypeError} after the end
   */
  write(data: Uint8Array): Promise<void> | undefined {
    if (this.#failure !== undefined) throw this.#failure.reason;
    if (this.#ending !== undefined) throw new TypeError("Cannot write: the stream was ended");
    const rest = this.#waiting.length === 0 ? this.#append(data) : data;
    if (rest.length === 0) return undefined;
    return new Promise<void>((resolve, reject) => this.#waiting.push({ rest, resolve, reject }));
  }

  /** Ends the stream after what was written; resolves once that is on its way. */
  end(): Promise<void> {
    if (this.#ending === undefined) {
      this.#ending = Promise.withResolvers();
      this.#ending.promise.catch(() => {}); // whoever waits for it is told; nobody may
      if (this.#failure !== undefined) this.#ending.reject(this.#failure.reason);
    }
    return this.#ending.promise;
  }

  /** Makes the writes fail that wait; what was taken is still sent. */
  dropWaiting(reason: unknown): void {
    for (const write of this.#waiting.splice(0)) write.reject(reason);
  }

  /** Makes all fail that waits or comes, and forgets the stream. */
  fail(reason: unknown): void {
    this.#failure ??= { reason };
    this.dropWaiting(this.#failure.reason);
    this.#ending?.reject(this.#failure.reason);
    this.#blocks.length = this.#spare.length = this.#cursor = 0;
  }

  /**
   * The other side has so much.
   *
   * @throws {MalformedMessageError} if it was never sent so much
   */
  acknowledge(received: number, limit: number): void {
    if (received > this.#mostTaken) {
      throw new MalformedMessageError(
        `Cannot go on: ${received} bytes are acknowledged, of ${this.#mostTaken} that were sent`,
      );
    }
    this.#limit = Math.max(this.#limit, limit);
    this.#acknowledged = Math.max(this.#acknowledged, received);
    this.#position = Math.max(this.#position, Math.min(this.#acknowledged, this.#end));
    let first = this.#blocks[0];
    while (first !== undefined && first.end <= this.#acknowledged && !first.hasUntaken) {
      this.#blocks.shift();
      this.#cursor--;
      this.#keep(first.release());
      first = this.#blocks[0];
    }
    if (first === undefined) this.#spare.length = Math.min(this.#spare.length, MAX_IDLE_SPARE);
    this.#appendWaiting();
  }

  /** Begins anew, for another path, with what was not acknowledged; the offset of that. */
  rewind(): number {
    const offset = this.#acknowledged;
    while (this.#blocks[0] !== undefined && this.#blocks[0].end <= offset) this.#blocks.shift();
    this.#blocks.forEach((block, index) => {
      if (block.start < offset) this.#blocks[index] = block.from(offset);
      else block.rewind();
    });
    this.#cursor = 0;
    this.#position = Math.min(offset, this.#end);
    this.#isFinTaken = offset > this.#end;
    return offset;
  }

  /** What goes out next. */
  next(): Outgoing | undefined {
    if (this.#failure !== undefined) return undefined;
    const block = this.#blocks[this.#cursor];
    if (block?.hasUntaken) {
      const bytes = block.take();
      block.writes++;
      this.#position = block.end;
      this.#mostTaken = Math.max(this.#mostTaken, block.end);
      if (this.#cursor + 1 < this.#blocks.length) this.#cursor++;
      this.#appendWaiting();
      return { bytes, onWritten: () => void block.writes-- };
    }
    if (this.#ending === undefined || this.#isFinTaken || this.#waiting.length > 0) {
      return undefined;
    }
    this.#isFinTaken = true;
    this.#mostTaken = this.#end + 1;
    const ending = this.#ending;
    const bytes = encodeFrame({ kind: "fin", offset: this.#end });
    return { bytes, onWritten: () => ending.resolve() };
  }

  get #room(): number {
    const allowed = Math.min(this.#limit, this.#acknowledged + this.#windowBytes) - this.#end;
    return Math.max(0, Math.min(allowed, MAX_UNTAKEN - (this.#end - this.#position)));
  }

  /** What is left of the data. */
  #append(data: Uint8Array): Uint8Array {
    let rest = data.subarray(0, this.#room);
    const left = data.subarray(rest.length);
    while (rest.length > 0) {
      const block = this.#lastBlock(rest.length);
      const part = rest.subarray(0, block.room);
      block.append(part);
      this.#end += part.length;
      rest = rest.subarray(part.length);
    }
    return left;
  }

  #appendWaiting(): void {
    for (let first = this.#waiting[0]; first !== undefined; first = this.#waiting[0]) {
      first.rest = this.#append(first.rest);
      if (first.rest.length > 0) return;
      this.#waiting.shift();
      first.resolve();
    }
  }

  /** The last block if it has room, or a new one. */
  #lastBlock(length: number): SendBlock {
    const last = this.#blocks.at(-1);
    if (last !== undefined && last.room > 0) return last;
    const isSmall = length < SMALL_BLOCK_LENGTH / 2 && last?.hasUntaken !== true;
    const bytes = isSmall
      ? new Uint8Array(SMALL_BLOCK_LENGTH)
      : this.#spare.pop() ?? new Uint8Array(MAX_DATA_FRAME_LENGTH);
    const block = new SendBlock(bytes, this.#end);
    this.#blocks.push(block);
    this.#cursor = Math.max(0, this.#cursor);
    if (last !== undefined && !last.hasUntaken) this.#cursor = this.#blocks.length - 1;
    return block;
  }

  #keep(bytes: Uint8Array | undefined): void {
    const isFull = bytes?.length === MAX_DATA_FRAME_LENGTH;
    if (isFull && this.#spare.length < MAX_SPARE) this.#spare.push(bytes);
  }
}

interface Write {
  rest: Uint8Array;
  resolve(): void;
  reject(reason: unknown): void;
}

/** Ours: as much as waits for a path that is busy; two full records. */
const MAX_UNTAKEN = 2 * MAX_DATA_FRAME_LENGTH;

/** Ours: small messages need no more. */
const SMALL_BLOCK_LENGTH = 2048;

/** Ours: as many full records as are under way on a fast network. */
const MAX_SPARE = 16;

/** Ours: when nothing is under way. */
const MAX_IDLE_SPARE = 2;
