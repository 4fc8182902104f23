/**
 * Parts what comes over a path into frames.
 *
 * @module
 */

import type { TcpConnection } from "../net/network.ts";
import { decodeFrame, type Frame, MAX_WHOLE_FRAME_LENGTH } from "./frame.ts";

/** Reads a connection into a buffer, which is small until much comes. */
export class FrameReader {
  readonly #connection: TcpConnection;
  #buffer = new Uint8Array(SMALL_BUFFER_LENGTH);
  #start = 0;
  #end = 0;
  /** How much is to come of a DATA frame. */
  #dataLeft = 0;

  /** @param connection which nobody else reads */
  constructor(connection: TcpConnection) {
    this.#connection = connection;
  }

  /**
   * Reads what is there; `false` at the end of the stream.
   *
   * @throws what the connection fails with
   */
  async fill(): Promise<boolean> {
    this.#makeRoom();
    const length = await this.#connection.read(this.#buffer.subarray(this.#end));
    this.#end += length ?? 0;
    return length !== null;
  }

  /**
   * The next frame that is not DATA, or the next bytes of one that is, in memory that is used again; `undefined` if
   * there is none of all that was read.
   *
   * @throws {MalformedMessageError} if there is something else
   */
  next(): Exclude<Frame, { kind: "data" }> | Uint8Array | undefined {
    if (this.#dataLeft > 0) return this.#nextData();
    const decoded = decodeFrame(this.#buffer.subarray(this.#start, this.#end));
    if (decoded === undefined) return undefined;
    this.#start += decoded.length;
    if (decoded.frame.kind !== "data") return decoded.frame;
    this.#dataLeft = decoded.frame.length;
    return this.#nextData();
  }

  /** Forgets what was read. */
  clear(): void {
    this.#start = this.#end = 0;
  }

  #nextData(): Uint8Array | undefined {
    const data = this.#buffer.subarray(
      this.#start,
      Math.min(this.#end, this.#start + this.#dataLeft),
    );
    this.#start += data.length;
    this.#dataLeft -= data.length;
    return data.length > 0 ? data : undefined;
  }

  /** What is left is less than a frame, and goes to the front. */
  #makeRoom(): void {
    const isFull = this.#end === this.#buffer.length;
    const source = this.#buffer;
    if (isFull && source.length < BUFFER_LENGTH) this.#buffer = new Uint8Array(BUFFER_LENGTH);
    this.#buffer.set(source.subarray(this.#start, this.#end));
    this.#end -= this.#start;
    this.#start = 0;
  }
}

/** Ours: small messages and acknowledgements need no more. */
const SMALL_BUFFER_LENGTH = MAX_WHOLE_FRAME_LENGTH;

/** Ours: a full record. */
const BUFFER_LENGTH = 65_536;
