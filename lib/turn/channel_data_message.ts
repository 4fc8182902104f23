/**
 * ChannelData, the short form of a relayed datagram: RFC 8656 §12.4.
 *
 * ```text
 *  0                   1                   2                   3
 *  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 * +-------------------------------+-------------------------------+
 * |         Channel Number        |            Length             |
 * +-------------------------------+-------------------------------+
 * /                       Application Data                        /
 * +---------------------------------------------------------------+
 * ```
 *
 * @module
 */

import { ByteReader } from "../base/bytes.ts";
import { MalformedMessageError } from "../base/errors.ts";
import { paddedLength, writeUint16 } from "../stun/codec.ts";

/** A datagram, and the channel that stands for its peer. */
export interface ChannelData {
  /** {@linkcode FIRST_CHANNEL} to {@linkcode LAST_CHANNEL}. */
  readonly channel: number;
  /** At most 65535 bytes. */
  readonly data: Uint8Array;
}

/** RFC 8656 §12. */
export const FIRST_CHANNEL = 0x4000;
/** RFC 8656 §12; RFC 5766 went on to 0x7fff. */
export const LAST_CHANNEL = 0x4fff;

/**
 * The bytes of a message, padded to a multiple of four as streams demand and datagrams allow.
 *
 * @throws {RangeError} if the channel is none, or the data are longer than 65535 bytes
 */
export function encodeChannelData({ channel, data }: ChannelData): Uint8Array<ArrayBuffer> {
  if (!isChannel(channel)) {
    throw new RangeError(
      `Cannot encode ChannelData: a channel is ${FIRST_CHANNEL} to ${LAST_CHANNEL}, not ${channel}`,
    );
  }
  if (data.length > 0xffff) {
    throw new RangeError(`Cannot encode ChannelData: ${data.length} bytes are more than 65535`);
  }
  const bytes = new Uint8Array(paddedLength(HEADER_LENGTH + data.length));
  writeUint16(bytes, 0, channel);
  writeUint16(bytes, 2, data.length);
  bytes.set(data, HEADER_LENGTH);
  return bytes;
}

/**
 * Reads a message. What follows the data is padding, of any length: RFC 8656 §12.5.
 *
 * @throws {MalformedMessageError} if the bytes are not ChannelData
 */
export function decodeChannelData(bytes: Uint8Array): ChannelData {
  const reader = new ByteReader(bytes, "ChannelData");
  const channel = reader.uint16("channel number");
  if (!isChannel(channel)) {
    throw new MalformedMessageError(`Cannot read ChannelData: ${channel} is no channel number`);
  }
  return { channel, data: reader.bytes(reader.uint16("length"), "application data") };
}

/** Whether what starts so is ChannelData, and not STUN. */
export function startsChannelData(bytes: Uint8Array): boolean {
  return bytes.length > 0 && bytes[0]! >> 4 === FIRST_CHANNEL >> 12;
}

function isChannel(number: number): boolean {
  return Number.isInteger(number) && number >= FIRST_CHANNEL && number <= LAST_CHANNEL;
}

const HEADER_LENGTH = 4;
