/**
 * The receiving half of a session's stream: puts together what comes over one path after another.
 *
 * @module
 */

import { MalformedMessageError } from "../base/errors.ts";
import { INITIAL_LIMIT } from "./frame.ts";

/** First in, first out, in memory of about as many bytes as wait. */
export class ByteQueue {
  readonly #chunks: Chunk[] = [];
  /** The memory of a chunk that was read. */
  #spare: Uint8Array | undefined;
  #length = 0;

  /** How many bytes wait. */
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

  /** Fills the start of the buffer, from one chunk or more; the number of bytes. */
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
      this.#spare = first.bytes;
    }
    this.#length -= filled;
    return filled;
  }

  /** Forgets all. */
  clear(): void {
    this.#chunks.length = this.#length = 0;
    this.#spare = undefined;
  }

  #lastChunk(length: number): Chunk {
    const last = this.#chunks.at(-1);
    if (last !== undefined && last.end < last.bytes.length) return last;
    const isSmall = length <= SMALL_CHUNK_LENGTH && last === undefined;
    const least = isSmall ? SMALL_CHUNK_LENGTH : CHUNK_LENGTH;
    const bytes = (this.#spare?.length ?? 0) >= least ? this.#spare! : new Uint8Array(least);
    this.#spare = undefined;
    const chunk = { bytes, start: 0, end: 0 };
    this.#chunks.push(chunk);
    return chunk;
  }
}

interface Chunk {
  readonly bytes: Uint8Array;
  start: number;
  end: number;
}

/** Ours: a small message needs no more. */
const SMALL_CHUNK_LENGTH = 2048;

/** Ours: as much as comes at once. */
const CHUNK_LENGTH = 65_536;

/** Takes parts of the stream, and gives out each byte once and in order. */
export class ReceiveStream {
  readonly #windowBytes: number;
  readonly #acknowledgeBytes: number;
  readonly #unread = new ByteQueue();
  #reading:
    | { buffer: Uint8Array; resolve(length: number | null): void; reject: Reject }
    | undefined;
  #received = 0;
  #read = 0;
  #length: number | undefined;
  /** What the other side was told last. */
  #told = { received: 0, limit: INITIAL_LIMIT };
  #failure: { readonly reason: unknown } | undefined;
  #isDiscarding = false;
  #hasDiscarded = false;

  /** @param windowBytes how much is kept for who does not read */
  constructor(windowBytes: number) {
    this.#windowBytes = windowBytes;
    this.#acknowledgeBytes = Math.min(MAX_UNACKNOWLEDGED, windowBytes / 4);
  }

  /** How much is here, in order; the end of the stream counts as one more byte. */
  get received(): number {
    return this.#received + (this.isFinished ? 1 : 0);
  }

  /** Whether all of the stream is here. */
  get isFinished(): boolean {
    return this.#length !== undefined;
  }

  /** Whether something came, or was there, that nobody will read. */
  get hasDiscarded(): boolean {
    return this.#hasDiscarded;
  }

  /** Whether the other side is to hear at once how far this one is. */
  get isAcknowledgementUrgent(): boolean {
    const allowed = this.#limit - this.#told.limit;
    return this.received - this.#told.received >= this.#acknowledgeBytes ||
      allowed >= this.#acknowledgeBytes && !this.#isDiscarding;
  }

  /** What the other side is told, which is taken for done. */
  acknowledgement(): { received: number; limit: number } {
    const limit = Math.max(this.#told.limit, this.#isDiscarding ? 0 : this.#limit);
    return this.#told = { received: this.received, limit };
  }

  /**
   * As `TcpConnection.read()`; a promise that rejects, and no call that throws.
   *
   * @throws {TypeError} if another read is waiting
   */
  read(buffer: Uint8Array): Promise<number | null> {
    if (this.#reading !== undefined) {
      return Promise.reject(new TypeError("Cannot read: another read is waiting"));
    }
    if (this.#isDiscarding) return Promise.reject(this.#failure!.reason);
    if (buffer.length === 0) return Promise.resolve(0);
    const length = this.#unread.take(buffer);
    this.#read += length;
    if (length > 0) return Promise.resolve(length);
    if (this.isFinished) return Promise.resolve(null);
    if (this.#failure !== undefined) return Promise.reject(this.#failure.reason);
    return new Promise((resolve, reject) => this.#reading = { buffer, resolve, reject });
  }

  /**
   * Takes a part of the stream; what is here already is left out.
   *
   * @throws {MalformedMessageError} if it goes on after the end, or beyond what was allowed
   */
  accept(offset: number, data: Uint8Array): void {
    const end = offset + data.length;
    if (end > this.#told.limit) {
      throw malformed(`byte ${end} is over the limit of ${this.#told.limit}`);
    }
    if (this.#length !== undefined && end > this.#length) {
      throw malformed(`byte ${end} comes after the end of ${this.#length}`);
    }
    if (end <= this.#received) return;
    let fresh = data.subarray(this.#received - offset);
    this.#received = end;
    if (this.#isDiscarding) {
      this.#hasDiscarded = true;
      return;
    }
    const reading = this.#reading;
    if (reading !== undefined) {
      const part = fresh.subarray(0, reading.buffer.length);
      reading.buffer.set(part);
      this.#read += part.length;
      this.#reading = undefined;
      reading.resolve(part.length);
      fresh = fresh.subarray(part.length);
    }
    this.#unread.push(fresh);
  }

  /**
   * The stream is so long.
   *
   * @throws {MalformedMessageError} if that is not where it is
   */
  finish(length: number): void {
    if (length !== (this.#length ?? this.#received)) {
      throw malformed(`it ends after ${length} bytes, of which ${this.#received} have come`);
    }
    this.#length = length;
    this.#reading?.resolve(null);
    this.#reading = undefined;
  }

  /** Nobody reads any more. */
  discard(reason: unknown): void {
    if (this.#isDiscarding) return;
    this.#hasDiscarded = this.#unread.length > 0 && !this.isFinished;
    this.#isDiscarding = true;
    this.#unread.clear();
    this.fail(reason);
    this.#failure = { reason };
  }

  /** Nothing more comes; what has come can still be read. */
  fail(reason: unknown): void {
    this.#failure ??= { reason };
    this.#reading?.reject(this.#failure.reason);
    this.#reading = undefined;
  }

  get #limit(): number {
    return this.#read + this.#windowBytes;
  }
}

type Reject = (reason: unknown) => void;

function malformed(what: string): MalformedMessageError {
  return new MalformedMessageError(`Cannot read the stream of a session: ${what}`);
}

/** Ours: so that acknowledgements take a hundredth of the time, and who sends need not wait for them. */
const MAX_UNACKNOWLEDGED = 262_144;
