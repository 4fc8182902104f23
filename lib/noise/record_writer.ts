/**
 * The writing half of a secured connection.
 *
 * @module
 */

import { writeAll } from "../base/reader.ts";
import { optionalResolvers } from "../base/tasks.ts";
import type { ByteStream } from "../net/deno_conn.ts";
import {
  MAX_PLAINTEXT_LENGTH,
  MAX_RECORD_LENGTH,
  RECORD_OVERHEAD,
  type RecordCipher,
} from "./record.ts";

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
      this.#batched = 0;
      this.#state = "gathering";
      if (this.#buffered === MAX_PLAINTEXT_LENGTH) this.#gather();
      this.#admitWaiting();
      if (this.#isIncomplete) await this.#yieldToWriter();
      if (this.#failure !== undefined) return;
      this.#gather();
      if (this.#ending !== undefined && this.#hasRoom) this.#seal(NOTHING); // the buffer is empty now
    }
    this.#state = "idle";
    this.#cipher.prepareToEncrypt(); // while there is nothing to send
  }

  /**
   * Gives a caller that awaits each write the chance to make the next one. The system usually takes records at once, so
   * a run of 64 KiB writes would otherwise become long and tiny records in turn, and each would wake the other side.
   */
  async #yieldToWriter(): Promise<void> {
    for (let i = 0; i < YIELD_MICROTASKS && this.#isIncomplete; i++) {
      const before = this.#batched;
      await undefined;
      if (this.#batched > before) i = 0;
    }
  }

  /** Whether there is something to send, and room for more. */
  get #isIncomplete(): boolean {
    return this.#hasRoom && this.#batched + this.#buffered > 0;
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

/** Memory that grows in steps. */
class GrowingBuffer {
  readonly #steps: readonly number[];
  #bytes = new Uint8Array(0);

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
    if (this.#bytes.length >= length) return this.#bytes;
    const grown = new Uint8Array(this.#steps.find((step) => step >= length)!);
    grown.set(this.#bytes);
    return this.#bytes = grown;
  }
}

interface WaitingWrite {
  rest: Uint8Array;
  resolve(): void;
  reject(reason: unknown): void;
}

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
