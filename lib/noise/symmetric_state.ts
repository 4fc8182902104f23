/**
 * The `SymmetricState` of the Noise Protocol Framework, revision 34, §5.2, with SHA-256.
 *
 * @module
 */

import { concat } from "../base/bytes.ts";
import { hash, hkdf, hmac } from "../base/crypto.ts";
import { CipherState, TAG_LENGTH } from "./cipher_state.ts";

/** The state that both sides of a handshake share: the chaining key `ck`, the handshake hash `h` and a cipher key. */
export class SymmetricState {
  #chainingKey: Uint8Array<ArrayBuffer>;
  #hash: Uint8Array<ArrayBuffer>;
  #cipherState: CipherState | undefined;

  /** @param protocolName such as `Noise_XX_25519_ChaChaPoly_SHA256` */
  constructor(protocolName: string) {
    const name = new TextEncoder().encode(protocolName);
    this.#hash = new Uint8Array(HASH_LENGTH);
    this.#hash.set(name.length > HASH_LENGTH ? hash("sha256", name) : name);
    this.#chainingKey = this.#hash.slice();
  }

  /** A copy of the hash of everything that both sides have sent or knew beforehand. */
  get handshakeHash(): Uint8Array<ArrayBuffer> {
    return this.#hash.slice();
  }

  /** How many bytes encryption adds: 0 until there is a key. */
  get overhead(): number {
    return this.#cipherState === undefined ? 0 : TAG_LENGTH;
  }

  /** @param inputKeyMaterial a secret, zeroed once it is mixed in */
  mixKey(inputKeyMaterial: Uint8Array): void {
    const [chainingKey, key] = deriveKeys(this.#chainingKey, inputKeyMaterial, 2);
    inputKeyMaterial.fill(0);
    this.#useKeys(chainingKey!, key!);
  }

  /** Mixes public data into the handshake hash. */
  mixHash(data: Uint8Array): void {
    this.#hash.set(hash("sha256", concat(this.#hash, data)));
  }

  /** Mixes in a pre-shared key (§9.2), which is left unchanged. */
  mixKeyAndHash(presharedKey: Uint8Array): void {
    const [chainingKey, forHash, key] = deriveKeys(this.#chainingKey, presharedKey, 3);
    this.mixHash(forHash!);
    forHash!.fill(0);
    this.#useKeys(chainingKey!, key!);
  }

  /** Encrypts if there is a key, and mixes in the result. */
  encryptAndHash(plaintext: Uint8Array): Uint8Array {
    const ciphertext = this.#cipherState?.encryptWithAd(this.#hash, plaintext) ?? plaintext;
    this.mixHash(ciphertext);
    return ciphertext;
  }

  /**
   * Decrypts if there is a key, and mixes in the ciphertext.
   *
   * @throws {MalformedMessageError} if the ciphertext is not authentic
   */
  decryptAndHash(ciphertext: Uint8Array): Uint8Array {
    const plaintext = this.#cipherState?.decryptWithAd(this.#hash, ciphertext) ?? ciphertext;
    this.mixHash(ciphertext);
    return plaintext;
  }

  /** The keys for what the initiator and the responder send after the handshake. */
  split(): [initiator: CipherState, responder: CipherState] {
    const [initiator, responder] = deriveKeys(this.#chainingKey, new Uint8Array(0), 2);
    return [new CipherState(initiator!), new CipherState(responder!)];
  }

  /**
   * Another key that both sides share and that reveals none of the others: the "additional symmetric keys" planned for
   * Noise, from the `HKDF()` output after those of `Split()`.
   *
   * @param label what the key is for; each label gives a different key
   */
  exportKey(label: string): Uint8Array<ArrayBuffer> {
    const outputs = deriveKeys(this.#chainingKey, new Uint8Array(0), 3);
    const key = hmac("sha256", outputs[2]!, new TextEncoder().encode(label));
    for (const output of outputs) output.fill(0);
    return key;
  }

  /** Erases all secrets. The handshake hash is not secret, and stays. */
  destroy(): void {
    this.#chainingKey.fill(0);
    this.#cipherState?.destroy();
  }

  #useKeys(chainingKey: Uint8Array<ArrayBuffer>, key: Uint8Array<ArrayBuffer>): void {
    this.destroy();
    this.#chainingKey = chainingKey;
    this.#cipherState = new CipherState(key);
  }
}

/** The `HKDF()` of §4.3, which is that of RFC 5869. */
function deriveKeys(
  chainingKey: Uint8Array,
  inputKeyMaterial: Uint8Array,
  outputs: 2 | 3,
): Uint8Array<ArrayBuffer>[] {
  const derived = hkdf(chainingKey, inputKeyMaterial, outputs * HASH_LENGTH);
  return Array.from(
    { length: outputs },
    (_, i) => derived.subarray(i * HASH_LENGTH, (i + 1) * HASH_LENGTH),
  );
}

/** `HASHLEN`. */
const HASH_LENGTH = 32;
