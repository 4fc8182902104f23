/**
 * The `SymmetricState` of the Noise Protocol Framework, revision 34, §5.2, with SHA-256.
 *
 * @module
 */

import { concat, equalBytes } from "../base/bytes.ts";
import { ChaChaPolyOpener, ChaChaPolySealer, hash, hkdf, hmac } from "../base/crypto.ts";
import { MalformedMessageError } from "../base/errors.ts";

/** Counts up, never down, and ends before it would repeat itself. */
export class Nonce {
  readonly #bytes: Uint8Array<ArrayBuffer>;

  /** @param first where to begin */
  constructor(first = 0n) {
    this.#bytes = encode(first);
  }

  /** Whether it has come to 2^64-1, which is reserved for rekeying. */
  get isSpent(): boolean {
    return this.#bytes[11] === 0xff && equalBytes(this.#bytes, REKEY_NONCE);
  }

  /**
   * The nonce of the next message, as ChaChaPoly has it (§12.3): 32 bits of zeros, then 64 bits, little-endian. It
   * changes with {@linkcode Nonce.increment}.
   *
   * @throws {RangeError} if it is spent
   */
  get bytes(): Uint8Array {
    if (this.isSpent) {
      throw new RangeError("Cannot use the key again: all of its 2^64-1 nonces are spent");
    }
    return this.#bytes;
  }

  /**
   * Goes on to the next one.
   *
   * @throws {RangeError} if there is none
   */
  increment(): void {
    const { bytes } = this;
    for (let i = COUNTER_START; i < bytes.length; i++) {
      const byte = (bytes[i]! + 1) & 0xff;
      bytes[i] = byte;
      if (byte !== 0) return;
    }
  }
}

/** The nonce 2^64-1, with which a key encrypts its successor. */
export function rekeyNonce(): Uint8Array<ArrayBuffer> {
  return REKEY_NONCE.slice();
}

function encode(value: bigint): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(COUNTER_START + 8);
  new DataView(bytes.buffer).setBigUint64(COUNTER_START, value, true);
  return bytes;
}

const COUNTER_START = 4;

const REKEY_NONCE = encode(2n ** 64n - 1n);

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
