/**
 * STUN messages on a byte stream (RFC 8489 §6.2.2), with TURN's ChannelData between them (RFC 8656 §12.5).
 *
 * @module
 */

import { malformed } from "../base/errors.ts";
import { BufferedReader } from "../base/reader.ts";
import type { TcpConnection } from "../net/network.ts";
import { HEADER_LENGTH, MAGIC_COOKIE, paddedLength, readUint16, readUint32 } from "./codec.ts";

/** The limits of {@linkcode readMessages}. */
export interface ReadMessagesOptions {
  /** The longest message to accept, in bytes with its header. Default: 4096. */
  readonly maxLength?: number;
}

/** What a {@linkcode StunMessageReader} accepts. */
export interface StunMessageReaderOptions extends ReadMessagesOptions {
  /** Whether to accept TURN's ChannelData (RFC 8656 §12.4) between the messages. Default: `false`. */
  readonly channelData?: boolean;
}

/**
 * The messages that arrive on a connection, each in bytes of its own, until the peer finishes sending. Closing the
 * connection ends a pending read.
 *
 * @throws {MalformedMessageError} as soon as the bytes cannot be the start of a message, announce one that is too
 * long, or end inside one; the stream is of no use after that
 * @throws {NetworkError} if the connection fails
 */
export async function* readMessages(
  connection: TcpConnection,
  options: ReadMessagesOptions = {},
): AsyncGenerator<Uint8Array<ArrayBuffer>, void> {
  const reader = new StunMessageReader(connection, options);
  while (true) {
    const message = await reader.next();
    if (message === undefined) return;
    yield message;
  }
}

/** Reads messages from a connection that may switch to another protocol after one of them. */
export class StunMessageReader {
  readonly #reader: BufferedReader;
  readonly #options: Required<StunMessageReaderOptions>;

  /** @param connection not to be read by anything else until {@linkcode StunMessageReader.takeRest} */
  constructor(connection: TcpConnection, options: StunMessageReaderOptions = {}) {
    const { maxLength = DEFAULT_MAX_LENGTH, channelData = false } = options;
    this.#options = { maxLength, channelData };
    this.#reader = new BufferedReader(connection, {
      initialLength: channelData ? CHANNEL_DATA_BUFFER_LENGTH : INITIAL_BUFFER_LENGTH,
    });
  }

  /**
   * The next message, in bytes of its own and with its padding; `undefined` at the end of the stream. Only one call
   * may be pending.
   *
   * @throws {MalformedMessageError} as {@linkcode readMessages}
   * @throws {NetworkError} if the connection fails
   */
  async next(): Promise<Uint8Array<ArrayBuffer> | undefined> {
    const reader = this.#reader;
    while (true) {
      const length = announcedLength(reader.unread, this.#options);
      if (length <= reader.buffered) return reader.take(length).slice();
      if (await reader.fill(length)) continue;
      if (reader.buffered === 0) return undefined;
      throw malformed("STUN stream", `it ends ${reader.buffered} bytes into a message`);
    }
  }

  /** Takes the bytes that were read past the last message. They are nowhere else. */
  takeRest(): Uint8Array<ArrayBuffer> {
    return this.#reader.take(this.#reader.buffered).slice();
  }
}

/** The length of the message that starts here, with its padding; the length of a header until a whole one has arrived. */
function announcedLength(
  received: Uint8Array,
  { maxLength, channelData }: Required<StunMessageReaderOptions>,
): number {
  const isChannelData = channelData && received.length >= 1 && isChannelDataByte(received[0]!);
  if (received.length >= 1 && received[0]! > 0x3f && !isChannelData) {
    throw malformed(
      "STUN stream",
      `a message starts with two zero bits, not with byte ${received[0]}`,
    );
  }
  if (isChannelData) return received.length < 4 ? 4 : channelDataLength(received, maxLength);
  if (received.length < 4) return HEADER_LENGTH;
  const length = HEADER_LENGTH + readUint16(received, 2);
  if (length > maxLength || length % 4 !== 0) {
    throw malformed(
      "STUN stream",
      `the length of a message is a multiple of 4 up to ${maxLength}, not ${length}`,
    );
  }
  // RFC 3489 has no cookie, but it has no Binding over a stream either: this is another protocol.
  if (received.length >= 8 && readUint32(received, 4) !== MAGIC_COOKIE) {
    throw malformed("STUN stream", "a message has no magic cookie");
  }
  return length;
}

/** RFC 8656 §12: the first byte of a channel number, 0x4000 to 0x4fff. */
function isChannelDataByte(byte: number): boolean {
  return byte >= 0x40 && byte <= 0x4f;
}

/** RFC 8656 §12.5: on a stream, ChannelData is padded to a multiple of four that its length does not count. */
function channelDataLength(received: Uint8Array, maxLength: number): number {
  const length = paddedLength(4 + readUint16(received, 2));
  if (length <= maxLength) return length;
  throw malformed("STUN stream", `ChannelData of ${length} bytes is longer than ${maxLength}`);
}

/** Chosen by us: a dozen times the length of a Binding message. */
const DEFAULT_MAX_LENGTH = 4096;

/** Chosen by us: enough for most messages. The buffer grows only when the peer announces a longer one. */
const INITIAL_BUFFER_LENGTH = 512;

/** Chosen by us: ten or more datagrams with one read. */
const CHANNEL_DATA_BUFFER_LENGTH = 16 * 1024;
