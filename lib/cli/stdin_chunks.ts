/**
 * Stdin as bytes, for commands that pass it on.
 *
 * @module
 */

import type { ByteSource } from "../base/reader.ts";
import { abortable } from "@std/async/abortable";

/** Bytes in chunks of what there is. */
export interface Chunks {
  /**
   * The next chunk, in memory that the next call but one reuses; `null` at the end.
   *
   * @throws the signal's reason on abort; the chunk then goes to whoever asks next
   */
  next(signal?: AbortSignal): Promise<Uint8Array | null>;
}

/**
 * Stdin in chunks of what there is. A read cannot be cancelled: what it brings goes to whoever asks next.
 *
 * It reads without a `ReadableStream`: that allocates an array for each chunk, which costs a third of the time.
 */
export class StdinChunks implements Chunks {
  readonly #stdin: ByteSource;
  /** Used in turn: while one chunk is passed on, the next one is read. */
  #buffers: readonly Uint8Array[] = [];
  #reads = 0;
  #reading: Promise<Uint8Array | null> | undefined;

  /** @param stdin not to be read by anything else */
  constructor(stdin: ByteSource) {
    this.#stdin = stdin;
  }

  /** As {@linkcode Chunks.next}; one call at a time. */
  async next(signal?: AbortSignal): Promise<Uint8Array | null> {
    signal?.throwIfAborted();
    this.#reading ??= this.#read();
    const chunk = await (signal === undefined ? this.#reading : abortable(this.#reading, signal));
    if (chunk !== null) this.#reading = undefined; // stdin that has ended is not asked again
    return chunk;
  }

  async #read(): Promise<Uint8Array | null> {
    if (this.#buffers.length === 0) {
      this.#buffers = [new Uint8Array(CHUNK_BYTES), new Uint8Array(CHUNK_BYTES)];
    }
    const buffer = this.#buffers[this.#reads++ % 2]!;
    const length = await this.#stdin.read(buffer);
    return length === null ? null : buffer.subarray(0, length);
  }
}

/** Chosen by us: four records. A pipe has a quarter of it at most, a file fills it. */
const CHUNK_BYTES = 262_144;
