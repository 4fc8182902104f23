/**
 * The attributes of TURN: RFC 8656, RFC 6062 (TCP allocations) and RFC 8016 (mobility).
 *
 * @module
 */

import { malformed } from "../base/errors.ts";
import type { IpFamily, TransportAddress } from "../net/address.ts";
import { errorCode, type StunErrorCode } from "./attribute_tables.ts";
import {
  type AttributeTable,
  checkInteger,
  checkLength,
  leadingNumber,
  opaque,
  readUint16,
  readUint32,
  uint32,
  type ValueCodec,
  writeUint16,
  writeUint32,
  xorTransportAddress,
} from "./codec.ts";

/** The values of the attributes of TURN. */
export interface TurnAttributeValues {
  /** RFC 8656 §18.1: 0x4000 to 0x4fff. */
  "CHANNEL-NUMBER": number;
  /** RFC 8656 §18.2: seconds. */
  "LIFETIME": number;
  /** RFC 8656 §18.3 */
  "XOR-PEER-ADDRESS": TransportAddress;
  /** RFC 8656 §18.4: a datagram from or to the peer. */
  "DATA": Uint8Array;
  /** RFC 8656 §18.5 */
  "XOR-RELAYED-ADDRESS": TransportAddress;
  /** RFC 8656 §18.6 */
  "REQUESTED-ADDRESS-FAMILY": IpFamily;
  /** RFC 8656 §18.7 */
  "EVEN-PORT": EvenPort;
  /** RFC 8656 §18.8: the protocol of the relayed address, by its number in the IP header. */
  "REQUESTED-TRANSPORT": number;
  /** RFC 8656 §18.9: a flag without a value. */
  "DONT-FRAGMENT": true;
  /** RFC 8656 §18.10: eight bytes. */
  "RESERVATION-TOKEN": Uint8Array;
  /** RFC 8656 §18.11: the family to allocate in addition to IPv4. */
  "ADDITIONAL-ADDRESS-FAMILY": IpFamily;
  /** RFC 8656 §18.12: why an address of this family was not allocated. */
  "ADDRESS-ERROR-CODE": AddressErrorCode;
  /** ADDITIONAL-ADDRESS-FAMILY with the number of the draft (SSODA) that coturn 4.6 still uses. */
  "SSODA-ADDITIONAL-ADDRESS-FAMILY": IpFamily;
  /** ADDRESS-ERROR-CODE with the number of that draft. */
  "SSODA-ADDRESS-ERROR-CODE": AddressErrorCode;
  /** RFC 8656 §18.13 */
  "ICMP": IcmpReport;
  /** RFC 6062 §6.2.1 */
  "CONNECTION-ID": number;
  /** RFC 8016 §3.1.1: empty to request one. */
  "MOBILITY-TICKET": Uint8Array;
}

/** RFC 8656 §18.7: an even port, and on request the next port reserved. */
export interface EvenPort {
  /** The R bit. */
  readonly reserveNext: boolean;
}

/** RFC 8656 §18.12: an address family that was not allocated, and why. */
export interface AddressErrorCode extends StunErrorCode {
  /** The family that was not allocated. */
  readonly family: IpFamily;
}

/** RFC 8656 §18.13: an ICMP packet that the server received for a datagram that it relayed. */
export interface IcmpReport {
  /** 0 to 127: the type in ICMP or, for a peer with an IPv6 address, in ICMPv6. */
  readonly type: number;
  /** 0 to 511. */
  readonly code: number;
  /** Further data of the packet, such as the MTU of the next hop. */
  readonly data: number;
}

const addressFamily: ValueCodec<IpFamily> = {
  byteLength: () => 4,
  write: (family, message, offset) => writeUint32(message, offset, FAMILIES[family] * 0x100_0000),
  read(message, span) {
    checkLength(span, 4, 4);
    return readFamily(message[span.offset]!, span.name);
  },
};

const channelNumber = leadingNumber(2);
const protocol = leadingNumber(1);

const evenPort: ValueCodec<EvenPort> = {
  byteLength: () => 1,
  write({ reserveNext }, message, offset) {
    message[offset] = reserveNext ? 0x80 : 0;
  },
  read(message, span) {
    checkLength(span, 1, 1);
    return { reserveNext: (message[span.offset]! & 0x80) !== 0 };
  },
};

const flag: ValueCodec<true> = {
  byteLength: () => 0,
  write: () => {},
  read(_, span) {
    checkLength(span, 0, 0);
    return true;
  },
};

/** ERROR-CODE with the family in its first byte, which is reserved in ERROR-CODE. */
const addressErrorCode: ValueCodec<AddressErrorCode> = {
  byteLength: (value) => errorCode.byteLength(value),
  write(value, message, offset) {
    errorCode.write(value, message, offset);
    message[offset] = FAMILIES[value.family];
  },
  read(message, span) {
    const { code, reason } = errorCode.read(message, span);
    return { family: readFamily(message[span.offset]!, span.name), code, reason };
  },
};

const icmp: ValueCodec<IcmpReport> = {
  byteLength({ type, code, data }) {
    checkInteger(type, 0x7f);
    checkInteger(code, 0x1ff);
    checkInteger(data, 0xffff_ffff);
    return 8;
  },
  write({ type, code, data }, message, offset) {
    writeUint16(message, offset, 0);
    writeUint16(message, offset + 2, (type << 9) | code);
    writeUint32(message, offset + 4, data);
  },
  read(message, span) {
    checkLength(span, 8, 8);
    const typeAndCode = readUint16(message, span.offset + 2);
    return {
      type: typeAndCode >> 9,
      code: typeAndCode & 0x1ff,
      data: readUint32(message, span.offset + 4),
    };
  },
};

function readFamily(byte: number, name: string): IpFamily {
  if (byte === FAMILIES[4]) return 4;
  if (byte === FAMILIES[6]) return 6;
  throw malformed(name, `address family ${byte} is unknown`);
}

/** RFC 8656 §18.6. */
const FAMILIES: Readonly<Record<IpFamily, number>> = { 4: 0x01, 6: 0x02 };

/** The rows of RFC 8656 §18, RFC 6062 §6.2 and RFC 8016 §6. */
export const TURN_ATTRIBUTES: AttributeTable<TurnAttributeValues> = {
  "CHANNEL-NUMBER": { code: 0x000c, codec: channelNumber },
  "LIFETIME": { code: 0x000d, codec: uint32 },
  "XOR-PEER-ADDRESS": { code: 0x0012, codec: xorTransportAddress },
  "DATA": { code: 0x0013, codec: opaque() },
  "XOR-RELAYED-ADDRESS": { code: 0x0016, codec: xorTransportAddress },
  "REQUESTED-ADDRESS-FAMILY": { code: 0x0017, codec: addressFamily },
  "EVEN-PORT": { code: 0x0018, codec: evenPort },
  "REQUESTED-TRANSPORT": { code: 0x0019, codec: protocol },
  "DONT-FRAGMENT": { code: 0x001a, codec: flag },
  "RESERVATION-TOKEN": { code: 0x0022, codec: opaque(8, 8) },
  "CONNECTION-ID": { code: 0x002a, codec: uint32 },
  "ADDITIONAL-ADDRESS-FAMILY": { code: 0x8000, codec: addressFamily },
  "ADDRESS-ERROR-CODE": { code: 0x8001, codec: addressErrorCode },
  "ICMP": { code: 0x8004, codec: icmp },
  "MOBILITY-TICKET": { code: 0x8030, codec: opaque() },
  "SSODA-ADDITIONAL-ADDRESS-FAMILY": { code: 0x8032, codec: addressFamily },
  "SSODA-ADDRESS-ERROR-CODE": { code: 0x8033, codec: addressErrorCode },
};
