/**
 * Reads messages that are preceded by their length in 16 bits.
 *
 * @module
 */

import { MalformedMessageError, NetworkError } from "../base/errors.ts";
import { formatTransportAddress, type TransportAddress } from "../net/address.ts";
import type { ByteStream } from "./byte_stream.ts";
import { LENGTH_BYTES, MAX_RECORD_LENGTH } from "./record.ts";

/** Parts a stream into messages, with a buffer for one. */
export class FrameReader {
  readonly #stream: ByteStream;
  readonly #remote: TransportAddress;
  #buffer = new Uint8Array(FIRST_BUFFER_LENGTH);
  #start = 0;
  #end = 0;
  /** How long the next message is, its length included, as far as that is known. */
  #needed = LENGTH_BYTES;

  /**
   * @param stream of which nobody else reads
   * @param remote the other side's address, for errors
   */
  constructor(stream: ByteStream, remote: TransportAddress) {
    this.#stream = stream;
    this.#remote = remote;
  }

  /** How many bytes were read from the stream that belong to no message yet. */
  get buffered(): number {
    return this.#end - this.#start;
  }

  /**
   * The next message, in memory that the next call uses again.
   *
   * @param maxLength a longer one is not waited for
   * @throws {MalformedMessageError} if the message is longer than that
   * @throws {NetworkError} `reset` if the stream ends
   */
  async next(maxLength: number): Promise<Uint8Array> {
    for (;;) {
      const message = this.take(maxLength);
      if (message !== undefined) return message;
      await this.fill();
    }
  }

  /**
   * The next message, if all of it was read already.
   *
   * @throws {MalformedMessageError} if it is longer than `maxLength`
   */
  take(maxLength: number): Uint8Array | undefined {
    this.#needed = LENGTH_BYTES;
    if (this.buffered < this.#needed) return undefined;
    const length = this.#buffer[this.#start]! << 8 | this.#buffer[this.#start + 1]!;
    if (length > maxLength) throw this.#tooLong(length, maxLength);
    this.#needed += length;
    if (this.buffered < this.#needed) return undefined;
    this.#start += this.#needed;
    return this.#buffer.subarray(this.#start - length, this.#start);
  }

  /**
   * Reads what is there of the message that could not be taken, and of those behind it.
   *
   * @throws {NetworkError} `reset` if the stream ends
   */
  async fill(): Promise<void> {
    this.#makeRoom(this.#needed);
    const count = await this.#stream.read(this.#buffer.subarray(this.#end));
    if (count === null) throw this.#cut();
    this.#end += count;
  }

  #makeRoom(needed: number): void {
    if (this.buffered === 0) this.#start = this.#end = 0;
    if (this.#start + needed <= this.#buffer.length) return;
    const target = needed <= this.#buffer.length
      ? this.#buffer
      : new Uint8Array(FULL_BUFFER_LENGTH);
    target.set(this.#buffer.subarray(this.#start, this.#end));
    this.#end -= this.#start;
    this.#start = 0;
    this.#buffer = target;
  }

  #tooLong(length: number, maxLength: number): MalformedMessageError {
    return new MalformedMessageError(
      `${this.#cannotRead()}: a message of ${length} bytes is over the limit of ${maxLength}`,
    );
  }

  #cut(): NetworkError {
    const where = this.buffered === 0 ? "between two messages" : "within a message";
    return new NetworkError(
      `${this.#cannotRead()}: the connection was cut ${where}, it did not finish`,
      "reset",
    );
  }

  #cannotRead(): string {
    return `Cannot read from ${formatTransportAddress(this.#remote)}`;
  }
}

/** Enough for a handshake and for small messages. */
const FIRST_BUFFER_LENGTH = 4096;

/** One of the longest messages: a run of those is read one by one, and never moved within the buffer. */
const FULL_BUFFER_LENGTH = MAX_RECORD_LENGTH;
