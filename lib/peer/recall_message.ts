/**
 * The message by which the side that listens asks the dialer of a connection to search for another path, because its own
 * network has changed or its path has stalled: time in milliseconds since 1970 (8) | HMAC (16).
 *
 * @module
 */

import { ByteReader, concat, equalBytes } from "../base/bytes.ts";
import { hmac } from "../base/crypto.ts";
import { malformed } from "../base/errors.ts";

/** Encodes the message. */
export function encodeRecall(timeMs: number, key: Uint8Array): Uint8Array {
  const time = new Uint8Array(TIME_BYTES);
  new DataView(time.buffer).setBigUint64(0, BigInt(timeMs));
  return concat(time, macOf(time, key));
}

/**
 * Decodes the message, and returns its time.
 *
 * @throws {MalformedMessageError} if the other side has not made it
 */
export function decodeRecall(bytes: Uint8Array, key: Uint8Array): number {
  const reader = new ByteReader(bytes, "recall");
  const time = reader.bytes(TIME_BYTES, "time");
  const mac = reader.bytes(MAC_BYTES, "HMAC");
  reader.end();
  if (!equalBytes(mac, macOf(time, key))) throw malformed("recall", "the HMAC is wrong");
  return Number(new DataView(time.buffer, time.byteOffset).getBigUint64(0));
}

function macOf(time: Uint8Array, key: Uint8Array): Uint8Array {
  return hmac("sha256", key, time).subarray(0, MAC_BYTES);
}

const TIME_BYTES = 8;

/** Chosen by us: every guess has to be sent to the peer. */
const MAC_BYTES = 16;
