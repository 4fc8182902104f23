/**
 * The attributes of RFC 5780, NAT Behavior Discovery Using STUN.
 *
 * @module
 */

import type { TransportAddress } from "../net/address.ts";
import {
  type AttributeTable,
  checkInteger,
  checkLength,
  opaque,
  transportAddress,
} from "./attribute_codec.ts";
import { readUint16 } from "./layout.ts";

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
  readonly changeIp: boolean;
  readonly changePort: boolean;
}

/** The rows of RFC 5780 §9.1. */
export const RFC5780_ATTRIBUTES: AttributeTable<Rfc5780AttributeValues> = {
  "CHANGE-REQUEST": {
    code: 0x0003,
    codec: { encode: encodeChangeRequest, decode: decodeChangeRequest },
  },
  "PADDING": { code: 0x0026, codec: opaque() },
  "RESPONSE-PORT": {
    code: 0x0027,
    codec: { encode: encodeResponsePort, decode: decodeResponsePort },
  },
  "RESPONSE-ORIGIN": { code: 0x802b, codec: transportAddress },
  "OTHER-ADDRESS": { code: 0x802c, codec: transportAddress },
};

function encodeChangeRequest({ changeIp, changePort }: ChangeRequest): Uint8Array {
  return Uint8Array.of(0, 0, 0, (changeIp ? CHANGE_IP : 0) | (changePort ? CHANGE_PORT : 0));
}

function decodeChangeRequest(bytes: Uint8Array, _mask: Uint8Array, name: string): ChangeRequest {
  checkLength(bytes, 4, 4, name);
  const flags = bytes[3]!;
  return { changeIp: (flags & CHANGE_IP) !== 0, changePort: (flags & CHANGE_PORT) !== 0 };
}

/**
 * RFC 5780 §7.5: 16 bits "followed by 2 bytes of padding". The length of an attribute does not count its
 * padding, so it is 2, as stuntman writes it; coturn counts it and writes 4.
 */
function encodeResponsePort(port: number): Uint8Array {
  checkInteger(port, 0xffff);
  return Uint8Array.of(port >> 8, port);
}

function decodeResponsePort(bytes: Uint8Array, _mask: Uint8Array, name: string): number {
  if (bytes.length !== 4) checkLength(bytes, 2, 2, name);
  return readUint16(bytes, 0);
}

/** RFC 5780 §7.2. */
const CHANGE_IP = 0x04;
const CHANGE_PORT = 0x02;
