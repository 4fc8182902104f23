/**
 * The attributes of RFC 5780, NAT Behavior Discovery Using STUN.
 *
 * @module
 */

import type { TransportAddress } from "../net/address.ts";
import { transportAddress } from "./address_codec.ts";
import {
  type AttributeTable,
  checkInteger,
  checkLength,
  opaque,
  type ValueSpan,
} from "./attribute_codec.ts";
import { readUint16, readUint32, writeUint16, writeUint32 } from "./codec.ts";

/** What the attributes of RFC 5780 §7 hold. */
export interface Rfc5780AttributeValues {
  /** §7.2: from where the response shall come. */
  "CHANGE-REQUEST": ChangeRequest;
  /** §7.3: where the response came from. */
  "RESPONSE-ORIGIN": TransportAddress;
  /** §7.4: where a response comes from if both address and port are to change. */
  "OTHER-ADDRESS": TransportAddress;
  /** §7.5: the port to which the response shall go. */
  "RESPONSE-PORT": number;
  /** §7.6: makes a message long enough to be fragmented. */
  "PADDING": Uint8Array;
}

/** RFC 5780 §7.2: send the response from the other IP address, the other port, or both. */
export interface ChangeRequest {
  /** From the server's other IP address. */
  readonly changeIp: boolean;
  /** From the server's other port. */
  readonly changePort: boolean;
}

/** The rows of RFC 5780 §9.1. */
export const RFC5780_ATTRIBUTES: AttributeTable<Rfc5780AttributeValues> = {
  "CHANGE-REQUEST": {
    code: 0x0003,
    codec: { byteLength: () => 4, write: writeChangeRequest, read: readChangeRequest },
  },
  "PADDING": { code: 0x0026, codec: opaque() },
  "RESPONSE-PORT": {
    code: 0x0027,
    codec: { byteLength: responsePortLength, write: writeResponsePort, read: readResponsePort },
  },
  "RESPONSE-ORIGIN": { code: 0x802b, codec: transportAddress },
  "OTHER-ADDRESS": { code: 0x802c, codec: transportAddress },
};

function writeChangeRequest(value: ChangeRequest, message: Uint8Array, offset: number): void {
  const { changeIp, changePort } = value;
  writeUint32(message, offset, (changeIp ? CHANGE_IP : 0) | (changePort ? CHANGE_PORT : 0));
}

function readChangeRequest(message: Uint8Array, span: ValueSpan): ChangeRequest {
  checkLength(span, 4, 4);
  const flags = readUint32(message, span.offset);
  return { changeIp: (flags & CHANGE_IP) !== 0, changePort: (flags & CHANGE_PORT) !== 0 };
}

/**
 * RFC 5780 §7.5: 16 bits "followed by 2 bytes of padding". The length of an attribute does not count its
 * padding, so it is 2, as stuntman writes it; coturn counts it and writes 4.
 */
function responsePortLength(port: number): number {
  checkInteger(port, 0xffff);
  return 2;
}

function writeResponsePort(port: number, message: Uint8Array, offset: number): void {
  writeUint16(message, offset, port);
}

function readResponsePort(message: Uint8Array, span: ValueSpan): number {
  if (span.length !== 4) checkLength(span, 2, 2);
  return readUint16(message, span.offset);
}

/** RFC 5780 §7.2. */
const CHANGE_IP = 0x04;
const CHANGE_PORT = 0x02;
