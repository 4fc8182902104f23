/**
 * Reads the messages of a transfer from a connection, and the bytes of files without copying them.
 *
 * @module
 */

import { MalformedMessageError, NetworkError } from "../base/errors.ts";
import type { TcpConnection } from "../net/network.ts";
import { TransferError } from "./files.ts";
import {
  decodeBody,
  decodeHeader,
  HEADER_BYTES,
  MAX_REASON_BYTES,
  type MessageHeader,
  type TransferMessage,
} from "./message.ts";
import { printable } from "./paths.ts";

/** How long each type of message may be that can come now; others cannot. */
export type Expected = Readonly<Partial<Record<MessageHeader["type"], number>>>;

/** Reads one message after another; a refusal is thrown, whenever it comes. */
export class MessageReader {
  readonly #connection: TcpConnection;
  #buffer = new Uint8Array(BUFFER_BYTES);
  #other = new Uint8Array(BUFFER_BYTES);
  #start = 0;
  #end = 0;
  /** What has not been read yet of the bytes of a file. */
  #dataLeft = 0;
  #isRefused = false;

  /** @param connection of which nobody else reads */
  constructor(connection: TcpConnection) {
    this.#connection = connection;
  }

  /** Whether the other side has refused to go on, so that it needs no reason from here. */
  get isRefused(): boolean {
    return this.#isRefused;
  }

  /**
   * The next message, which is of that type.
   *
   * @throws as {@linkcode MessageReader.next}
   */
  async expect<T extends TransferMessage["type"]>(
    type: T,
    maxLength: number,
  ): Promise<Extract<TransferMessage, { type: T }>> {
    const message = await this.next({ [type]: maxLength } as Expected);
    return message as Extract<TransferMessage, { type: T }>; // nothing else was expected
  }

  /**
   * The next message, or the next bytes of a file, which stay as they are until the call after the next.
   *
   * @throws {MalformedMessageError} if it is not among those that are expected
   * @throws {NetworkError} `reset` if the stream ends, or what the connection fails with
   * @throws {TransferError} `declined` or `failed` if the other side refuses to go on
   */
  async next(expected: Expected): Promise<TransferMessage | Uint8Array> {
    this.#makeRoom();
    if (this.#dataLeft === 0) {
      const { type, length } = await this.#header(expected);
      if (type !== "data") return this.#checked(decodeBody(type, await this.#body(length)));
      if (length === 0) throw new MalformedMessageError("Cannot read data: there are no bytes");
      this.#dataLeft = length;
    }
    if (this.#buffered === 0) await this.#fill();
    const length = Math.min(this.#buffered, this.#dataLeft);
    this.#dataLeft -= length;
    return this.#take(length);
  }

  /** Reads and forgets what still comes, until the other side ends the stream. */
  async drain(): Promise<void> {
    while (await this.#connection.read(this.#buffer) !== null);
  }

  async #header(expected: Expected): Promise<MessageHeader> {
    while (this.#buffered < HEADER_BYTES) await this.#fill();
    const header = decodeHeader(this.#take(HEADER_BYTES));
    const max = header.type === "refusal" ? MAX_REASON_BYTES + 1 : expected[header.type];
    if (max === undefined) {
      throw new MalformedMessageError(
        `Cannot read type: ${header.type} comes where ${Object.keys(expected).join(" or ")} should`,
      );
    }
    if (header.length <= max) return header;
    throw new MalformedMessageError(
      `Cannot read ${header.type}: ${header.length} bytes, ${max} are allowed`,
    );
  }

  async #body(length: number): Promise<Uint8Array> {
    if (length <= this.#buffered) return this.#take(length);
    const body = new Uint8Array(length);
    let filled = this.#buffered;
    body.set(this.#take(filled));
    while (filled < length) {
      filled += this.#count(await this.#connection.read(body.subarray(filled)));
    }
    return body;
  }

  #checked(message: TransferMessage): TransferMessage {
    if (message.type !== "refusal") return message;
    this.#isRefused = true;
    throw message.code === "declined"
      ? new TransferError("The other side declined the offer", "declined")
      : new TransferError(`The other side gave up: ${printable(message.reason)}`, "failed");
  }

  get #buffered(): number {
    return this.#end - this.#start;
  }

  #take(length: number): Uint8Array {
    this.#start += length;
    return this.#buffer.subarray(this.#start - length, this.#start);
  }

  async #fill(): Promise<void> {
    this.#end += this.#count(await this.#connection.read(this.#buffer.subarray(this.#end)));
  }

  #count(read: number | null): number {
    if (read !== null) return read;
    throw new NetworkError("Cannot read: the other side has ended before it was done", "reset");
  }

  /** Goes on in the other buffer, at most once in a call: what the call before gave out is in this one. */
  #makeRoom(): void {
    if (this.#buffered > 0 && this.#buffer.length - this.#start >= MIN_ROOM_BYTES) return;
    const rest = this.#buffer.subarray(this.#start, this.#end);
    this.#other.set(rest);
    [this.#buffer, this.#other] = [this.#other, this.#buffer];
    this.#start = 0;
    this.#end = rest.length;
  }
}

/** Ours: two of them for each connection; twice as much took half as long again, as it leaves the caches. */
const BUFFER_BYTES = 256 * 1024;

/** Ours: a few headers, and a read of some size behind them. */
const MIN_ROOM_BYTES = 64 * 1024;
