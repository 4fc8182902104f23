/**
 * The records of a secured connection, in one direction. Noise leaves framing to applications (§13); this one is
 * Punchline's own: a length of 16 bits, big-endian, then a Noise transport message of that length. The plaintext is a
 * part of the stream; an empty one ends the stream. Both sides rekey after every {@linkcode REKEY_INTERVAL} records.
 *
 * @module
 */

import { malformed, MalformedMessageError, NetworkError } from "../base/errors.ts";
import { BufferedReader } from "../base/reader.ts";
import { formatTransportAddress, type TransportAddress } from "../net/address.ts";
import type { ByteStream } from "../net/deno_conn.ts";
import { MAX_MESSAGE_LENGTH } from "./handshake.ts";
import { type CipherState, TAG_LENGTH } from "./symmetric_state.ts";

/** The length of the length field. */
export const LENGTH_BYTES = 2;

/** The longest plaintext of one record. */
export const MAX_PLAINTEXT_LENGTH = MAX_MESSAGE_LENGTH - TAG_LENGTH;

/** How many bytes a record adds to its plaintext. */
export const RECORD_OVERHEAD = LENGTH_BYTES + TAG_LENGTH;

/** The longest record, including its length field. */
export const MAX_RECORD_LENGTH = MAX_PLAINTEXT_LENGTH + RECORD_OVERHEAD;

/** Chosen by us, close to BOLT 8: a stolen key exposes at most 64 MiB of the past. */
export const REKEY_INTERVAL = 1024;

/** Encrypts or decrypts the records of one direction, in order. */
export class RecordCipher {
  readonly #cipherState: CipherState;
  #count = 0;

  /** @param cipherState taken over */
  constructor(cipherState: CipherState) {
    this.#cipherState = cipherState;
  }

  /**
   * Writes a record to the start of `target`.
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
   * @param ciphertext the record without its length field
   * @throws {MalformedMessageError} if it is not the next record that the other side encrypted
   */
  decrypt(ciphertext: Uint8Array): Uint8Array<ArrayBuffer> {
    if (ciphertext.length < TAG_LENGTH) {
      const problem = `${ciphertext.length} bytes are too few for a tag of ${TAG_LENGTH}`;
      throw malformed("record", problem);
    }
    const plaintext = this.#cipherState.decryptWithAd(NO_AD, ciphertext);
    this.#countRecord();
    return plaintext;
  }

  /** Does the work of the next {@linkcode RecordCipher.encrypt} that does not need the plaintext. */
  prepareToEncrypt(): void {
    this.#cipherState.prepareToEncrypt();
  }

  /** Does the work of the next {@linkcode RecordCipher.decrypt} that does not need the record. */
  prepareToDecrypt(): void {
    this.#cipherState.prepareToDecrypt();
  }

  /** Erases the key; idempotent. */
  destroy(): void {
    this.#cipherState.destroy();
  }

  #countRecord(): void {
    if (++this.#count % REKEY_INTERVAL === 0) this.#cipherState.rekey();
  }
}

/** Reads records, and returns no byte of one before it is authenticated. */
export class RecordReader {
  readonly #messages: NoiseMessageReader;
  readonly #cipher: RecordCipher;
  readonly #onFailure: (reason: unknown) => void;
  #state: "open" | "reading" | "ended" | { readonly failure: unknown } = "open";

  /**
   * @param cipher taken over
   * @param onFailure called once, when a read fails
   */
  constructor(
    messages: NoiseMessageReader,
    cipher: RecordCipher,
    onFailure: (reason: unknown) => void,
  ) {
    this.#messages = messages;
    this.#cipher = cipher;
    this.#onFailure = onFailure;
  }

  /**
   * The next part of the stream, in memory of its own; `null` once the other side has finished. A failure is final.
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
      let record = this.#messages.take(MAX_MESSAGE_LENGTH);
      while (record === undefined) {
        const filled = this.#messages.fill();
        this.#cipher.prepareToDecrypt(); // while waiting for the network
        await filled;
        record = this.#messages.take(MAX_MESSAGE_LENGTH);
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

  /**
   * Makes all further reads fail; the first failure wins.
   *
   * @returns the reason with which they fail
   */
  fail(failure: unknown): unknown {
    this.#cipher.destroy();
    if (typeof this.#state === "string") this.#state = { failure };
    return this.#state.failure;
  }

  #requireNothingMore(): void {
    if (this.#messages.buffered === 0) return;
    throw new MalformedMessageError("Cannot read: bytes follow the record that ends the stream");
  }
}

/** Splits a stream into Noise messages, each after its length in 16 bits. */
export class NoiseMessageReader {
  readonly #reader: BufferedReader;
  readonly #remote: TransportAddress;
  /** How many bytes the next message takes with its length field, as far as that is known. */
  #needed = LENGTH_BYTES;

  /**
   * @param stream nothing else may read from it
   * @param remote the other side's address, for errors
   */
  constructor(stream: ByteStream, remote: TransportAddress) {
    this.#reader = new BufferedReader(stream, {
      initialLength: FIRST_BUFFER_LENGTH,
      fullLength: MAX_RECORD_LENGTH,
    });
    this.#remote = remote;
  }

  /** How many bytes were read from the stream and not taken. */
  get buffered(): number {
    return this.#reader.buffered;
  }

  /**
   * The next message, in memory that the next call reuses.
   *
   * @param maxLength fails at once if the message is longer
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
   * The next message if all of it is buffered, in memory that {@linkcode NoiseMessageReader.fill} reuses.
   *
   * @throws {MalformedMessageError} if it is longer than `maxLength`
   */
  take(maxLength: number): Uint8Array | undefined {
    const { unread } = this.#reader;
    this.#needed = LENGTH_BYTES;
    if (unread.length < this.#needed) return undefined;
    const length = unread[0]! << 8 | unread[1]!;
    if (length > maxLength) throw this.#tooLong(length, maxLength);
    this.#needed += length;
    if (unread.length < this.#needed) return undefined;
    return this.#reader.take(this.#needed).subarray(LENGTH_BYTES);
  }

  /**
   * Reads more, after {@linkcode NoiseMessageReader.take} returned `undefined`.
   *
   * @throws {NetworkError} `reset` if the stream ends
   */
  async fill(): Promise<void> {
    if (!await this.#reader.fill(this.#needed)) throw this.#wasCut();
  }

  #tooLong(length: number, maxLength: number): MalformedMessageError {
    return new MalformedMessageError(
      `${this.#cannotRead()}: a message of ${length} bytes is over the limit of ${maxLength}`,
    );
  }

  #wasCut(): NetworkError {
    const where = this.buffered === 0 ? "between two messages" : "within a message";
    return new NetworkError(
      `${this.#cannotRead()}: the connection was cut ${where}, before the other side finished`,
      "reset",
    );
  }

  #cannotRead(): string {
    return `Cannot read from ${formatTransportAddress(this.#remote)}`;
  }
}

/** Writes a length field to the start of `target`. */
export function writeLength(target: Uint8Array, length: number): void {
  target[0] = length >> 8;
  target[1] = length & 0xff;
}

const NO_AD = new Uint8Array(0);

/** Chosen by us: enough for a handshake and for small messages. */
const FIRST_BUFFER_LENGTH = 4096;
