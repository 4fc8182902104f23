/**
 * X25519 key pairs, the `GENERATE_KEYPAIR()` and `DH()` of Noise, revision 34, §4.1 and §12.1.
 *
 * @module
 */

import { x25519, x25519PublicKey } from "../base/crypto.ts";
import { MalformedMessageError } from "../base/errors.ts";

/** How long keys are: public, secret, pre-shared and shared. */
export const KEY_LENGTH = 32;

/** A secret key that stays inside, and the public key that belongs to it. */
export class KeyPair implements Disposable {
  /** 32 bytes. */
  readonly publicKey: Uint8Array;
  readonly #secretKey: Uint8Array;
  #destroyed = false;

  /**
   * @param secretKey 32 random bytes; they are copied
   * @throws {TypeError} if there are more or fewer
   */
  constructor(secretKey: Uint8Array) {
    requireKeyLength(secretKey, "secret key");
    this.#secretKey = secretKey.slice();
    this.publicKey = x25519PublicKey(this.#secretKey);
  }

  /**
   * The secret that only the owners of the two key pairs can compute.
   *
   * @throws {MalformedMessageError} if the public key is one of those that make it zero for every key pair
   */
  dh(publicKey: Uint8Array): Uint8Array<ArrayBuffer> {
    if (this.#destroyed) throw new TypeError("Cannot use the key pair: it was destroyed");
    const shared = x25519(this.#secretKey, publicKey);
    if (shared === undefined) {
      throw new MalformedMessageError("Cannot agree on a key: the public key is of low order");
    }
    return shared;
  }

  /** Forgets the secret key; idempotent. */
  [Symbol.dispose](): void {
    this.#destroyed = true;
    this.#secretKey.fill(0);
  }
}

/** @throws {TypeError} if a key is not as long as keys are */
export function requireKeyLength(key: Uint8Array, what: string): void {
  if (key.length === KEY_LENGTH) return;
  throw new TypeError(`Cannot use ${what}: it has ${key.length} bytes, not ${KEY_LENGTH}`);
}

/** A key pair that nobody has had before, `GENERATE_KEYPAIR()` of Noise, revision 34, §4.1. */
export function generateKeyPair(): KeyPair {
  const secretKey = crypto.getRandomValues(new Uint8Array(KEY_LENGTH));
  const keyPair = new KeyPair(secretKey);
  secretKey.fill(0);
  return keyPair;
}
