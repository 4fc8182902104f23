/**
 * The records of a secured connection, in one direction. The framing is ours, as Noise leaves it to applications
 * (§13): a length of 16 bits, big-endian, then a Noise transport message as long as that. The plaintext is a part of
 * the stream; an empty one ends it. Both sides rekey after each {@linkcode REKEY_INTERVAL} records.
 *
 * @module
 */

import { MalformedMessageError } from "../base/errors.ts";
import { type CipherState, TAG_LENGTH } from "./cipher_state.ts";
import { MAX_MESSAGE_LENGTH } from "./handshake.ts";

/** How long the length is. */
export const LENGTH_BYTES = 2;

/** How much of the stream fits into a record. */
export const MAX_PLAINTEXT_LENGTH = MAX_MESSAGE_LENGTH - TAG_LENGTH;

/** What a record adds to its plaintext. */
export const RECORD_OVERHEAD = LENGTH_BYTES + TAG_LENGTH;

/** The longest record, its length included. */
export const MAX_RECORD_LENGTH = MAX_PLAINTEXT_LENGTH + RECORD_OVERHEAD;

/** Ours: as often as BOLT 8, about; at most 64 MiB of the past are open to who steals a key. */
export const REKEY_INTERVAL = 1024;

/** Encrypts or decrypts the records of one direction, in their order. */
export class RecordCipher {
  readonly #cipherState: CipherState;
  #count = 0;

  /** @param cipherState taken over */
  constructor(cipherState: CipherState) {
    this.#cipherState = cipherState;
  }

  /**
   * Puts a record at the start of `target`.
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
   * @param ciphertext the record without its length
   * @throws {MalformedMessageError} if it is not the next record that the other side encrypted
   */
  decrypt(ciphertext: Uint8Array): Uint8Array<ArrayBuffer> {
    if (ciphertext.length < TAG_LENGTH) {
      throw new MalformedMessageError(
        `Cannot read a record: ${ciphertext.length} bytes are too few for a tag of ${TAG_LENGTH}`,
      );
    }
    const plaintext = this.#cipherState.decryptWithAd(NO_AD, ciphertext);
    this.#countRecord();
    return plaintext;
  }

  /** Does the part of {@linkcode RecordCipher.encrypt} that needs no plaintext. */
  prepareToEncrypt(): void {
    this.#cipherState.prepareToEncrypt();
  }

  /** Does the part of {@linkcode RecordCipher.decrypt} that needs no record. */
  prepareToDecrypt(): void {
    this.#cipherState.prepareToDecrypt();
  }

  /** Forgets the key; idempotent. */
  destroy(): void {
    this.#cipherState.destroy();
  }

  #countRecord(): void {
    if (++this.#count % REKEY_INTERVAL === 0) this.#cipherState.rekey();
  }
}

/** Puts a length before what is that long. */
export function writeLength(target: Uint8Array, length: number): void {
  target[0] = length >> 8;
  target[1] = length & 0xff;
}

const NO_AD = new Uint8Array(0);
