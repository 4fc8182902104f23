/**
 * What is written to a stream until the other side has it: new bytes, bytes to send again, and the end. Without clock or
 * network.
 *
 * @module
 */

import { addRange, type Range, type Ranges, removeRange } from "./ack_ranges.ts";

/** A piece of the stream to send. */
export interface Segment {
  readonly offset: number;
  /** 0 only if there is nothing but the end to send. */
  readonly length: number;
  /** Whether the stream ends after it. */
  readonly isFinal: boolean;
}

/** The bytes from the first that is not acknowledged to the last that was written. */
export class SendBuffer {
  /** How many bytes may wait, a whole number. Lowering it drops nothing. */
  capacity: number;
  readonly #chunks = new ChunkStore();
  /** Everything before this is acknowledged. */
  #start = 0;
  #acknowledged: Ranges = [];
  #lost: Ranges = [];
  #next = 0;
  #end = 0;
  #final: "open" | "to-send" | "sent" | "acknowledged" = "open";

  /** @param capacity in bytes */
  constructor(capacity: number) {
    this.capacity = capacity;
  }

  /** How many bytes have been written in all. */
  get end(): number {
    return this.#end;
  }

  /** The offset of the first byte that was never sent. */
  get next(): number {
    return this.#next;
  }

  /** How many bytes can be written now. */
  get room(): number {
    return this.#final === "open" ? Math.max(0, this.capacity - (this.#end - this.#start)) : 0;
  }

  /** Whether everything, with the end, is acknowledged. */
  get isDone(): boolean {
    return this.#final === "acknowledged" && this.#start === this.#end;
  }

  /** Whether there is something to send before the other side's limit. */
  canSend(limit: number): boolean {
    return this.#lost.length > 0 || this.#next < Math.min(this.#end, limit) ||
      this.#final === "to-send" && this.#next === this.#end;
  }

  /** Copies as much as there is room for, and returns the number of bytes. */
  write(data: Uint8Array): number {
    const length = Math.min(data.length, this.room);
    if (length > 0) this.#chunks.write(this.#end, data.subarray(0, length));
    this.#end += length;
    return length;
  }

  /** The stream ends here. */
  finish(): void {
    if (this.#final === "open") this.#final = "to-send";
  }

  /**
   * The next piece: first what was lost, then what is new.
   *
   * @param most its length at most
   * @param limit the offset before which new bytes must end
   */
  take(most: number, limit: number): Segment | undefined {
    const [lost] = this.#lost;
    if (lost !== undefined) {
      const length = Math.min(most, lost.end - lost.start);
      this.#lost = removeRange(this.#lost, { start: lost.start, end: lost.start + length });
      return this.#segment(lost.start, length);
    }
    const length = Math.min(most, this.#end - this.#next, limit - this.#next);
    const isOnlyEnd = this.#final === "to-send" && this.#next === this.#end;
    if (length <= 0 && !isOnlyEnd) return undefined;
    const segment = this.#segment(this.#next, Math.max(length, 0));
    this.#next += segment.length;
    return segment;
  }

  /** The first piece that is not acknowledged, to send it again without calling it lost. */
  oldest(most: number): Segment | undefined {
    const end = Math.min(this.#acknowledged[0]?.start ?? this.#next, this.#start + most);
    if (end > this.#start) return this.#segment(this.#start, end - this.#start);
    return this.#final === "sent" ? this.#segment(this.#end, 0) : undefined;
  }

  /** Copies the bytes of a piece that is not acknowledged to `target`, from `at`. */
  copy({ offset, length }: Segment, target: Uint8Array, at: number): void {
    this.#chunks.copy(offset, length, target, at);
  }

  /** The other side has this. */
  acknowledge({ offset, length, isFinal }: Segment): void {
    if (isFinal) this.#final = "acknowledged";
    const range = { start: offset, end: offset + length };
    if (this.#lost.length > 0) this.#lost = removeRange(this.#lost, range);
    if (range.end <= this.#start) return;
    this.#acknowledged = addRange(this.#acknowledged, {
      start: Math.max(range.start, this.#start),
      end: range.end,
    });
    const [first] = this.#acknowledged;
    if (first === undefined || first.start > this.#start) return;
    this.#start = first.end;
    this.#acknowledged = this.#acknowledged.slice(1);
    this.#chunks.release(this.#start);
  }

  /** This must be sent again, unless it was acknowledged otherwise. */
  lose({ offset, length, isFinal }: Segment): void {
    if (isFinal && this.#final === "sent") this.#final = "to-send";
    const start = Math.max(offset, this.#start);
    const missing = missingFrom(this.#acknowledged, { start, end: offset + length });
    for (const range of missing) this.#lost = addRange(this.#lost, range);
  }

  #segment(offset: number, length: number): Segment {
    const isFinal = this.#final !== "open" && offset + length === this.#end;
    if (isFinal && this.#final === "to-send") this.#final = "sent";
    return { offset, length, isFinal };
  }
}

/** Bytes by offset, in chunks that are allocated when they are written to, and freed in order. */
export class ChunkStore {
  readonly #chunks = new Map<number, Uint8Array>();
  readonly #free: Uint8Array[] = [];
  #first = 0;

  /** Stores bytes. */
  write(offset: number, data: Uint8Array): void {
    for (let done = 0; done < data.length;) {
      const within = (offset + done) % CHUNK_BYTES;
      const length = Math.min(CHUNK_BYTES - within, data.length - done);
      const whole = done === 0 && length === data.length;
      const part = whole ? data : data.subarray(done, done + length);
      this.#chunkAt(offset + done).set(part, within);
      done += length;
    }
  }

  /** Copies bytes that were stored to `target`, from `at`. */
  copy(offset: number, length: number, target: Uint8Array, at: number): void {
    for (let done = 0; done < length;) {
      const within = (offset + done) % CHUNK_BYTES;
      const part = Math.min(CHUNK_BYTES - within, length - done);
      target.set(this.#chunkAt(offset + done).subarray(within, within + part), at + done);
      done += part;
    }
  }

  /** Frees everything before an offset. */
  release(before: number): void {
    const end = Math.floor(before / CHUNK_BYTES);
    for (; this.#first < end; this.#first++) {
      const chunk = this.#chunks.get(this.#first);
      if (chunk === undefined) continue;
      this.#chunks.delete(this.#first);
      if (this.#free.length < MAX_FREE) this.#free.push(chunk);
    }
  }

  #chunkAt(offset: number): Uint8Array {
    const index = Math.floor(offset / CHUNK_BYTES);
    let chunk = this.#chunks.get(index);
    if (chunk === undefined) {
      chunk = this.#free.pop() ?? new Uint8Array(CHUNK_BYTES);
      this.#chunks.set(index, chunk);
    }
    return chunk;
  }
}

/** The parts of a range that a set lacks. */
export function missingFrom(ranges: Ranges, range: Range): Ranges {
  let missing: Ranges = range.start < range.end ? [range] : [];
  for (const each of ranges) {
    if (each.start >= range.end) break;
    if (each.end > range.start) missing = removeRange(missing, each);
  }
  return missing;
}

/** Chosen by us: small for an idle path, large enough that few are needed. */
const CHUNK_BYTES = 65_536;

/** Chosen by us. */
const MAX_FREE = 4;
