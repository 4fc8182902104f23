/**
 * STUN over a byte stream: RFC 8489 §6.2.2, where the length field says where a message ends.
 *
 * @module
 */

import { MalformedMessageError } from "../base/errors.ts";
import type { TcpConnection } from "../net/network.ts";
import { HEADER_LENGTH, MAGIC_COOKIE, paddedLength, readUint16, readUint32 } from "./codec.ts";

/** What {@linkcode readMessages} puts up with. */
export interface ReadMessagesOptions {
  /** In bytes with the header; 4096 unless given. */
  readonly maxLength?: number;
}

/** What a {@linkcode MessageReader} puts up with. */
export interface MessageReaderOptions extends ReadMessagesOptions {
  /** Whether TURN's ChannelData (RFC 8656 §12.4) comes between the messages; not unless given. */
  readonly channelData?: boolean;
}

/**
 * The messages that arrive on a connection, each in bytes of its own, until the peer sends no more. Closing
 * the connection ends a wait.
 *
 * @throws {MalformedMessageError} as soon as what arrives cannot be the start of a message, is longer than
 * allowed, or ends in the middle of one; the stream cannot be read on after that
 * @throws {NetworkError} if the connection fails
 */
export async function* readMessages(
  connection: TcpConnection,
  options: ReadMessagesOptions = {},
): AsyncGenerator<Uint8Array<ArrayBuffer>, void> {
  const reader = new MessageReader(connection, options);
  while (true) {
    const message = await reader.next();
    if (message === undefined) return;
    yield message;
  }
}

/** Reads messages from a connection that may become another protocol's behind one of them. */
export class MessageReader {
  readonly #connection: TcpConnection;
  readonly #options: Required<MessageReaderOptions>;
  #buffer: Uint8Array<ArrayBuffer>;
  #start = 0;
  #end = 0;

  constructor(connection: TcpConnection, options: MessageReaderOptions = {}) {
    const { maxLength = DEFAULT_MAX_LENGTH, channelData = false } = options;
    this.#connection = connection;
    this.#options = { maxLength, channelData };
    this.#buffer = new Uint8Array(channelData ? DATA_BUFFER_LENGTH : INITIAL_BUFFER_LENGTH);
  }

  /**
   * The next message, in bytes of its own and with its padding; `undefined` at the end of the stream. One
   * call at a time.
   *
   * @throws {MalformedMessageError} as {@linkcode readMessages}
   * @throws {NetworkError} if the connection fails
   */
  async next(): Promise<Uint8Array<ArrayBuffer> | undefined> {
    while (true) {
      const length = announcedLength(this.#unread, this.#options);
      if (length <= this.#unread.length) {
        this.#start += length;
        return this.#buffer.slice(this.#start - length, this.#start);
      }
      this.#makeRoom(length);
      const count = await this.#connection.read(this.#buffer.subarray(this.#end));
      if (count === null) {
        if (this.#end === 0) return undefined;
        throw new MalformedMessageError(
          `Cannot read STUN stream: it ends ${this.#end} bytes into a message`,
        );
      }
      this.#end += count;
    }
  }

  /** What was read from the connection behind the last message: nobody else will get it. */
  takeRest(): Uint8Array<ArrayBuffer> {
    const rest = this.#buffer.slice(this.#start, this.#end);
    this.#start = this.#end;
    return rest;
  }

  get #unread(): Uint8Array {
    return this.#buffer.subarray(this.#start, this.#end);
  }

  #makeRoom(length: number): void {
    if (length > this.#buffer.length) {
      const larger = new Uint8Array(length);
      larger.set(this.#unread);
      this.#buffer = larger;
    } else {
      this.#buffer.copyWithin(0, this.#start, this.#end);
    }
    this.#end -= this.#start;
    this.#start = 0;
  }
}

/**
 * Writes all of a message.
 *
 * @throws {NetworkError} if the connection fails
 */
export async function writeMessage(connection: TcpConnection, message: Uint8Array): Promise<void> {
  let written = 0;
  while (written < message.length) written += await connection.write(message.subarray(written));
}

/** How long the message is that starts here, with its padding; a header's length while that is not known. */
function announcedLength(
  received: Uint8Array,
  { maxLength, channelData }: Required<MessageReaderOptions>,
): number {
  const isChannelData = channelData && received.length >= 1 && isChannelDataByte(received[0]!);
  if (received.length >= 1 && received[0]! > 0x3f && !isChannelData) {
    throw new MalformedMessageError(
      `Cannot read STUN stream: a message starts with two zero bits, not with byte ${received[0]}`,
    );
  }
  if (isChannelData) return received.length < 4 ? 4 : channelDataLength(received, maxLength);
  if (received.length < 4) return HEADER_LENGTH;
  const length = HEADER_LENGTH + readUint16(received, 2);
  if (length > maxLength || length % 4 !== 0) {
    throw new MalformedMessageError(
      `Cannot read STUN stream: the length of a message is a multiple of 4 up to ${maxLength}, not ${length}`,
    );
  }
  // RFC 3489, which has no cookie, knows no Binding over a stream: this is another protocol.
  if (received.length >= 8 && readUint32(received, 4) !== MAGIC_COOKIE) {
    throw new MalformedMessageError("Cannot read STUN stream: a message has no magic cookie");
  }
  return length;
}

/** RFC 8656 §12: the first byte of a channel number, 0x4000 to 0x4fff. */
function isChannelDataByte(byte: number): boolean {
  return byte >= 0x40 && byte <= 0x4f;
}

/** RFC 8656 §12.5: over a stream, padded to a multiple of four that the length does not count. */
function channelDataLength(received: Uint8Array, maxLength: number): number {
  const length = paddedLength(4 + readUint16(received, 2));
  if (length <= maxLength) return length;
  throw new MalformedMessageError(
    `Cannot read STUN stream: ChannelData of ${length} bytes is longer than ${maxLength}`,
  );
}

/** Ours: a dozen times what Binding takes. Only a peer that announces a longer message makes it grow. */
const DEFAULT_MAX_LENGTH = 4096;
const INITIAL_BUFFER_LENGTH = 512;

/** Ours: ten or more datagrams with one read. */
const DATA_BUFFER_LENGTH = 16 * 1024;
