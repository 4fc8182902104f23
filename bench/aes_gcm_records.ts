/**
 * Noise with AES-256-GCM in place of ChaCha20-Poly1305, the `AESGCM` of the Noise Protocol Framework §12.4: for
 * comparison only.
 *
 * @module
 */

import type { TcpConnection } from "../lib/net/network.ts";
import { NoiseMessageReader } from "../lib/noise/record.ts";
import { type ConnectionKeys, SecureConnection } from "../lib/noise/secure_connection.ts";
import { CipherState, TAG_LENGTH } from "../lib/noise/symmetric_state.ts";
import { release } from "../lib/base/bytes.ts";
import { createCipheriv, createDecipheriv } from "node:crypto";

/** As `secureConnectionFromKeys`, with the other cipher. */
export function aesGcmConnection(stream: TcpConnection, keys: ConnectionKeys): SecureConnection {
  return new SecureConnection(stream, new NoiseMessageReader(stream, stream.remote), {
    remoteStaticKey: keys.remoteStaticKey,
    handshakeHash: keys.handshakeHash,
    handshakePayloads: [],
    send: new AesGcmCipherState(keys.sendKey),
    receive: new AesGcmCipherState(keys.receiveKey),
  });
}

/** As its base class: the key is replaced now and then. */
class AesGcmCipherState extends CipherState {
  readonly #key: Uint8Array<ArrayBuffer>;
  readonly #nonce = new Uint8Array(12);

  constructor(key: Uint8Array<ArrayBuffer>) {
    super(key);
    this.#key = key;
  }

  override encryptInto(target: Uint8Array, at: number, _ad: Uint8Array, plaintext: Uint8Array) {
    const cipher = createSealer(this.#key, this.#nonce);
    this.#advance();
    const ciphertext = cipher.update(plaintext);
    cipher.final();
    target.set(ciphertext, at);
    target.set(cipher.getAuthTag(), at + plaintext.length);
    release(ciphertext);
  }

  override decryptWithAd(_ad: Uint8Array, ciphertext: Uint8Array): Uint8Array<ArrayBuffer> {
    const decipher = createDecipheriv("aes-256-gcm", this.#key, this.#nonce, {
      authTagLength: TAG_LENGTH,
    });
    this.#advance();
    const length = ciphertext.length - TAG_LENGTH;
    decipher.setAuthTag(ciphertext.subarray(length));
    const plaintext = decipher.update(ciphertext.subarray(0, length));
    decipher.final();
    if (plaintext.byteLength < plaintext.buffer.byteLength) return new Uint8Array(plaintext);
    return new Uint8Array(plaintext.buffer as ArrayBuffer); // Node shares no memory here
  }

  override rekey(): void {
    const cipher = createSealer(this.#key, REKEY_NONCE);
    this.#key.set(cipher.update(new Uint8Array(this.#key.length)));
    cipher.final();
  }

  /** The nonce of AESGCM is big-endian (§12.4). */
  #advance(): void {
    for (let i = this.#nonce.length - 1; i >= 4; i--) {
      this.#nonce[i] = this.#nonce[i]! + 1 & 0xff;
      if (this.#nonce[i] !== 0) return;
    }
  }
}

function createSealer(key: Uint8Array, nonce: Uint8Array) {
  return createCipheriv("aes-256-gcm", key, nonce);
}

const REKEY_NONCE = Uint8Array.from({ length: 12 }, (_, index) => index < 4 ? 0 : 0xff);
