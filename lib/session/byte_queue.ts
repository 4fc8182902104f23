/**
 * Bytes that wait to be read.
 *
 * @module
 */

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
