/**
 * Many small arrays out of few allocations.
 *
 * @module
 */

/**
 * Hands out small arrays that are parts of a large one. V8 keeps arrays of more than 64 bytes outside its heap,
 * one allocation each, which costs a server of small datagrams a tenth of its time. An array that is kept keeps
 * all of the large one, so this is for what lives shortly.
 */
export class Slab {
  #bytes: Uint8Array<ArrayBuffer> = new Uint8Array(0);
  #used = 0;

  /** An array of zeros that nobody else has. */
  take(length: number): Uint8Array<ArrayBuffer> {
    if (length > MAX_PART) return new Uint8Array(length);
    if (this.#used + length > this.#bytes.length) {
      this.#bytes = new Uint8Array(SLAB_LENGTH);
      this.#used = 0;
    }
    this.#used += length;
    return this.#bytes.subarray(this.#used - length, this.#used);
  }
}

/** Ours: a hundred or more small datagrams. */
const SLAB_LENGTH = 16 * 1024;

/** Longer arrays are worth an allocation of their own. */
const MAX_PART = 1024;
