/**
 * What arrives of a stream, in any order, until it is read. It never holds more than its window, whatever the other side
 * sends. Without clock or network.
 *
 * @module
 */

import { addRange, type Ranges } from "./ack_ranges.ts";
import { ChunkStore, missingFrom } from "./send_buffer.ts";

/** The bytes from the first that was not read to the last that may arrive. */
export class ReceiveBuffer {
  readonly #window: number;
  readonly #chunks = new ChunkStore();
  #read = 0;
  /** Everything before this has arrived. */
  #contiguous = 0;
  /** What has arrived after a gap. */
  #beyond: Ranges = [];
  /** The length of the stream, once it is known. */
  #final: number | undefined;

  /** @param window how many bytes may wait to be read */
  constructor(window: number) {
    this.#window = window;
  }

  /** The offset before which the other side may send. */
  get limit(): number {
    return this.#read + this.#window;
  }

  /** How many bytes can be read now. */
  get available(): number {
    return this.#contiguous - this.#read;
  }

  /** Whether everything was read, and the stream has ended. */
  get isAtEnd(): boolean {
    return this.#read === this.#final;
  }

  /** Whether the whole stream has arrived. */
  get isComplete(): boolean {
    return this.#contiguous === this.#final;
  }

  /** Whether something is missing before bytes that have arrived. */
  get hasGap(): boolean {
    return this.#beyond.length > 0;
  }

  /**
   * Stores bytes.
   *
   * @returns `false` if they exceed the window, contradict the end of the stream or leave too many gaps: then nothing has
   * changed, and the packet must not be acknowledged
   */
  add(offset: number, data: Uint8Array, isFinal: boolean): boolean {
    const end = offset + data.length;
    const highest = this.#beyond.at(-1)?.end ?? this.#contiguous;
    if (end > this.limit || end > (this.#final ?? Infinity)) return false;
    if (isFinal && (end < highest || this.#final !== undefined && this.#final !== end)) {
      return false;
    }
    if (offset === this.#contiguous && this.#beyond.length === 0) { // as nearly always
      this.#chunks.write(offset, data);
      this.#contiguous = end;
    } else if (end > this.#contiguous) {
      const start = Math.max(offset, this.#contiguous);
      const beyond = addRange(this.#beyond, { start, end });
      if (beyond.length > MAX_GAPS) return false;
      for (const missing of missingFrom(this.#beyond, { start, end })) {
        const part = data.subarray(missing.start - offset, missing.end - offset);
        this.#chunks.write(missing.start, part);
      }
      this.#beyond = beyond;
      const [first] = beyond;
      if (first?.start === this.#contiguous) {
        this.#contiguous = first.end;
        this.#beyond = beyond.slice(1);
      }
    }
    if (isFinal) this.#final = end;
    return true;
  }

  /** Takes bytes into the start of `buffer`, and returns their number. */
  read(buffer: Uint8Array): number {
    const length = Math.min(buffer.length, this.available);
    if (length === 0) return 0;
    this.#chunks.copy(this.#read, length, buffer, 0);
    this.#read += length;
    this.#chunks.release(this.#read);
    return length;
  }

  /** Takes everything that can be read, without giving it to anyone. */
  discard(): void {
    this.#read = this.#contiguous;
    this.#chunks.release(this.#read);
  }
}

/** Chosen by us: more gaps than honest losses leave in a window; each costs memory and time. */
const MAX_GAPS = 512;
