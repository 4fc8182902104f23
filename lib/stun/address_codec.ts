/**
 * Transport addresses in STUN attributes: RFC 8489 §14.1 and §14.2.
 *
 * @module
 */

import { MalformedMessageError } from "../errors.ts";
import { formatIp, ipFamily, ipToBytes, type TransportAddress } from "../net/address.ts";
import { checkInteger, checkLength, type ValueCodec, type ValueSpan } from "./attribute_codec.ts";
import { readUint16, writeUint16 } from "./layout.ts";

/** An address as it is. */
export const transportAddress: ValueCodec<TransportAddress> = {
  byteLength: addressLength,
  write: (address, message, offset) => writeAddress(address, message, offset),
  read(message, span) {
    return {
      ip: formatIp(addressBytes(message, span)),
      port: readUint16(message, span.offset + 2),
    };
  },
};

/**
 * An address combined by exclusive or with the magic cookie and the transaction id, so that NATs that
 * rewrite addresses in the payload do not find it.
 */
export const xorTransportAddress: ValueCodec<TransportAddress> = {
  byteLength: addressLength,
  write(address, message, offset) {
    writeAddress(address, message, offset);
    mask(message, message.subarray(offset + 2, offset + 4));
    mask(message, message.subarray(offset + 4, offset + addressLength(address)));
  },
  read(message, span) {
    const bytes = addressBytes(message, span).slice();
    mask(message, bytes);
    const port = readUint16(message, span.offset + 2) ^ readUint16(message, MASK_OFFSET);
    return { ip: formatIp(bytes), port };
  },
};

function addressLength({ ip, port }: TransportAddress): number {
  checkInteger(port, 0xffff);
  return ipFamily(ip) === 4 ? IPV4_LENGTH : IPV6_LENGTH;
}

function writeAddress({ ip, port }: TransportAddress, message: Uint8Array, offset: number): void {
  message[offset] = 0;
  message[offset + 1] = ipFamily(ip) === 4 ? FAMILY_IPV4 : FAMILY_IPV6;
  writeUint16(message, offset + 2, port);
  message.set(ipToBytes(ip), offset + 4);
}

function addressBytes(message: Uint8Array, span: ValueSpan): Uint8Array {
  checkLength(span, IPV4_LENGTH, IPV6_LENGTH);
  const { name, offset, length } = span;
  const family = message[offset + 1];
  if (family !== FAMILY_IPV4 && family !== FAMILY_IPV6) {
    throw new MalformedMessageError(`Cannot read ${name}: address family ${family} is unknown`);
  }
  const expected = family === FAMILY_IPV4 ? IPV4_LENGTH : IPV6_LENGTH;
  checkLength(span, expected, expected);
  return message.subarray(offset + 4, offset + length);
}

function mask(message: Uint8Array, bytes: Uint8Array): void {
  for (let i = 0; i < bytes.length; i++) bytes[i]! ^= message[MASK_OFFSET + i]!;
}

/** Where the magic cookie and the transaction id stand, sixteen bytes. */
const MASK_OFFSET = 4;

/** RFC 8489 §14.1. */
const FAMILY_IPV4 = 0x01;
const FAMILY_IPV6 = 0x02;
const IPV4_LENGTH = 8;
const IPV6_LENGTH = 20;
