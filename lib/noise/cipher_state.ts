/**
 * The `CipherState` of the Noise Protocol Framework, revision 34, §5.1, with ChaCha20-Poly1305.
 *
 * @module
 */

import { openChaChaPoly, sealChaChaPoly } from "../crypto.ts";
import { MalformedMessageError } from "../errors.ts";
import { Nonce, rekeyNonce } from "./nonce.ts";

/** The authentication tag behind each ciphertext. */
export const TAG_LENGTH = 16;

/**
 * A key and its nonce. Nobody else can have that key in a `CipherState` of their own, set the nonce or copy the
 * pair, so that no two messages are ever encrypted with the same of both.
 */
export class CipherState {
  readonly #key: Uint8Array<ArrayBuffer>;
  readonly #nonce = new Nonce();
  #destroyed = false;

  /** @param key 32 bytes, taken over: they are zeroed when this is destroyed */
  constructor(key: Uint8Array<ArrayBuffer>) {
    this.#key = key;
  }

  /**
   * The ciphertext and its tag, in `target` if there is one.
   *
   * @throws {RangeError} if all nonces are spent
   */
  encryptWithAd(
    ad: Uint8Array,
    plaintext: Uint8Array,
    target: Uint8Array = new Uint8Array(plaintext.length + TAG_LENGTH),
  ): Uint8Array {
    this.#requireKey();
    const nonce = this.#nonce.encode();
    this.#nonce.increment(); // before its use, so that a failure cannot lead to a second one
    return sealChaChaPoly({ key: this.#key, nonce, ad }, plaintext, target);
  }

  /**
   * The plaintext. A failure leaves the nonce as it is (§5.1).
   *
   * @throws {MalformedMessageError} if the ciphertext is not what the other side encrypted with this nonce
   * @throws {RangeError} if all nonces are spent
   */
  decryptWithAd(ad: Uint8Array, ciphertext: Uint8Array): Uint8Array {
    this.#requireKey();
    const nonce = this.#nonce.encode();
    const plaintext = openChaChaPoly({ key: this.#key, nonce, ad }, ciphertext);
    if (plaintext === undefined) {
      throw new MalformedMessageError("Cannot decrypt: the ciphertext is not authentic");
    }
    this.#nonce.increment();
    return plaintext;
  }

  /** Replaces the key by one that does not lead back to it (§11.3); the nonce goes on. */
  rekey(): void {
    this.#requireKey();
    const parameters = { key: this.#key, nonce: rekeyNonce(), ad: EMPTY };
    const next = sealChaChaPoly(parameters, new Uint8Array(KEY_LENGTH));
    this.#key.set(next.subarray(0, KEY_LENGTH));
    next.fill(0);
  }

  /** Forgets the key; idempotent. */
  destroy(): void {
    this.#destroyed = true;
    this.#key.fill(0);
  }

  #requireKey(): void {
    if (this.#destroyed) throw new TypeError("Cannot use the key: it was destroyed");
  }
}

const EMPTY = new Uint8Array(0);
const KEY_LENGTH = 32;
