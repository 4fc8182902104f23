/**
 * The writing half of a secured connection.
 *
 * @module
 */

import { type ByteStream, writeAll } from "./byte_stream.ts";
import {
  MAX_PLAINTEXT_LENGTH,
  MAX_RECORD_LENGTH,
  RECORD_OVERHEAD,
  type RecordCipher,
} from "./record_cipher.ts";

/**
 * Writes records. What comes while nothing is on its way goes out at once; what comes while a record is on its way
 * waits in a buffer and goes out with the next one, as does what is left of a write that fills a record.
 */
export class RecordWriter {
  readonly #stream: ByteStream;
  readonly #cipher: RecordCipher;
  /** What goes out next: plaintext. */
  readonly #buffer = new GrowingBuffer(MAX_PLAINTEXT_LENGTH);
  #buffered = 0;
  /** What is on its way. */
  readonly #record = new GrowingBuffer(MAX_RECORD_LENGTH);
  #isSending = false;
  /** What has found no room in the buffer. */
  readonly #waiting: Write[] = [];
  #ending: PromiseWithResolvers<void> | undefined;
  #failure: { readonly reason: unknown } | undefined;

  /**
   * @param stream to which nobody else writes
   * @param cipher taken over
   */
  constructor(stream: ByteStream, cipher: RecordCipher) {
    this.#stream = stream;
    this.#cipher = cipher;
  }

  /**
   * Takes the data, and resolves once all of it is on its way or in the buffer. If that fails later, the next call
   * says so.
   *
   * @throws {TypeError} after the end
   * @throws what the connection fails with
   */
  async write(data: Uint8Array): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure.reason;
    if (this.#ending !== undefined) throw new TypeError("Cannot write: the stream was ended");
    const rest = this.#waiting.length === 0 ? this.#take(data) : data;
    if (rest.length === 0) return;
    await new Promise<void>((resolve, reject) => this.#waiting.push({ rest, resolve, reject }));
  }

  /**
   * Sends the record that ends the stream, after all that was written before.
   *
   * @throws what the connection fails with
   */
  async end(): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure.reason;
    if (this.#ending === undefined) {
      this.#ending = Promise.withResolvers();
      if (!this.#isSending) this.#send(NOTHING);
    }
    await this.#ending.promise;
  }

  /** Makes all writes fail that wait or come. */
  fail(reason: unknown): void {
    this.#cipher.destroy();
    this.#failure ??= { reason };
    for (const write of this.#waiting.splice(0)) write.reject(this.#failure.reason);
    this.#ending?.promise.catch(() => {}); // whoever waits for it is told; nobody may
    this.#ending?.reject(this.#failure.reason);
  }

  /** Sends or buffers as much as may be; what is left. */
  #take(data: Uint8Array): Uint8Array {
    let rest = data;
    if (!this.#isSending && rest.length > 0) {
      this.#send(rest.subarray(0, MAX_PLAINTEXT_LENGTH));
      rest = rest.subarray(MAX_PLAINTEXT_LENGTH);
    }
    const part = rest.subarray(0, MAX_PLAINTEXT_LENGTH - this.#buffered);
    if (part.length === 0) return rest;
    this.#buffer.reserve(this.#buffered + part.length).set(part, this.#buffered);
    this.#buffered += part.length;
    return rest.subarray(part.length);
  }

  #send(plaintext: Uint8Array): void {
    const target = this.#record.reserve(plaintext.length + RECORD_OVERHEAD);
    const length = this.#cipher.encrypt(plaintext, target);
    this.#isSending = true;
    this.#carry(target.subarray(0, length)).then(
      () => this.#onSent(plaintext.length === 0),
      (error) => this.fail(error),
    );
  }

  /**
   * Sends the record, and lets a writer that awaits each write come with the next one. The system mostly takes a record
   * at once, and a run of writes of 64 KiB would else be long and tiny records in turn.
   */
  async #carry(record: Uint8Array): Promise<void> {
    await writeAll(this.#stream, record);
    for (let i = 0; i < GIVE_WAY_MICROTASKS && this.#hasRoomBehind; i++) await undefined;
  }

  /** Whether something waits for the next record that leaves room in it. */
  get #hasRoomBehind(): boolean {
    return this.#buffered > 0 && this.#buffered < MAX_PLAINTEXT_LENGTH;
  }

  #onSent(wasEnd: boolean): void {
    this.#isSending = false;
    if (this.#failure !== undefined) return;
    if (wasEnd) return this.#ending!.resolve();
    if (this.#buffered > 0) {
      const plaintext = this.#buffer.reserve(0).subarray(0, this.#buffered);
      this.#buffered = 0;
      this.#send(plaintext);
    }
    for (let first = this.#waiting[0]; first !== undefined; first = this.#waiting[0]) {
      first.rest = this.#take(first.rest);
      if (first.rest.length > 0) break;
      this.#waiting.shift();
      first.resolve();
    }
    if (this.#isSending) return;
    if (this.#ending !== undefined) this.#send(NOTHING);
    else this.#cipher.prepareToEncrypt(); // while nothing is to be sent
  }
}

/** Memory that is there when it is needed. */
class GrowingBuffer {
  readonly #maxLength: number;
  #bytes = new Uint8Array(0);

  constructor(maxLength: number) {
    this.#maxLength = maxLength;
  }

  /** At least so many bytes, with what was in them. */
  reserve(length: number): Uint8Array {
    if (this.#bytes.length >= length) return this.#bytes;
    const grown = new Uint8Array(length > SMALL_LENGTH ? this.#maxLength : SMALL_LENGTH);
    grown.set(this.#bytes);
    return this.#bytes = grown;
  }
}

interface Write {
  rest: Uint8Array;
  resolve(): void;
  reject(reason: unknown): void;
}

const NOTHING = new Uint8Array(0);

/** Ours: a loop that awaits its writes needs one, piping into a `WritableStream` six. */
const GIVE_WAY_MICROTASKS = 8;

/** Ours: a connection with small messages needs no more. */
const SMALL_LENGTH = 2048;
