/**
 * X25519 key pairs: `GENERATE_KEYPAIR()` and `DH()` of the Noise Protocol Framework, revision 34, §4.1 and §12.1.
 *
 * @module
 */

import { x25519, x25519PublicKey } from "../base/crypto.ts";
import { MalformedMessageError } from "../base/errors.ts";

/** The length of every key, in bytes: public, secret, pre-shared and shared. */
export const KEY_LENGTH = 32;

/** Generates a key pair from random bytes of the system. */
export function generateKeyPair(): KeyPair {
  const secretKey = crypto.getRandomValues(new Uint8Array(KEY_LENGTH));
  const keyPair = new KeyPair(secretKey);
  secretKey.fill(0);
  return keyPair;
}

/** A public key and its secret key, which cannot be read back. */
export class KeyPair implements Disposable {
  /** 32 bytes. */
  readonly publicKey: Uint8Array;
  readonly #secretKey: Uint8Array;
  #isDestroyed = false;

  /**
   * Computes the public key of a secret key.
   *
   * @param secretKey 32 random bytes; they are copied
   * @throws {TypeError} if it is not 32 bytes long
   */
  constructor(secretKey: Uint8Array) {
    requireKeyLength(secretKey, "secret key");
    this.#secretKey = secretKey.slice();
    this.publicKey = x25519PublicKey(this.#secretKey);
  }

  /**
   * The secret that only the owners of the two key pairs can compute.
   *
   * @throws {MalformedMessageError} if the public key is one of those that give zero with every secret key
   */
  dh(publicKey: Uint8Array): Uint8Array<ArrayBuffer> {
    if (this.#isDestroyed) throw new TypeError("Cannot use the key pair: it was destroyed");
    const shared = x25519(this.#secretKey, publicKey);
    if (shared === undefined) {
      throw new MalformedMessageError("Cannot agree on a key: the public key is of low order");
    }
    return shared;
  }

  /** Erases the secret key; idempotent. */
  [Symbol.dispose](): void {
    this.#isDestroyed = true;
    this.#secretKey.fill(0);
  }
}

/**
 * Checks the length of a key.
 *
 * @throws {TypeError} if it is not 32 bytes long
 */
export function requireKeyLength(key: Uint8Array, what: string): void {
  if (key.length === KEY_LENGTH) return;
  throw new TypeError(`Cannot use ${what}: it has ${key.length} bytes, not ${KEY_LENGTH}`);
}
