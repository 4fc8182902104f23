/**
 * Hashes, the ChaCha20-Poly1305 cipher and X25519 keys. Web Crypto lacks some of them, or has them only in some runtimes.
 * All are synchronous, so that codecs can be synchronous too.
 *
 * @module
 */

import { release } from "./bytes.ts";
import { Buffer } from "node:buffer";
import {
  type CipherChaCha20Poly1305,
  createCipheriv,
  createDecipheriv,
  createHash,
  createHmac,
  createPrivateKey,
  createPublicKey,
  type DecipherChaCha20Poly1305,
  diffieHellman,
  hkdfSync,
  type KeyObject,
  timingSafeEqual,
} from "node:crypto";

/** A hash algorithm: MD5 (RFC 1321), SHA-1 (RFC 3174), SHA-256 or SHA-512 (RFC 6234). */
export type HashAlgorithm = "md5" | "sha1" | "sha256" | "sha512";

/** The digest of the data: 16 (MD5), 20 (SHA-1), 32 (SHA-256) or 64 (SHA-512) bytes. */
export function hash(algorithm: HashAlgorithm, data: Uint8Array): Uint8Array<ArrayBuffer> {
  return plain(createHash(algorithm).update(data).digest());
}

/** A hash of data that arrives in pieces. */
export class RunningHash {
  readonly #hash: ReturnType<typeof createHash>;

  /** @param algorithm as for {@linkcode hash} */
  constructor(algorithm: HashAlgorithm) {
    this.#hash = createHash(algorithm);
  }

  /** Adds the next piece. */
  update(data: Uint8Array): void {
    this.#hash.update(data);
  }

  /** The digest of all pieces so far. More may follow. */
  digest(): Uint8Array<ArrayBuffer> {
    return plain(this.#hash.copy().digest());
  }
}

/** The HMAC (RFC 2104) of the joined parts. It is as long as the digest of the hash. */
export function hmac(
  algorithm: HashAlgorithm,
  key: Uint8Array,
  ...parts: readonly Uint8Array[]
): Uint8Array<ArrayBuffer> {
  const mac = createHmac(algorithm, key);
  for (const part of parts) mac.update(part);
  return plain(mac.digest());
}

/** HKDF-SHA-256 (RFC 5869) with empty info. `length` is the length of the output in bytes. */
export function hkdf(
  salt: Uint8Array,
  inputKeyMaterial: Uint8Array,
  length: number,
): Uint8Array<ArrayBuffer> {
  return new Uint8Array(hkdfSync("sha256", inputKeyMaterial, salt, NOTHING, length));
}

/** Whether two secrets are equal, in a time that depends only on their lengths. */
export function equalSecrets(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}

/** Remembers which of the last messages have arrived: the sliding window of RFC 6479. */
export class ReplayWindow {
  /** One more than the highest counter so far. */
  #end = 0n;
  /** The counters below the end that have arrived; bit 0 is the highest. */
  #seen = 0n;

  /** Whether a message with this counter is new, as far as the window reaches. Ask before it is authenticated. */
  mayAccept(counter: bigint): boolean {
    if (counter >= this.#end) return true;
    const age = this.#end - 1n - counter;
    return age < WINDOW && (this.#seen >> age & 1n) === 0n;
  }

  /** Notes that it has arrived. Only after it was authenticated: others must not move the window. */
  accept(counter: bigint): void {
    if (counter >= this.#end) {
      const shift = counter + 1n - this.#end;
      this.#seen = shift >= WINDOW ? 0n : this.#seen << shift & (1n << WINDOW) - 1n;
      this.#end = counter + 1n;
    }
    this.#seen |= 1n << this.#end - 1n - counter;
  }
}

/** Encrypts one message with ChaCha20-Poly1305 (RFC 8439 §2.8). */
export class ChaChaPolySealer {
  readonly #cipher: CipherChaCha20Poly1305;

  /**
   * @param key 32 bytes
   * @param nonce 12 bytes; never use one twice with the same key
   */
  constructor(key: Uint8Array, nonce: Uint8Array) {
    this.#cipher = createCipheriv("chacha20-poly1305", key, nonce, TAG_OPTIONS);
  }

  /**
   * Writes the ciphertext and its tag of 16 bytes to the start of `target`.
   *
   * @param ad additional data, which is authenticated but not encrypted
   * @returns the part of the target that was filled
   */
  seal(ad: Uint8Array, plaintext: Uint8Array, target: Uint8Array): Uint8Array {
    this.sealInto(target, 0, ad, plaintext);
    return target.subarray(0, plaintext.length + TAG_LENGTH);
  }

  /** The same, to `target` from the offset `at` on. */
  sealInto(target: Uint8Array, at: number, ad: Uint8Array, plaintext: Uint8Array): void {
    const cipher = this.#cipher;
    if (ad.length > 0) cipher.setAAD(ad, { plaintextLength: plaintext.length });
    const ciphertext = cipher.update(plaintext);
    cipher.final(); // from here on, it refuses a second message
    target.set(ciphertext, at);
    target.set(cipher.getAuthTag(), at + plaintext.length);
    release(ciphertext);
  }
}

/** Decrypts one message of a {@linkcode ChaChaPolySealer}. */
export class ChaChaPolyOpener {
  readonly #decipher: DecipherChaCha20Poly1305;

  /** @param key the sealer's key; `nonce` is the sealer's too */
  constructor(key: Uint8Array, nonce: Uint8Array) {
    this.#decipher = createDecipheriv("chacha20-poly1305", key, nonce, TAG_OPTIONS);
  }

  /** The plaintext, in an array of its own, or `undefined` if the message is not authentic. */
  open(ad: Uint8Array, sealed: Uint8Array): Uint8Array<ArrayBuffer> | undefined {
    const length = sealed.length - TAG_LENGTH;
    if (length < 0) return void this.open(NOTHING, NO_TAG); // Deno leaks ciphers that are never finished
    const decipher = this.#decipher;
    if (ad.length > 0) decipher.setAAD(ad, { plaintextLength: length });
    decipher.setAuthTag(sealed.subarray(length));
    const plaintext = decipher.update(sealed.subarray(0, length));
    try {
      decipher.final();
    } catch {
      return undefined;
    }
    return plaintext.byteLength < plaintext.buffer.byteLength
      ? new Uint8Array(plaintext)
      : plain(plaintext);
  }
}

/** The X25519 public key (RFC 7748 §6.1) for a secret key of 32 bytes. */
export function x25519PublicKey(secretKey: Uint8Array): Uint8Array<ArrayBuffer> {
  const spki = createPublicKey(importSecretKey(secretKey)).export({ format: "der", type: "spki" });
  return new Uint8Array(spki.subarray(X25519_SPKI.length));
}

/** The shared secret of two key pairs, or `undefined` if it is all zeros: the public key is then invalid (RFC 7748 §6.1). */
export function x25519(
  secretKey: Uint8Array,
  publicKey: Uint8Array,
): Uint8Array<ArrayBuffer> | undefined {
  const spki = Buffer.concat([X25519_SPKI, publicKey]);
  const keys = {
    privateKey: importSecretKey(secretKey),
    publicKey: createPublicKey({ key: spki, format: "der", type: "spki" }),
  };
  try {
    const shared = plain(diffieHellman(keys));
    return equalSecrets(shared, new Uint8Array(shared.length)) ? undefined : shared;
  } catch { // OpenSSL refuses to derive zeros
    return undefined;
  }
}

function importSecretKey(secretKey: Uint8Array): KeyObject {
  const pkcs8 = Buffer.concat([X25519_PKCS8, secretKey]);
  try {
    return createPrivateKey({ key: pkcs8, format: "der", type: "pkcs8" });
  } finally {
    pkcs8.fill(0);
  }
}

/** The same bytes as a plain `Uint8Array` instead of Node's `Buffer`. */
function plain({ buffer, byteOffset, length }: Uint8Array): Uint8Array<ArrayBuffer> {
  return new Uint8Array(buffer as ArrayBuffer, byteOffset, length); // Node shares no memory here
}

const NOTHING = new Uint8Array(0);
const TAG_LENGTH = 16;
const NO_TAG = new Uint8Array(TAG_LENGTH);
const TAG_OPTIONS = { authTagLength: TAG_LENGTH };

/** The prefix of the 32 bytes of a secret key in PKCS #8 (RFC 8410 §7), version 1. */
const X25519_PKCS8 = Uint8Array.of(
  ...[0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x6e],
  ...[0x04, 0x22, 0x04, 0x20],
);

/** The prefix of the 32 bytes of a public key in a SubjectPublicKeyInfo (RFC 8410 §4). */
const X25519_SPKI = Uint8Array.of(
  ...[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x6e, 0x03, 0x21, 0x00],
);

/** Chosen by us: a message that is overtaken by more than this is lost. */
const WINDOW = 256n;
