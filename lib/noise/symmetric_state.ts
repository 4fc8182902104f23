/**
 * The `SymmetricState` and the `CipherState` of the Noise Protocol Framework, revision 34, §5.1 and §5.2, with
 * ChaCha20-Poly1305 and SHA-256.
 *
 * @module
 */

import { concat, equalBytes } from "../base/bytes.ts";
import { ChaChaPolyOpener, ChaChaPolySealer, hash, hkdf, hmac } from "../base/crypto.ts";
import { MalformedMessageError } from "../base/errors.ts";
import { ShortMessageCipher } from "../base/short_message_cipher.ts";

/** The length of the authentication tag after each ciphertext. */
export const TAG_LENGTH = 16;

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

/**
 * A key and its nonce. Nothing else can hold the key, set the nonce or copy the pair, so no two messages are ever
 * encrypted with the same key and nonce.
 */
export class CipherState {
  readonly #key: Uint8Array<ArrayBuffer>;
  readonly #nonce = new Nonce();
  /** With the current key. */
  #short: ShortMessageCipher | undefined;
  #isDestroyed = false;

  /** @param key 32 bytes, taken over: {@linkcode CipherState.destroy} zeroes them */
  constructor(key: Uint8Array<ArrayBuffer>) {
    this.#key = key;
  }

  /**
   * The ciphertext and its tag.
   *
   * @throws {RangeError} if all nonces are used up
   */
  encryptWithAd(ad: Uint8Array, plaintext: Uint8Array): Uint8Array<ArrayBuffer> {
    const ciphertext = new Uint8Array(plaintext.length + TAG_LENGTH);
    this.encryptInto(ciphertext, 0, ad, plaintext);
    return ciphertext;
  }

  /** As {@linkcode CipherState.encryptWithAd}, written to `target` from the offset `at` on. */
  encryptInto(target: Uint8Array, at: number, ad: Uint8Array, plaintext: Uint8Array): void {
    this.#requireKey();
    const nonce = this.#nonce.bytes;
    try {
      if (ad.length === 0 && plaintext.length <= MAX_SHORT_LENGTH) {
        this.#shortCipher.sealInto(target, at, nonce, plaintext);
      } else {
        new ChaChaPolySealer(this.#key, nonce).sealInto(target, at, ad, plaintext);
      }
    } finally {
      this.#nonce.increment(); // in any case, so that a failure cannot lead to a second use
    }
  }

  /**
   * The plaintext, in memory of its own. A failure does not advance the nonce (§5.1).
   *
   * @throws {MalformedMessageError} if the ciphertext is not what the other side encrypted with this nonce
   * @throws {RangeError} if all nonces are used up
   */
  decryptWithAd(ad: Uint8Array, ciphertext: Uint8Array): Uint8Array<ArrayBuffer> {
    this.#requireKey();
    const nonce = this.#nonce.bytes;
    const plaintext = ad.length === 0 && ciphertext.length <= MAX_SHORT_LENGTH + TAG_LENGTH
      ? this.#shortCipher.open(nonce, ciphertext)
      : new ChaChaPolyOpener(this.#key, nonce).open(ad, ciphertext);
    if (plaintext === undefined) {
      throw new MalformedMessageError("Cannot decrypt: the ciphertext is not authentic");
    }
    this.#nonce.increment();
    return plaintext;
  }

  /** Replaces the key with one from which it cannot be computed (§11.3). The nonce keeps counting. */
  rekey(): void {
    this.#requireKey();
    this.#forgetShort();
    const sealer = new ChaChaPolySealer(this.#key, rekeyNonce());
    const next = new Uint8Array(KEY_LENGTH + TAG_LENGTH);
    sealer.sealInto(next, 0, NO_AD, new Uint8Array(KEY_LENGTH));
    this.#key.set(next.subarray(0, KEY_LENGTH));
    next.fill(0);
  }

  /** Erases the key; idempotent. */
  destroy(): void {
    this.#isDestroyed = true;
    this.#key.fill(0);
    this.#forgetShort();
  }

  get #shortCipher(): ShortMessageCipher {
    return this.#short ??= new ShortMessageCipher(this.#key);
  }

  #forgetShort(): void {
    this.#short?.destroy();
    this.#short = undefined;
  }

  #requireKey(): void {
    if (this.#isDestroyed) throw new TypeError("Cannot use the key: it was destroyed");
  }
}

/** A nonce that only counts up, and stops before it would repeat. */
export class Nonce {
  readonly #bytes: Uint8Array<ArrayBuffer>;

  /** @param first the first value */
  constructor(first = 0n) {
    this.#bytes = encodeNonce(first);
  }

  /** Whether it has reached 2^64-1, which is reserved for rekeying. */
  get isSpent(): boolean {
    return this.#bytes[11] === 0xff && equalBytes(this.#bytes, REKEY_NONCE);
  }

  /**
   * The nonce of the next message in the format of ChaChaPoly (§12.3): 32 zero bits, then 64 bits, little-endian. The
   * array is live: {@linkcode Nonce.increment} changes it.
   *
   * @throws {RangeError} if it is spent
   */
  get bytes(): Uint8Array {
    if (this.isSpent) {
      throw new RangeError("Cannot use the key again: all 2^64-1 nonces are spent");
    }
    return this.#bytes;
  }

  /**
   * Advances to the next value.
   *
   * @throws {RangeError} if it is spent
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

/** The nonce 2^64-1, with which a key encrypts its successor (§4.2). */
export function rekeyNonce(): Uint8Array<ArrayBuffer> {
  return REKEY_NONCE.slice();
}

/** The `HKDF()` of §4.3, which is HKDF as in RFC 5869. */
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

function encodeNonce(value: bigint): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(COUNTER_START + 8);
  new DataView(bytes.buffer).setBigUint64(COUNTER_START, value, true);
  return bytes;
}

const NO_AD = new Uint8Array(0);

/** Chosen by us: longer messages take the platform's cipher less time. */
const MAX_SHORT_LENGTH = 256;

const KEY_LENGTH = 32;

const COUNTER_START = 4;

const REKEY_NONCE = encodeNonce(2n ** 64n - 1n);

/** `HASHLEN`. */
const HASH_LENGTH = 32;
