/**
 * Reading and writing byte streams, whose reads and writes may transfer any number of bytes.
 *
 * @module
 */

/** A byte stream to read from. */
export interface ByteSource {
  /** Reads into the start of the buffer, and returns the number of bytes, or `null` at the end of the stream. */
  read(buffer: Uint8Array): Promise<number | null>;
}

/** A byte stream to write to. */
export interface ByteSink {
  /** Writes part of the data, and returns the number of bytes. */
  write(data: Uint8Array): Promise<number>;
}

/**
 * Writes all of the data, in as many writes as it takes.
 *
 * @throws the error of the stream
 */
export async function writeAll(stream: ByteSink, data: Uint8Array): Promise<void> {
  let written = await stream.write(data);
  while (written < data.length) written += await stream.write(data.subarray(written));
}

/**
 * Copies one stream to another until it ends, and then ends the other. Unlike `pipeTo()` it uses the same memory for each
 * read: forty busy streams would otherwise leave some 50 MB of chunks behind until the next garbage collection.
 *
 * @throws the error of the stream that breaks first; neither is closed then
 */
export async function copyStream(
  source: ByteSource,
  target: ByteSink & { closeWrite(): Promise<void> },
): Promise<void> {
  const buffer = new Uint8Array(COPY_BYTES);
  for (;;) {
    const length = await source.read(buffer);
    if (length === null) return await target.closeWrite();
    await writeAll(target, buffer.subarray(0, length));
  }
}

/** How a {@linkcode BufferedReader} uses memory. */
export interface BufferedReaderOptions {
  /** The initial size of the buffer, in bytes. */
  readonly initialLength: number;
  /**
   * The size that the buffer grows to once a read has filled it; it shrinks again after a few that the first buffer could
   * have held. Default: `initialLength`.
   */
  readonly fullLength?: number;
}

/** Reads a stream in large pieces, and returns it in the pieces that a protocol needs. */
export class BufferedReader {
  readonly #source: ByteSource;
  #leastLength: number;
  readonly #fullLength: number;
  #buffer: Uint8Array<ArrayBuffer>;
  #start = 0;
  #end = 0;
  /** How many reads one after the other have needed no more than the first buffer. */
  #smallReads = 0;

  /** @param source not to be read by anything else */
  constructor(source: ByteSource, options: BufferedReaderOptions) {
    this.#source = source;
    this.#leastLength = options.initialLength;
    this.#buffer = new Uint8Array(options.initialLength);
    this.#fullLength = options.fullLength ?? options.initialLength;
  }

  /** The number of bytes that have been read but not taken. */
  get buffered(): number {
    return this.#end - this.#start;
  }

  /** The bytes that have been read but not taken. The next {@linkcode BufferedReader.fill} overwrites them. */
  get unread(): Uint8Array<ArrayBuffer> {
    return this.#buffer.subarray(this.#start, this.#end);
  }

  /**
   * Takes up to `length` of the bytes that have been read. The next {@linkcode BufferedReader.fill} overwrites them.
   */
  take(length: number): Uint8Array<ArrayBuffer> {
    const end = Math.min(this.#start + length, this.#end);
    const taken = this.#buffer.subarray(this.#start, end);
    this.#start = end;
    return taken;
  }

  /**
   * Reads once; `false` at the end of the stream.
   *
   * @param needed how many bytes the caller needs in all, including buffered ones; the buffer grows to hold them
   * @throws the error of the stream
   */
  async fill(needed: number = 0): Promise<boolean> {
    this.#makeRoom(needed);
    const length = await this.#source.read(this.#buffer.subarray(this.#end));
    this.#end += length ?? 0;
    this.#smallReads = this.#end < this.#leastLength ? this.#smallReads + 1 : 0;
    return length !== null;
  }

  /** Makes the buffer at least so large, for a stream that turns out to be long. */
  enlarge(length: number): void {
    this.#leastLength = Math.max(length, this.#leastLength);
    if (length <= this.#buffer.length) return;
    const { unread } = this;
    this.#buffer = new Uint8Array(length);
    this.#buffer.set(unread);
    this.#start = 0;
    this.#end = unread.length;
  }

  /** Discards the bytes that have been read but not taken. */
  clear(): void {
    this.#start = this.#end = 0;
  }

  /** Moves the unread bytes, which are fewer than the caller needs, to the front. */
  #makeRoom(needed: number): void {
    const { unread } = this;
    const isFull = this.#end === this.#buffer.length;
    const length = Math.max(needed, unread.length + 1, isFull ? this.#fullLength : 0);
    const isIdle = this.#smallReads >= SMALL_READS && length <= this.#leastLength;
    const wanted = isIdle ? this.#leastLength : Math.max(length, this.#buffer.length);
    if (wanted !== this.#buffer.length) {
      this.#buffer = new Uint8Array(wanted);
      this.#buffer.set(unread);
    } else if (this.#start > 0) {
      this.#buffer.copyWithin(0, this.#start, this.#end);
    }
    this.#start = 0;
    this.#end = unread.length;
  }
}

/** Chosen by us: a transfer rarely has so many in a row, and a connection that is idle has them within 20 s. */
const SMALL_READS = 4;

/** Chosen by us: as much as one read of a socket returns. */
const COPY_BYTES = 65_536;
