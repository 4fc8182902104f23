/**
 * The reading half of a secured connection.
 *
 * @module
 */

import { MalformedMessageError } from "../base/errors.ts";
import type { FrameReader } from "./frame_reader.ts";
import { MAX_MESSAGE_LENGTH } from "./handshake.ts";
import type { RecordCipher } from "./record.ts";

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
