/**
 * STUN over a byte stream: RFC 8489 §6.2.2, where the length field says where a message ends.
 *
 * @module
 */

import { MalformedMessageError } from "../errors.ts";
import type { TcpConnection } from "../net/network.ts";
import { HEADER_LENGTH, MAGIC_COOKIE, readUint16, readUint32 } from "./layout.ts";

/** What {@linkcode readMessages} puts up with. */
export interface ReadMessagesOptions {
  /** In bytes with the header; 4096 unless given. */
  readonly maxLength?: number;
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
  const { maxLength = DEFAULT_MAX_LENGTH } = options;
  let buffer = new Uint8Array(INITIAL_BUFFER_LENGTH);
  let start = 0;
  let end = 0;
  while (true) {
    const length = announcedLength(buffer.subarray(start, end), maxLength);
    if (length <= end - start) {
      yield buffer.slice(start, start + length);
      start += length;
      continue;
    }

    if (length > buffer.length) {
      const larger = new Uint8Array(length);
      larger.set(buffer.subarray(start, end));
      buffer = larger;
    } else {
      buffer.copyWithin(0, start, end);
    }
    end -= start;
    start = 0;

    const count = await connection.read(buffer.subarray(end));
    if (count === null) {
      if (end === 0) return;
      throw new MalformedMessageError(
        `Cannot read STUN stream: it ends ${end} bytes into a message`,
      );
    }
    end += count;
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

/** How long the message is that starts here; a header's length while that is not known. */
function announcedLength(received: Uint8Array, maxLength: number): number {
  if (received.length >= 1 && received[0]! > 0x3f) {
    throw new MalformedMessageError(
      `Cannot read STUN stream: a message starts with two zero bits, not with byte ${received[0]}`,
    );
  }
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

/** Ours: a dozen times what Binding takes. Only a peer that announces a longer message makes it grow. */
const DEFAULT_MAX_LENGTH = 4096;
const INITIAL_BUFFER_LENGTH = 512;
