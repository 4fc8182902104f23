/**
 * What must hold for any input of the decoders of PCP and NAT-PMP.
 *
 * @module
 */

import { equalBytes } from "../../lib/base/bytes.ts";
import { MalformedMessageError } from "../../lib/base/errors.ts";
import { decodeAnnouncement } from "../../lib/portmap/announcements.ts";
import {
  decodeNatPmpRequest,
  decodeNatPmpResponse,
  encodeNatPmpRequest,
  encodeNatPmpResponse,
} from "../../lib/portmap/nat_pmp/message.ts";
import {
  decodePcpRequest,
  decodePcpResponse,
  encodePcpRequest,
  encodePcpResponse,
} from "../../lib/portmap/pcp/message.ts";

/**
 * Passes the input to all decoders. What one of them decodes must survive encoding and decoding.
 *
 * @returns how many of them decoded it
 * @throws anything that a decoder must not throw: all but MalformedMessageError
 */
export function checkDecoders(bytes: Uint8Array): number {
  decodeAnnouncement(bytes, "192.168.1.1", 0);
  return [
    check(bytes, decodePcpRequest, encodePcpRequest),
    check(bytes, decodePcpResponse, encodePcpResponse),
    check(bytes, decodeNatPmpRequest, encodeNatPmpRequest),
    check(bytes, decodeNatPmpResponse, encodeNatPmpResponse),
  ].filter((isRead) => isRead).length;
}

function check<T>(
  bytes: Uint8Array,
  decode: (bytes: Uint8Array) => T,
  encode: (message: T) => Uint8Array,
): boolean {
  const message = tryDecode(bytes, decode);
  if (message === undefined) return false;
  const written = encode(message);
  if (!equalBytes(written, encode(decode(written)))) {
    throw new Error("Cannot keep message: it changes each time");
  }
  return true;
}

function tryDecode<T>(bytes: Uint8Array, decode: (bytes: Uint8Array) => T): T | undefined {
  try {
    return decode(bytes);
  } catch (error) {
    if (error instanceof MalformedMessageError) return undefined;
    throw error;
  }
}
