/**
 * The `SymmetricState` of the Noise Protocol Framework, revision 34, §5.2, with SHA-256.
 *
 * @module
 */

import { concat } from "../base/bytes.ts";
import { hash, hkdf, hmac } from "../base/crypto.ts";
import { CipherState, TAG_LENGTH } from "./cipher_state.ts";

/** What both sides have agreed on so far: the chaining key `ck`, the handshake hash `h`, and a key for what follows. */
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

  /** The hash of everything that both sides have sent and known; a copy. */
  get handshakeHash(): Uint8Array<ArrayBuffer> {
    return this.#hash.slice();
  }

  /** By how much ciphertexts are longer than what is in them: nothing, before there is a key. */
  get overhead(): number {
    return this.#cipherState === undefined ? 0 : TAG_LENGTH;
  }

  /** @param inputKeyMaterial a secret, zeroed once it is mixed in */
  mixKey(inputKeyMaterial: Uint8Array): void {
    const [chainingKey, key] = deriveKeys(this.#chainingKey, inputKeyMaterial, 2);
    inputKeyMaterial.fill(0);
    this.#useKeys(chainingKey!, key!);
  }

  /** Mixes in what both sides have seen. */
  mixHash(data: Uint8Array): void {
    this.#hash.set(hash("sha256", concat(this.#hash, data)));
  }

  /** Mixes in a pre-shared key (§9.2), which stays as it is. */
  mixKeyAndHash(presharedKey: Uint8Array): void {
    const [chainingKey, forHash, key] = deriveKeys(this.#chainingKey, presharedKey, 3);
    this.mixHash(forHash!);
    forHash!.fill(0);
    this.#useKeys(chainingKey!, key!);
  }

  /** Encrypts, if there is a key, and mixes in the result. */
  encryptAndHash(plaintext: Uint8Array): Uint8Array {
    const ciphertext = this.#cipherState?.encryptWithAd(this.#hash, plaintext) ?? plaintext;
    this.mixHash(ciphertext);
    return ciphertext;
  }

  /** @throws {MalformedMessageError} if the ciphertext is not authentic */
  decryptAndHash(ciphertext: Uint8Array): Uint8Array {
    const plaintext = this.#cipherState?.decryptWithAd(this.#hash, ciphertext) ?? ciphertext;
    this.mixHash(ciphertext);
    return plaintext;
  }

  /** The keys for what the initiator sends after the handshake, and for what the responder sends. */
  split(): [initiator: CipherState, responder: CipherState] {
    const [initiator, responder] = deriveKeys(this.#chainingKey, new Uint8Array(0), 2);
    return [new CipherState(initiator!), new CipherState(responder!)];
  }

  /**
   * A further key that both sides have and that leads to none of the others: as the "additional symmetric keys" that
   * Noise plans, from the output of `HKDF()` behind those of `Split()`.
   *
   * @param label what the key is for; each gives another key
   */
  exportKey(label: string): Uint8Array<ArrayBuffer> {
    const outputs = deriveKeys(this.#chainingKey, new Uint8Array(0), 3);
    const key = hmac("sha256", outputs[2]!, new TextEncoder().encode(label));
    for (const output of outputs) output.fill(0);
    return key;
  }

  /** Forgets all secrets; the handshake hash is none. */
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

/** `HKDF()` of §4.3, which is that of RFC 5869. */
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
