/**
 * The `CipherState` of the Noise Protocol Framework, revision 34, §5.1, with ChaCha20-Poly1305.
 *
 * @module
 */

import { ChaChaPolyOpener, ChaChaPolySealer } from "../base/crypto.ts";
import { MalformedMessageError } from "../base/errors.ts";
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
  /** For the current key and nonce, if they were made ahead. */
  #sealer: ChaChaPolySealer | undefined;
  #opener: ChaChaPolyOpener | undefined;
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
    const sealer = this.#sealer ?? this.#newSealer();
    this.#sealer = undefined;
    this.#advance(); // before its use, so that a failure cannot lead to a second one
    return sealer.seal(ad, plaintext, target);
  }

  /**
   * The plaintext, in memory of its own. A failure leaves the nonce as it is (§5.1).
   *
   * @throws {MalformedMessageError} if the ciphertext is not what the other side encrypted with this nonce
   * @throws {RangeError} if all nonces are spent
   */
  decryptWithAd(ad: Uint8Array, ciphertext: Uint8Array): Uint8Array<ArrayBuffer> {
    this.#requireKey();
    const opener = this.#opener ?? this.#newOpener();
    this.#opener = undefined;
    const plaintext = opener.open(ad, ciphertext);
    if (plaintext === undefined) {
      throw new MalformedMessageError("Cannot decrypt: the ciphertext is not authentic");
    }
    this.#advance();
    return plaintext;
  }

  /** Does now what {@linkcode CipherState.encryptWithAd} would do before it looks at the plaintext. */
  prepareToEncrypt(): void {
    if (!this.#destroyed && !this.#nonce.isSpent) this.#sealer ??= this.#newSealer();
  }

  /** Does now what {@linkcode CipherState.decryptWithAd} would do before it looks at the ciphertext. */
  prepareToDecrypt(): void {
    if (!this.#destroyed && !this.#nonce.isSpent) this.#opener ??= this.#newOpener();
  }

  /** Replaces the key by one that does not lead back to it (§11.3); the nonce goes on. */
  rekey(): void {
    this.#requireKey();
    this.#forgetPrepared();
    const sealer = new ChaChaPolySealer(this.#key, rekeyNonce());
    const next = sealer.seal(
      EMPTY,
      new Uint8Array(KEY_LENGTH),
      new Uint8Array(KEY_LENGTH + TAG_LENGTH),
    );
    this.#key.set(next.subarray(0, KEY_LENGTH));
    next.fill(0);
  }

  /** Forgets the key; idempotent. */
  destroy(): void {
    this.#destroyed = true;
    this.#key.fill(0);
    this.#forgetPrepared();
  }

  #newSealer(): ChaChaPolySealer {
    return new ChaChaPolySealer(this.#key, this.#nonce.bytes);
  }

  #newOpener(): ChaChaPolyOpener {
    return new ChaChaPolyOpener(this.#key, this.#nonce.bytes);
  }

  #advance(): void {
    this.#nonce.increment();
    this.#forgetPrepared();
  }

  #forgetPrepared(): void {
    this.#sealer?.discard();
    this.#opener?.discard();
    this.#sealer = undefined;
    this.#opener = undefined;
  }

  #requireKey(): void {
    if (this.#destroyed) throw new TypeError("Cannot use the key: it was destroyed");
  }
}

const EMPTY = new Uint8Array(0);
const KEY_LENGTH = 32;
