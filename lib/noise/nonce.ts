/**
 * The counter that makes each message of a key different: Noise, revision 34, §5.1.
 *
 * @module
 */

/** Counts up, never down, and ends before it would repeat itself. */
export class Nonce {
  #value: bigint;

  /** @param first where to begin */
  constructor(first = 0n) {
    this.#value = first;
  }

  /**
   * The nonce of the next message, as ChaChaPoly has it (§12.3): 32 bits of zeros, then 64 bits, little-endian.
   *
   * @throws {RangeError} at 2^64-1, which is reserved for rekeying
   */
  encode(): Uint8Array<ArrayBuffer> {
    if (this.#value >= REKEY_NONCE) {
      throw new RangeError("Cannot use the key again: all of its 2^64-1 nonces are spent");
    }
    return encode(this.#value);
  }

  /** Goes on to the next one. */
  increment(): void {
    this.#value++;
  }
}

/** The nonce 2^64-1, with which a key encrypts its successor. */
export function rekeyNonce(): Uint8Array<ArrayBuffer> {
  return encode(REKEY_NONCE);
}

function encode(value: bigint): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(12);
  new DataView(bytes.buffer).setBigUint64(4, value, true);
  return bytes;
}

const REKEY_NONCE = 2n ** 64n - 1n;
