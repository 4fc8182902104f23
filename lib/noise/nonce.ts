/**
 * The counter that makes each message of a key different: Noise, revision 34, §5.1.
 *
 * @module
 */

import { equalBytes } from "../base/bytes.ts";

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
