/**
 * Reads the messages of a transfer from a connection, and the bytes of files without copying them.
 *
 * @module
 */

import { malformed, NetworkError } from "../base/errors.ts";
import type { TcpConnection } from "../net/network.ts";
import { TransferError } from "./files.ts";
import {
  decodeTransferBody,
  decodeTransferHeader,
  HEADER_BYTES,
  MAX_REASON_BYTES,
  OFFER_BYTES,
  type TransferHeader,
  type TransferMessage,
  VERSION,
} from "./message.ts";
import { printable } from "./paths.ts";

/** The types of message that may come next, and how long each may be. */
export type ExpectedMessages = Readonly<Partial<Record<TransferHeader["type"], number>>>;

/**
 * Reads one message after another. A REFUSAL is thrown as an error.
 *
 * It has two buffers where a `BufferedReader` has one: the bytes of a file stay valid while the next ones are read, so
 * they can be written to disk meanwhile without a copy.
 */
export class TransferMessageReader {
  readonly #connection: TcpConnection;
  #buffer = new Uint8Array(BUFFER_BYTES);
  #other = new Uint8Array(BUFFER_BYTES);
  #start = 0;
  #end = 0;
  /** How many bytes of the current DATA message were not returned yet. */
  #dataLeft = 0;
  #isRefused = false;

  /** @param connection nothing else may read from it */
  constructor(connection: TcpConnection) {
    this.#connection = connection;
  }

  /** Whether the other side has sent REFUSAL, so that it needs no reason from this side. */
  get isRefused(): boolean {
    return this.#isRefused;
  }

  /**
   * The next message, which must be of this type.
   *
   * @throws as {@linkcode TransferMessageReader.next}
   */
  async expect<T extends TransferMessage["type"]>(
    type: T,
    maxLength: number,
  ): Promise<Extract<TransferMessage, { type: T }>> {
    const message = await this.next({ [type]: maxLength } as ExpectedMessages);
    return message as Extract<TransferMessage, { type: T }>; // the only one that next() lets through
  }

  /**
   * OFFER, of which only the start is read if it is of another version.
   *
   * @throws {OtherVersionError} if it is of another version
   * @throws as {@linkcode TransferMessageReader.next}
   */
  async expectOffer(): Promise<void> {
    const { type, length } = await this.#header({ offer: Infinity });
    if (type === "data") throw malformed("type", "data was received instead of offer");
    const start = await this.#body(type === "offer" ? Math.min(length, OFFER_BYTES) : length);
    this.#checked(decodeTransferBody(type, start));
    if (length > OFFER_BYTES) throw malformed("offer", `it has ${length} bytes`);
  }

  /**
   * The next message, or the next bytes of a file, which stay valid during the following call.
   *
   * @throws {MalformedMessageError} if the message is not expected now, too long or invalid
   * @throws {NetworkError} `reset` if the stream ends, or the connection's failure
   * @throws {TransferError} `declined` or `failed` if the other side sends REFUSAL
   */
  async next(expected: ExpectedMessages): Promise<TransferMessage | Uint8Array> {
    this.#makeRoom();
    if (this.#dataLeft === 0) {
      const { type, length } = await this.#header(expected);
      if (type !== "data") return this.#checked(decodeTransferBody(type, await this.#body(length)));
      if (length === 0) throw malformed("data", "it is empty");
      this.#dataLeft = length;
    }
    if (this.#buffered === 0) await this.#fill();
    const length = Math.min(this.#buffered, this.#dataLeft);
    this.#dataLeft -= length;
    return this.#take(length);
  }

  /** Reads and discards everything until the other side ends the stream. */
  async drain(): Promise<void> {
    while (await this.#connection.read(this.#buffer) !== null);
  }

  async #header(expected: ExpectedMessages): Promise<TransferHeader> {
    while (this.#buffered < HEADER_BYTES) await this.#fill();
    const header = decodeTransferHeader(this.#take(HEADER_BYTES));
    const max = header.type === "refusal" ? MAX_REASON_BYTES + 1 : expected[header.type];
    if (max === undefined) {
      const types = Object.keys(expected).join(" or ");
      throw malformed("type", `${header.type} was received instead of ${types}`);
    }
    if (header.length <= max) return header;
    throw malformed(header.type, `it has ${header.length} bytes, but ${max} are allowed`);
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
    const other = OTHER_VERSION.exec(message.reason)?.[1];
    if (other !== undefined) throw olderReceiver(other);
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
    throw new NetworkError("Cannot read: the other side ended the stream early", "reset");
  }

  /** Switches to the other buffer, at most once per call: this one holds what the previous call returned. */
  #makeRoom(): void {
    if (this.#buffered > 0 && this.#buffer.length - this.#start >= MIN_ROOM_BYTES) return;
    const rest = this.#buffer.subarray(this.#start, this.#end);
    this.#other.set(rest);
    [this.#buffer, this.#other] = [this.#other, this.#buffer];
    this.#start = 0;
    this.#end = rest.length;
  }
}

/** A receiver of an older version does not say which side to update. */
function olderReceiver(version: string): TransferError {
  return new TransferError(
    `Cannot send: the receiver speaks version ${version} of the file protocol, and the sender ` +
      `version ${VERSION}`,
    "version",
    { remedy: "Update punchline at the receiver" },
  );
}

/** How a receiver of version 1 refuses our OFFER. */
const OTHER_VERSION = new RegExp(`version ${VERSION} is not supported, only (\\d+)$`);

/** Chosen by us: with twice as much, a transfer takes 1.5 times as long, as the data no longer fits the caches. */
const BUFFER_BYTES = 256 * 1024;

/** Chosen by us: a few headers, and a read of a fair size after them. */
const MIN_ROOM_BYTES = 64 * 1024;
