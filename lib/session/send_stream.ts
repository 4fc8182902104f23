/**
 * The sending half of a session's stream: keeps data until the other side acknowledges it.
 *
 * @module
 */

import { MalformedMessageError } from "../base/errors.ts";
import { optionalResolvers } from "../base/tasks.ts";
import {
  DATA_HEADER_LENGTH,
  encodeSessionFrame,
  INITIAL_LIMIT,
  MAX_DATA_FRAME_LENGTH,
  readDataLength,
  writeDataHeader,
} from "./frame.ts";
import {
  FIRST_WINDOW_BYTES,
  UNLIMITED_WINDOWS,
  type Window,
  WindowGrowth,
} from "./receive_stream.ts";

/** Something to write to a path. */
export interface Outgoing {
  readonly bytes: Uint8Array;
  /** Called once the path has written the bytes. */
  onWritten?(): void;
}

/** What a {@linkcode SendStream} may know of its session. */
export interface SendStreamOptions {
  /** Called whenever there may be more room; it may write. */
  readonly onRoom?: () => void;
  /** As of {@linkcode WindowGrowth}. */
  readonly rttMs?: () => number | undefined;
}

/** Takes writes and returns frames: each byte once per path, in order. */
export class SendStream {
  readonly #maxWindowBytes: number;
  readonly #window: Window;
  /** The data that the other side has not acknowledged. */
  readonly #blocks: SendBlock[] = [];
  /** The first block with data to take. */
  #cursor = 0;
  /** The offset after the last byte in the blocks. */
  #end = 0;
  /** The offset up to which data was taken for the current path. */
  #position = 0;
  /** The offset up to which data was ever taken; the end of the stream counts as one more byte. */
  #mostTaken = 0;
  #acknowledged = 0;
  #limit = INITIAL_LIMIT;
  #isFinTaken = false;
  #ending: PromiseWithResolvers<void> | undefined;
  /** Writes for which there is no room. */
  readonly #waiting: WaitingWrite[] = [];
  #spare: Uint8Array[] = [];
  #failure: { readonly reason: unknown } | undefined;
  readonly #onRoom: (() => void) | undefined;
  readonly #growth: WindowGrowth;

  /**
   * @param maxWindowBytes how much may be in flight, even if the other side allows more
   * @param window where the memory for more than the least comes from
   */
  constructor(
    maxWindowBytes: number,
    window: Window = UNLIMITED_WINDOWS.open(),
    { onRoom, rttMs }: SendStreamOptions = {},
  ) {
    this.#maxWindowBytes = maxWindowBytes;
    this.#window = window;
    this.#onRoom = onRoom;
    this.#growth = new WindowGrowth(rttMs);
  }

  /** How many bytes a write takes at once. */
  get room(): number {
    const allowed = Math.min(this.#limit, this.#acknowledged + this.#windowBytes) - this.#end;
    return Math.max(0, Math.min(allowed, MAX_UNTAKEN - (this.#end - this.#position)));
  }

  /** Whether data was sent that the other side has not acknowledged. */
  get isAnswerDue(): boolean {
    return this.#acknowledged < this.#mostTaken;
  }

  /** How many bytes are acknowledged. */
  get acknowledged(): number {
    return this.#acknowledged;
  }

  /** How many bytes are not acknowledged. */
  get unacknowledged(): number {
    return this.#end - Math.min(this.#end, this.#acknowledged);
  }

  /** Whether the other side has acknowledged the whole stream and its end. */
  get isFinished(): boolean {
    return this.#ending !== undefined && this.#acknowledged > this.#end &&
      this.#waiting.length === 0;
  }

  /**
   * Takes as much as there is room for. The rest waits.
   *
   * @returns `undefined` if all was taken, or a promise that resolves when it is
   * @throws {TypeError} after {@linkcode SendStream.end}
   * @throws the reason of {@linkcode SendStream.fail}
   */
  write(data: Uint8Array): Promise<void> | undefined {
    if (this.#failure !== undefined) throw this.#failure.reason;
    if (this.#ending !== undefined) throw new TypeError("Cannot write: the stream was ended");
    const rest = this.#waiting.length === 0 ? this.#append(data) : data;
    if (rest.length === 0) return undefined;
    return new Promise<void>((resolve, reject) => this.#waiting.push({ rest, resolve, reject }));
  }

  /**
   * Takes all of the data, for which there was {@linkcode SendStream.room} before the first of several calls.
   *
   * @param more how many bytes the next call will append
   */
  append(data: Uint8Array, more = 0): void {
    for (let rest = data; rest.length > 0;) {
      const block = this.#lastBlock(rest.length + more);
      const part = rest.subarray(0, block.room);
      block.append(part);
      this.#end += part.length;
      rest = rest.subarray(part.length);
    }
    if (this.#failure === undefined) this.#window.hold(this.unacknowledged - INITIAL_LIMIT);
  }

  /** Ends the stream after everything written before. Resolves once the end was sent. */
  end(): Promise<void> {
    if (this.#ending === undefined) {
      this.#ending = optionalResolvers();
      if (this.#failure !== undefined) this.#ending.reject(this.#failure.reason);
    }
    return this.#ending.promise;
  }

  /** Makes the waiting writes fail. What was taken is still sent. */
  rejectWaiting(reason: unknown): void {
    for (const write of this.#waiting.splice(0)) write.reject(reason);
  }

  /** Makes waiting and later writes fail, and discards the stream. */
  fail(reason: unknown): void {
    this.#failure ??= { reason };
    this.rejectWaiting(this.#failure.reason);
    this.#ending?.reject(this.#failure.reason);
    this.#blocks.length = this.#spare.length = this.#cursor = 0;
    this.#window.hold(0);
  }

  /**
   * The other side has acknowledged `received` bytes, and accepts bytes up to `limit`.
   *
   * @throws {MalformedMessageError} if more bytes are acknowledged than were sent
   */
  acknowledge(received: number, limit: number): void {
    if (received > this.#mostTaken) {
      throw new MalformedMessageError(
        `Cannot continue: ${received} bytes are acknowledged, but ${this.#mostTaken} were sent`,
      );
    }
    this.#limit = Math.max(this.#limit, limit);
    this.#acknowledged = Math.max(this.#acknowledged, received);
    if (this.#acknowledged < this.#end) this.#growth.note(this.#acknowledged, this.#windowBytes);
    this.#position = Math.max(this.#position, Math.min(this.#acknowledged, this.#end));
    let first = this.#blocks[0];
    while (first !== undefined && first.end <= this.#acknowledged && !first.hasUntaken) {
      this.#blocks.shift();
      this.#cursor--;
      this.#recycle(first.release());
      first = this.#blocks[0];
    }
    if (first === undefined) this.#spare.length = Math.min(this.#spare.length, MAX_IDLE_SPARE);
    if (this.#failure === undefined) this.#window.hold(this.unacknowledged - INITIAL_LIMIT);
    this.#appendWaiting();
  }

  /** Gives back the memory that nothing needs now. */
  rest(): void {
    if (this.#blocks.length === 0) this.#spare.length = 0;
  }

  /** Starts over for another path, with the data that is not acknowledged. Returns its offset. */
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

  /** What to write next; if it is to be short, because it goes with something else, perhaps nothing. */
  next({ isShort = false } = {}): Outgoing | undefined {
    if (this.#failure !== undefined) return undefined;
    const block = this.#blocks[this.#cursor];
    if (isShort && (block === undefined || block.untaken > SMALL_BLOCK_LENGTH)) return undefined;
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
    const bytes = encodeSessionFrame({ kind: "fin", offset: this.#end });
    return { bytes, onWritten: () => ending.resolve() };
  }

  get #windowBytes(): number {
    const { factor } = this.#growth;
    const wanted = Math.min(this.#maxWindowBytes, factor * FIRST_WINDOW_BYTES);
    return Math.min(wanted, INITIAL_LIMIT + this.#window.mayHold(factor > 1));
  }

  /** Takes as much as there is room for, and returns the rest. */
  #append(data: Uint8Array): Uint8Array {
    const part = data.subarray(0, this.room);
    this.append(part);
    return data.subarray(part.length);
  }

  #appendWaiting(): void {
    for (let first = this.#waiting[0]; first !== undefined; first = this.#waiting[0]) {
      first.rest = this.#append(first.rest);
      if (first.rest.length > 0) return;
      this.#waiting.shift();
      first.resolve();
    }
    this.#onRoom?.();
  }

  /** The last block if it has room, otherwise a new one. */
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

  #recycle(bytes: Uint8Array | undefined): void {
    const isFull = bytes?.length === MAX_DATA_FRAME_LENGTH;
    if (isFull && this.#spare.length < MAX_SPARE) this.#spare.push(bytes);
  }
}

/** Consecutive DATA frames, which can be written in one piece, and again on another path. */
class SendBlock {
  /** The offset of its first byte. */
  readonly start: number;
  /** The offset after its last byte. */
  end: number;
  /** How many writes in progress read its memory. */
  writes = 0;
  readonly #bytes: Uint8Array;
  #length = 0;
  /** How much was taken for the current path. */
  #taken = 0;
  /** The position of the last frame, while it can still grow. */
  #openAt: number | undefined;

  /** @param bytes taken over; at most as long as the longest frame */
  constructor(bytes: Uint8Array, start: number) {
    this.#bytes = bytes;
    this.start = this.end = start;
  }

  /** How many more bytes of the stream fit. */
  get room(): number {
    const header = this.#openAt === undefined ? DATA_HEADER_LENGTH : 0;
    return Math.max(0, this.#bytes.length - this.#length - header);
  }

  /** How many bytes {@linkcode SendBlock.take} would return. */
  get untaken(): number {
    return this.#length - this.#taken;
  }

  /** Whether it would return anything. */
  get hasUntaken(): boolean {
    return this.#taken < this.#length;
  }

  /** @param data must fit */
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

  /** All frames that were not taken yet. */
  take(): Uint8Array {
    const frames = this.#bytes.subarray(this.#taken, this.#length);
    this.#taken = this.#length;
    this.#openAt = undefined;
    return frames;
  }

  /** Makes everything available again, and modifies nothing: writes to an earlier path may still read it. */
  rewind(): void {
    this.#taken = 0;
    this.#openAt = undefined;
  }

  /** A new block with the data of this one from an offset on. */
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

  /** Its memory, for another block; `undefined` while a write reads it. */
  release(): Uint8Array | undefined {
    return this.writes === 0 ? this.#bytes : undefined;
  }
}

interface WaitingWrite {
  rest: Uint8Array;
  resolve(): void;
  reject(reason: unknown): void;
}

/** Chosen by us: what waits for a busy path; two full records. */
const MAX_UNTAKEN = 2 * MAX_DATA_FRAME_LENGTH;

/** Chosen by us: small messages need no more. */
const SMALL_BLOCK_LENGTH = 2048;

/** Chosen by us: more than acknowledgements give back at once, since making new ones costs a tenth of the time. */
const MAX_SPARE = 128;

/** Chosen by us: enough for the next writes once nothing is in flight. */
const MAX_IDLE_SPARE = 2;
