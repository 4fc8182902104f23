/**
 * Encrypts the application's datagrams over a UDP path: each is a message of its own, which may be lost or overtaken.
 *
 * ```text
 * number 6, big-endian | ChaCha20-Poly1305 ciphertext | tag 16
 * ```
 *
 * The nonce is the number, as in Noise (§5.1): four zero bytes, then 64 bits, little-endian.
 *
 * @module
 */

import { ChaChaPolyOpener, ChaChaPolySealer, ReplayWindow } from "../base/crypto.ts";

/** How many bytes encryption adds. */
export const DATAGRAM_OVERHEAD = 22;

/** Both directions of one path. The keys must be used for nothing else. */
export class DatagramCipher {
  readonly #sendKey: Uint8Array;
  readonly #receiveKey: Uint8Array;
  readonly #window = new ReplayWindow();
  #sent = 0;

  /** @param sendKey 32 bytes, the other side's `receiveKey` */
  constructor(sendKey: Uint8Array, receiveKey: Uint8Array) {
    this.#sendKey = sendKey;
    this.#receiveKey = receiveKey;
  }

  /** Encrypts a message. */
  seal(message: Uint8Array): Uint8Array<ArrayBuffer> {
    const number = this.#sent++;
    const bytes = new Uint8Array(message.length + DATAGRAM_OVERHEAD);
    const view = new DataView(bytes.buffer);
    view.setUint16(0, Math.floor(number / 2 ** 32));
    view.setUint32(2, number % 2 ** 32);
    const sealer = new ChaChaPolySealer(this.#sendKey, nonceOf(number));
    sealer.seal(NO_AD, message, bytes.subarray(NUMBER_BYTES));
    return bytes;
  }

  /** Decrypts a message; `undefined` if it is a replay, too old, or not authentic. */
  open(bytes: Uint8Array): Uint8Array<ArrayBuffer> | undefined {
    if (bytes.length < DATAGRAM_OVERHEAD) return undefined;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const number = view.getUint16(0) * 2 ** 32 + view.getUint32(2);
    if (!this.#window.mayAccept(BigInt(number))) return undefined;
    const opener = new ChaChaPolyOpener(this.#receiveKey, nonceOf(number));
    const message = opener.open(NO_AD, bytes.subarray(NUMBER_BYTES));
    if (message !== undefined) this.#window.accept(BigInt(number));
    return message;
  }
}

function nonceOf(number: number): Uint8Array {
  const nonce = new Uint8Array(12);
  new DataView(nonce.buffer).setBigUint64(4, BigInt(number), true);
  return nonce;
}

const NUMBER_BYTES = 6;
const NO_AD = new Uint8Array(0);
