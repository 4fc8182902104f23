/**
 * What must hold for any input of the STUN decoder.
 *
 * @module
 */

import { MalformedMessageError } from "../../lib/base/errors.ts";
import { verifyFingerprint, verifyIntegrity } from "../../lib/stun/integrity.ts";
import { decodeMessage, encodeMessage, type StunMessage } from "../../lib/stun/message.ts";

/**
 * Decodes; `undefined` if the bytes are malformed.
 *
 * @throws what the decoder must not throw: anything but a MalformedMessageError
 */
export function tryDecode(bytes: Uint8Array): StunMessage | undefined {
  try {
    return decodeMessage(bytes);
  } catch (error) {
    if (error instanceof MalformedMessageError) return undefined;
    throw error;
  }
}

/**
 * Checks a decoded message: its integrity can be verified, and it stays the same when it is encoded and decoded again.
 *
 * @throws {Error} if not
 */
export function checkDecoded(bytes: Uint8Array, message: StunMessage): void {
  verifyFingerprint(bytes);
  verifyIntegrity(bytes, { algorithm: "sha1", key: KEY });
  verifyIntegrity(bytes, { algorithm: "sha256", key: KEY });
  const written = encodeMessage(message);
  const again = encodeMessage(decodeMessage(written));
  if (written.join() !== again.join()) throw new Error("Cannot keep message: it changes each time");
}

const KEY = new Uint8Array(16);
