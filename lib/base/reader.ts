/**
 * Reading and writing byte streams that deliver and accept whatever they like at a time.
 *
 * @module
 */

/** Something to read from: `null` at the end. */
export interface ByteSource {
  /** Fills part of the buffer; how much, or `null` at the end of the stream. */
  read(buffer: Uint8Array): Promise<number | null>;
}

/** Something to write to. */
export interface ByteSink {
  /** Takes part of the data; how much. */
  write(data: Uint8Array): Promise<number>;
}

/**
 * Writes all of the data.
 *
 * @throws what the stream fails with
 */
export async function writeAll(stream: ByteSink, data: Uint8Array): Promise<void> {
  let written = await stream.write(data);
  while (written < data.length) written += await stream.write(data.subarray(written));
}

/** How a {@linkcode BufferedReader} uses memory. */
export interface BufferedReaderOptions {
  /** The buffer's first size, in bytes. */
  readonly initialLength: number;
  /** The size that it grows to once a read fills it; `initialLength` by default. */
  readonly fullLength?: number;
}

/** Reads a stream in large pieces, and hands it out in those that a protocol has. */
export class BufferedReader {
  readonly #source: ByteSource;
  readonly #fullLength: number;
  #buffer: Uint8Array<ArrayBuffer>;
  #start = 0;
  #end = 0;

  /** @param source which nobody else reads */
  constructor(source: ByteSource, options: BufferedReaderOptions) {
    this.#source = source;
    this.#buffer = new Uint8Array(options.initialLength);
    this.#fullLength = options.fullLength ?? options.initialLength;
  }

  /** How many bytes were read and not taken. */
  get buffered(): number {
    return this.#end - this.#start;
  }

  /** What was read and not taken, in memory that {@linkcode BufferedReader.fill} uses again. */
  get unread(): Uint8Array<ArrayBuffer> {
    return this.#buffer.subarray(this.#start, this.#end);
  }

  /** The next bytes of those that were read, in memory that {@linkcode BufferedReader.fill} uses again. */
  take(length: number): Uint8Array<ArrayBuffer> {
    const end = Math.min(this.#start + length, this.#end);
    const taken = this.#buffer.subarray(this.#start, end);
    this.#start = end;
    return taken;
  }

  /**
   * Reads once; `false` at the end of the stream.
   *
   * @param needed how many bytes the caller waits for, those that are buffered included: the buffer grows to hold them
   * @throws what the stream fails with
   */
  async fill(needed: number = 0): Promise<boolean> {
    this.#makeRoom(needed);
    const length = await this.#source.read(this.#buffer.subarray(this.#end));
    this.#end += length ?? 0;
    return length !== null;
  }

  /** Forgets what was read. */
  clear(): void {
    this.#start = this.#end = 0;
  }

  /** What is unread is less than the caller waits for, and goes to the front. */
  #makeRoom(needed: number): void {
    const { unread } = this;
    const isFull = this.#end === this.#buffer.length;
    const length = Math.max(needed, unread.length + 1, isFull ? this.#fullLength : 0);
    if (length > this.#buffer.length) {
      this.#buffer = new Uint8Array(length);
      this.#buffer.set(unread);
    } else if (this.#start > 0) {
      this.#buffer.copyWithin(0, this.#start, this.#end);
    }
    this.#start = 0;
    this.#end = unread.length;
  }
}
