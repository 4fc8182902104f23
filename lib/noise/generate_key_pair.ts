/**
 * New keys.
 *
 * @module
 */

import { KEY_LENGTH, KeyPair } from "./key_pair.ts";

/** A key pair that nobody has had before, `GENERATE_KEYPAIR()` of Noise, revision 34, §4.1. */
export function generateKeyPair(): KeyPair {
  const secretKey = crypto.getRandomValues(new Uint8Array(KEY_LENGTH));
  const keyPair = new KeyPair(secretKey);
  secretKey.fill(0);
  return keyPair;
}
