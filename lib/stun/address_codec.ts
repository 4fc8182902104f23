/**
 * Transport addresses in STUN attributes: RFC 8489 §14.1 and §14.2.
 *
 * @module
 */

import { MalformedMessageError } from "../base/errors.ts";
import { formatIp, ipFamily, ipToBytes, type TransportAddress } from "../net/address.ts";
import { checkInteger, checkLength, type ValueCodec, type ValueSpan } from "./attribute_codec.ts";
import { readUint16, readUint32, writeUint16, writeUint32 } from "./codec.ts";

/** An address as it is. */
export const transportAddress: ValueCodec<TransportAddress> = {
  byteLength: addressLength,
  write: writeAddress,
  read(message, span) {
    checkAddress(message, span);
    const { offset, length } = span;
    return {
      ip: length === IPV4_LENGTH
        ? formatIpv4(readUint32(message, offset + 4))
        : formatIp(message.subarray(offset + 4, offset + length)),
      port: readUint16(message, offset + 2),
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
    const length = addressLength(address);
    message[offset + 2]! ^= message[MASK_OFFSET]!;
    message[offset + 3]! ^= message[MASK_OFFSET + 1]!;
    for (let i = 4; i < length; i++) message[offset + i]! ^= message[MASK_OFFSET + i - 4]!;
  },
  read(message, span) {
    checkAddress(message, span);
    const { offset, length } = span;
    return {
      ip: length === IPV4_LENGTH
        ? formatIpv4(readUint32(message, offset + 4) ^ readUint32(message, MASK_OFFSET))
        : formatIp(unmask(message, offset + 4)),
      port: readUint16(message, offset + 2) ^ readUint16(message, MASK_OFFSET),
    };
  },
};

function addressLength({ ip, port }: TransportAddress): number {
  checkInteger(port, 0xffff);
  return ipFamily(ip) === 4 ? IPV4_LENGTH : IPV6_LENGTH;
}

function writeAddress({ ip, port }: TransportAddress, message: Uint8Array, offset: number): void {
  const family = ipFamily(ip);
  message[offset] = 0;
  message[offset + 1] = family === 4 ? FAMILY_IPV4 : FAMILY_IPV6;
  writeUint16(message, offset + 2, port);
  if (family === 4) writeUint32(message, offset + 4, ipv4Number(ip));
  else message.set(ipToBytes(ip), offset + 4);
}

function checkAddress(message: Uint8Array, span: ValueSpan): void {
  checkLength(span, IPV4_LENGTH, IPV6_LENGTH);
  const family = message[span.offset + 1];
  if (family !== FAMILY_IPV4 && family !== FAMILY_IPV6) {
    throw new MalformedMessageError(
      `Cannot read ${span.name}: address family ${family} is unknown`,
    );
  }
  const length = family === FAMILY_IPV4 ? IPV4_LENGTH : IPV6_LENGTH;
  checkLength(span, length, length);
}

function unmask(message: Uint8Array, offset: number): number[] {
  const bytes: number[] = [];
  for (let i = 0; i < 16; i++) bytes.push(message[offset + i]! ^ message[MASK_OFFSET + i]!);
  return bytes;
}

/** Like `formatIp()`, without an array: servers and tests do this for every datagram. */
function formatIpv4(value: number): string {
  return `${value >>> 24}.${(value >>> 16) & 0xff}.${(value >>> 8) & 0xff}.${value & 0xff}`;
}

/** Like `ipToBytes()`, without an array. */
function ipv4Number(ip: string): number {
  if (!IPV4.test(ip)) {
    throw new TypeError(`Cannot encode address: ${JSON.stringify(ip)} is not an IP address`);
  }
  let value = 0;
  let byte = 0;
  for (let i = 0; i < ip.length; i++) {
    const digit = ip.charCodeAt(i) - 0x30;
    if (digit >= 0) {
      byte = byte * 10 + digit;
    } else {
      value = value * 256 + byte;
      byte = 0;
    }
  }
  return value * 256 + byte;
}

const IPV4 = /^(?:(?:\d|[1-9]\d|1\d\d|2[0-4]\d|25[0-5])(?:\.(?=\d)|$)){4}$/;

/** Where the magic cookie and the transaction id stand, sixteen bytes. */
const MASK_OFFSET = 4;

/** RFC 8489 §14.1. */
const FAMILY_IPV4 = 0x01;
const FAMILY_IPV6 = 0x02;
const IPV4_LENGTH = 8;
const IPV6_LENGTH = 20;
