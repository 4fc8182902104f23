/**
 * The records of a secured connection, in one direction. Noise leaves framing to applications (§13); this one is
 * Punchline's own: a length of 16 bits, big-endian, then a Noise transport message of that length. The plaintext is a
 * part of the stream; an empty one ends the stream. Both sides rekey after every {@linkcode REKEY_INTERVAL} records.
 *
 * @module
 */

import { malformed, MalformedMessageError, NetworkError } from "../base/errors.ts";
import { BufferedReader, writeAll } from "../base/reader.ts";
import { optionalResolvers } from "../base/tasks.ts";
import { formatTransportAddress, type TransportAddress } from "../net/address.ts";
import type { ByteStream } from "../net/deno_conn.ts";
import { MAX_MESSAGE_LENGTH } from "./handshake.ts";
import { type CipherState, TAG_LENGTH } from "./symmetric_state.ts";

/** The length of the length field. */
export const LENGTH_BYTES = 2;

/** The longest plaintext of one record. */
export const MAX_PLAINTEXT_LENGTH = MAX_MESSAGE_LENGTH - TAG_LENGTH;

/** How many bytes a record adds to its plaintext. */
const RECORD_OVERHEAD = LENGTH_BYTES + TAG_LENGTH;

/** The longest record, including its length field. */
const MAX_RECORD_LENGTH = MAX_PLAINTEXT_LENGTH + RECORD_OVERHEAD;

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

/**
 * Writes records. Data goes out at once if nothing is being sent. Data that arrives during a send waits in a buffer and
 * goes out with the next records, as does the rest of a write that fills a record.
 */
export class RecordWriter {
  readonly #stream: ByteStream;
  readonly #cipher: RecordCipher;
  /** The plaintext of the next record. */
  readonly #buffer = new GrowingBuffer([SMALL_LENGTH, MAX_PLAINTEXT_LENGTH]);
  #buffered = 0;
  /** Records that are being sent, or gathered to be sent together. */
  readonly #batch = new GrowingBuffer([SMALL_LENGTH, MAX_RECORD_LENGTH, MAX_BATCH_LENGTH]);
  #batched = 0;
  #state: "idle" | "sending" | "gathering" = "idle";
  /** Writes for which the buffer has no room. */
  readonly #waiting: WaitingWrite[] = [];
  #ending: PromiseWithResolvers<void> | undefined;
  #isEnded = false;
  #failure: { readonly reason: unknown } | undefined;

  /**
   * @param stream nothing else may write to it
   * @param cipher taken over
   */
  constructor(stream: ByteStream, cipher: RecordCipher) {
    this.#stream = stream;
    this.#cipher = cipher;
  }

  /**
   * Resolves once all of the data is being sent or is in the buffer. If sending fails later, the next call throws.
   *
   * @throws {TypeError} after {@linkcode RecordWriter.end}
   * @throws the connection's failure
   */
  async write(data: Uint8Array): Promise<void> {
    this.#requireNoFailure();
    if (this.#ending !== undefined) throw new TypeError("Cannot write: the stream was ended");
    const rest = this.#waiting.length === 0 ? this.#add(data) : data;
    if (rest.length === 0) return;
    this.#requireNoFailure(); // the stream's own write() may have closed the connection
    await new Promise<void>((resolve, reject) => this.#waiting.push({ rest, resolve, reject }));
  }

  /**
   * Sends the record that ends the stream, after everything written before.
   *
   * @throws the connection's failure
   */
  async end(): Promise<void> {
    this.#requireNoFailure();
    if (this.#ending === undefined) {
      this.#ending = optionalResolvers();
      if (this.#state === "idle") this.#start(NOTHING);
    }
    await this.#ending.promise;
  }

  /** Makes all waiting and later writes fail; the first failure wins. */
  fail(reason: unknown): void {
    this.#cipher.destroy();
    this.#failure ??= { reason };
    for (const write of this.#waiting.splice(0)) write.reject(this.#failure.reason);
    this.#ending?.reject(this.#failure.reason);
  }

  #requireNoFailure(): void {
    if (this.#failure !== undefined) throw this.#failure.reason;
  }

  /** Sends or buffers as much as there is room for, and returns the rest. */
  #add(data: Uint8Array): Uint8Array {
    let rest = data;
    if (this.#state === "idle" && rest.length > 0) {
      this.#start(rest.subarray(0, MAX_PLAINTEXT_LENGTH));
      rest = rest.subarray(MAX_PLAINTEXT_LENGTH);
    }
    while (rest.length > 0 && this.#buffered < MAX_PLAINTEXT_LENGTH) {
      const isWhole = this.#buffered === 0 && rest.length >= MAX_PLAINTEXT_LENGTH;
      if (isWhole && this.#state === "gathering" && this.#hasRoom) {
        this.#seal(rest.subarray(0, MAX_PLAINTEXT_LENGTH)); // without a copy
        rest = rest.subarray(MAX_PLAINTEXT_LENGTH);
        continue;
      }
      const part = rest.subarray(0, MAX_PLAINTEXT_LENGTH - this.#buffered);
      this.#buffer.reserve(this.#buffered + part.length).set(part, this.#buffered);
      this.#buffered += part.length;
      rest = rest.subarray(part.length);
      if (this.#buffered === MAX_PLAINTEXT_LENGTH && this.#state === "gathering") this.#gather();
    }
    return rest;
  }

  /** Sends a first record, then keeps sending until nothing is left. */
  #start(plaintext: Uint8Array): void {
    this.#seal(plaintext);
    this.#send().catch((error) => this.fail(error));
  }

  async #send(): Promise<void> {
    while (this.#batched > 0) {
      this.#state = "sending";
      await writeAll(this.#stream, this.#batch.bytes.subarray(0, this.#batched));
      if (this.#failure !== undefined) return;
      if (this.#isEnded) return this.#ending!.resolve();
      const isBulk = this.#batched >= MAX_RECORD_LENGTH; // more is likely to follow
      this.#batched = 0;
      this.#state = "gathering";
      if (this.#buffered === MAX_PLAINTEXT_LENGTH) this.#gather();
      this.#admitWaiting();
      if (isBulk || this.#batched + this.#buffered > 0) await this.#yieldToWriter();
      if (this.#failure !== undefined) return;
      this.#gather();
      if (this.#ending !== undefined && this.#hasRoom) this.#seal(NOTHING); // the buffer is empty now
    }
    this.#state = "idle";
    this.#buffer.rest();
    this.#batch.rest();
    this.#cipher.prepareToEncrypt(); // while there is nothing to send
  }

  /**
   * Gives a caller that awaits each write the chance to make the next one. The system usually takes records at once, so
   * a run of 64 KiB writes would otherwise become long and tiny records in turn, and each would wake the other side.
   */
  async #yieldToWriter(): Promise<void> {
    for (let i = 0; i < YIELD_MICROTASKS && this.#hasRoom; i++) {
      const before = this.#batched;
      await undefined;
      if (this.#batched > before) i = 0;
    }
  }

  /** Whether the batch has room for another record of any length. */
  get #hasRoom(): boolean {
    return this.#batched + MAX_RECORD_LENGTH <= MAX_BATCH_LENGTH;
  }

  /** Turns the buffer into a record of the batch, if there is room for it. */
  #gather(): void {
    if (this.#buffered === 0 || !this.#hasRoom) return;
    this.#seal(this.#buffer.bytes.subarray(0, this.#buffered));
    this.#buffered = 0;
  }

  #seal(plaintext: Uint8Array): void {
    const batch = this.#batch.reserve(this.#batched + plaintext.length + RECORD_OVERHEAD);
    this.#batched += this.#cipher.encrypt(plaintext, batch.subarray(this.#batched));
    if (plaintext.length === 0) this.#isEnded = true;
  }

  #admitWaiting(): void {
    for (let first = this.#waiting[0]; first !== undefined; first = this.#waiting[0]) {
      first.rest = this.#add(first.rest);
      if (first.rest.length > 0) break;
      this.#waiting.shift();
      first.resolve();
    }
  }
}

/** Memory that grows in steps, and is given back once only the first step is used. */
class GrowingBuffer {
  readonly #steps: readonly number[];
  #bytes: Uint8Array = NOTHING;
  /** How much was needed since the last rest, and how many rests before that have followed on little. */
  #needed = 0;
  #rests = 0;

  /** @param steps the lengths it may have, the smallest first */
  constructor(steps: readonly number[]) {
    this.#steps = steps;
  }

  /** All of the memory. */
  get bytes(): Uint8Array {
    return this.#bytes;
  }

  /** Grows to at least `length` bytes, and keeps the content. */
  reserve(length: number): Uint8Array {
    this.#needed = Math.max(this.#needed, length);
    if (this.#bytes.length >= length) return this.#bytes;
    const grown = new Uint8Array(this.#steps.find((step) => step >= length)!);
    grown.set(this.#bytes);
    return this.#bytes = grown;
  }

  /** Nothing in it is needed any more. */
  rest(): void {
    const least = this.#needed === 0 ? 0 : this.#steps[0]!;
    this.#rests = this.#needed <= this.#steps[0]! ? this.#rests + 1 : 0;
    this.#needed = 0;
    if (this.#rests >= MAX_RESTS && this.#bytes.length > least) this.#bytes = NOTHING;
  }
}

interface WaitingWrite {
  rest: Uint8Array;
  resolve(): void;
  reject(reason: unknown): void;
}

/** Writes a length field to the start of `target`. */
export function writeLength(target: Uint8Array, length: number): void {
  target[0] = length >> 8;
  target[1] = length & 0xff;
}

const NO_AD = new Uint8Array(0);

/** Chosen by us: enough for a handshake and for small messages. */
const FIRST_BUFFER_LENGTH = 4096;

const NOTHING = new Uint8Array(0);

/**
 * Chosen by us: a tenth faster than one record at a time. Twice as many records take twice the memory and gain only
 * another 3 %.
 */
const MAX_BATCH_LENGTH = 4 * MAX_RECORD_LENGTH;

/** Chosen by us: a loop that awaits its writes needs one, piping into a `WritableStream` needs six. */
const YIELD_MICROTASKS = 8;

/** Chosen by us: a connection that carries small messages needs no more. */
const SMALL_LENGTH = 2048;

/** Chosen by us: a transfer rarely pauses so often after a small record, and an idle connection has so many in 20 s. */
const MAX_RESTS = 4;
