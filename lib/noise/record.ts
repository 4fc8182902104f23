/**
 * The records of a secured connection, in one direction. Noise leaves framing to applications (§13); this one is
 * Punchline's own: a length of 16 bits, big-endian, then a Noise transport message of that length. The plaintext is a
 * part of the stream; an empty one ends the stream. Both sides rekey after every {@linkcode REKEY_INTERVAL} records.
 *
 * @module
 */

import { malformed } from "../base/errors.ts";
import { type CipherState, TAG_LENGTH } from "./cipher_state.ts";
import { MAX_MESSAGE_LENGTH } from "./handshake.ts";

/** The length of the length field. */
export const LENGTH_BYTES = 2;

/** The longest plaintext of one record. */
export const MAX_PLAINTEXT_LENGTH = MAX_MESSAGE_LENGTH - TAG_LENGTH;

/** How many bytes a record adds to its plaintext. */
export const RECORD_OVERHEAD = LENGTH_BYTES + TAG_LENGTH;

/** The longest record, including its length field. */
export const MAX_RECORD_LENGTH = MAX_PLAINTEXT_LENGTH + RECORD_OVERHEAD;

/** Chosen by us, close to BOLT 8: a stolen key exposes at most 64 MiB of the past. */
export const REKEY_INTERVAL = 1024;

/** Encrypts or decrypts the records of one direction, in order. */
export class RecordCipher {
  readonly #cipherState: CipherState;
  #count = 0;

  /** @param cipherState taken over */
  constructor(cipherState: CipherState) {
    this.#cipherState = cipherState;
  }

  /**
   * Writes a record to the start of `target`.
   *
   * @param plaintext at most {@linkcode MAX_PLAINTEXT_LENGTH} bytes
   * @returns the length of the record
   */
  encrypt(plaintext: Uint8Array, target: Uint8Array): number {
    const ciphertext = target.subarray(LENGTH_BYTES);
    const { length } = this.#cipherState.encryptWithAd(NO_AD, plaintext, ciphertext);
    writeLength(target, length);
    this.#countRecord();
    return LENGTH_BYTES + length;
  }

  /**
   * The plaintext of the next record, in memory of its own.
   *
   * @param ciphertext the record without its length field
   * @throws {MalformedMessageError} if it is not the next record that the other side encrypted
   */
  decrypt(ciphertext: Uint8Array): Uint8Array<ArrayBuffer> {
    if (ciphertext.length < TAG_LENGTH) {
      const problem = `${ciphertext.length} bytes are too few for a tag of ${TAG_LENGTH}`;
      throw malformed("record", problem);
    }
    const plaintext = this.#cipherState.decryptWithAd(NO_AD, ciphertext);
    this.#countRecord();
    return plaintext;
  }

  /** Does the work of the next {@linkcode RecordCipher.encrypt} that does not need the plaintext. */
  prepareToEncrypt(): void {
    this.#cipherState.prepareToEncrypt();
  }

  /** Does the work of the next {@linkcode RecordCipher.decrypt} that does not need the record. */
  prepareToDecrypt(): void {
    this.#cipherState.prepareToDecrypt();
  }

  /** Erases the key; idempotent. */
  destroy(): void {
    this.#cipherState.destroy();
  }

  #countRecord(): void {
    if (++this.#count % REKEY_INTERVAL === 0) this.#cipherState.rekey();
  }
}

/** Writes a length field to the start of `target`. */
export function writeLength(target: Uint8Array, length: number): void {
  target[0] = length >> 8;
  target[1] = length & 0xff;
}

const NO_AD = new Uint8Array(0);
