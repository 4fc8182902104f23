/**
 * The records of a secured connection, in one direction. The framing is ours, as Noise leaves it to applications
 * (§13): a length of 16 bits, big-endian, then a Noise transport message as long as that. The plaintext is a part of
 * the stream; an empty one ends it. Both sides rekey after each {@linkcode REKEY_INTERVAL} records.
 *
 * @module
 */

import { MalformedMessageError, NetworkError } from "../base/errors.ts";
import { formatTransportAddress, type TransportAddress } from "../net/address.ts";
import type { ByteStream } from "./byte_stream.ts";
import { MAX_MESSAGE_LENGTH } from "./handshake.ts";
import { type CipherState, TAG_LENGTH } from "./symmetric_state.ts";

/** How long the length is. */
export const LENGTH_BYTES = 2;

/** How much of the stream fits into a record. */
export const MAX_PLAINTEXT_LENGTH = MAX_MESSAGE_LENGTH - TAG_LENGTH;

/** What a record adds to its plaintext. */
export const RECORD_OVERHEAD = LENGTH_BYTES + TAG_LENGTH;

/** The longest record, its length included. */
export const MAX_RECORD_LENGTH = MAX_PLAINTEXT_LENGTH + RECORD_OVERHEAD;

/** Ours: as often as BOLT 8, about; at most 64 MiB of the past are open to who steals a key. */
export const REKEY_INTERVAL = 1024;

/** Encrypts or decrypts the records of one direction, in their order. */
export class RecordCipher {
  readonly #cipherState: CipherState;
  #count = 0;

  /** @param cipherState taken over */
  constructor(cipherState: CipherState) {
    this.#cipherState = cipherState;
  }

  /**
   * Puts a record at the start of `target`.
   *
   * @param plaintext at most {@linkcode MAX_PLAINTEXT_LENGTH} bytes
   * @returns the length of the record
   */
  encrypt(plaintext: Uint8Array, target: Uint8Array): number {
    const ciphertext = target.subarray(LENGTH_BYTES);
    const { length } = this.#cipherState.encryptWithAd(NO_AD, plaintext, ciphertext);
    writeLength(target, length);
    this.#countRecord();
    return LENGTH_BYTES + length;
  }

  /**
   * The plaintext of the next record, in memory of its own.
   *
   * @param ciphertext the record without its length
   * @throws {MalformedMessageError} if it is not the next record that the other side encrypted
   */
  decrypt(ciphertext: Uint8Array): Uint8Array<ArrayBuffer> {
    if (ciphertext.length < TAG_LENGTH) {
      throw new MalformedMessageError(
        `Cannot read a record: ${ciphertext.length} bytes are too few for a tag of ${TAG_LENGTH}`,
      );
    }
    const plaintext = this.#cipherState.decryptWithAd(NO_AD, ciphertext);
    this.#countRecord();
    return plaintext;
  }

  /** Does the part of {@linkcode RecordCipher.encrypt} that needs no plaintext. */
  prepareToEncrypt(): void {
    this.#cipherState.prepareToEncrypt();
  }

  /** Does the part of {@linkcode RecordCipher.decrypt} that needs no record. */
  prepareToDecrypt(): void {
    this.#cipherState.prepareToDecrypt();
  }

  /** Forgets the key; idempotent. */
  destroy(): void {
    this.#cipherState.destroy();
  }

  #countRecord(): void {
    if (++this.#count % REKEY_INTERVAL === 0) this.#cipherState.rekey();
  }
}

/** Puts a length before what is that long. */
export function writeLength(target: Uint8Array, length: number): void {
  target[0] = length >> 8;
  target[1] = length & 0xff;
}

const NO_AD = new Uint8Array(0);

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

/** Reads records, and gives out nothing of them before they are authenticated. */
export class RecordReader {
  readonly #frames: FrameReader;
  readonly #cipher: RecordCipher;
  readonly #onFailure: (reason: unknown) => void;
  #state: "open" | "reading" | "ended" | { readonly failure: unknown } = "open";

  /**
   * @param cipher taken over
   * @param onFailure called once, when a read fails
   */
  constructor(frames: FrameReader, cipher: RecordCipher, onFailure: (reason: unknown) => void) {
    this.#frames = frames;
    this.#cipher = cipher;
    this.#onFailure = onFailure;
  }

  /**
   * The next part of the stream, in memory of its own; `null` once the other side has finished it. A failure is final.
   *
   * @throws {MalformedMessageError} if the record is not what the other side sent next
   * @throws {NetworkError} `reset` if the connection was cut
   * @throws {TypeError} if another read is waiting
   */
  async read(): Promise<Uint8Array<ArrayBuffer> | null> {
    if (this.#state === "ended") return null;
    if (this.#state === "reading") throw new TypeError("Cannot read: another read is waiting");
    if (this.#state !== "open") throw this.#state.failure;
    this.#state = "reading";
    try {
      let record = this.#frames.take(MAX_MESSAGE_LENGTH);
      while (record === undefined) {
        const filled = this.#frames.fill();
        this.#cipher.prepareToDecrypt(); // while the network brings it
        await filled;
        record = this.#frames.take(MAX_MESSAGE_LENGTH);
      }
      const plaintext = this.#cipher.decrypt(record);
      const isEnd = plaintext.length === 0;
      if (isEnd) this.#requireNothingMore();
      this.#state = isEnd ? "ended" : "open";
      return isEnd ? null : plaintext;
    } catch (error) {
      const reason = this.fail(error);
      this.#onFailure(reason);
      throw reason;
    }
  }

  /** Makes all further reads fail, unless they do already; what they fail with. */
  fail(failure: unknown): unknown {
    this.#cipher.destroy();
    if (typeof this.#state === "string") this.#state = { failure };
    return this.#state.failure;
  }

  #requireNothingMore(): void {
    if (this.#frames.buffered === 0) return;
    throw new MalformedMessageError("Cannot read: bytes follow the record that ends the stream");
  }
}
