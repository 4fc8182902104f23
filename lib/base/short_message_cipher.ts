/**
 * ChaCha20-Poly1305 (RFC 8439) for short messages, in JavaScript.
 *
 * It is the one cipher that is not the platform's, since that makes a dozen objects for each message: one byte and its echo
 * through a forwarded port took 1.67 times as long as through `ssh -L` with it, 1.8 times with `@noble/ciphers`, and take 1.43
 * times with this (medians of `bench/forward_bench.ts`). Longer messages are the platform's.
 *
 * @module
 */

/**
 * ChaCha20-Poly1305 for short messages without additional data. No branch and no index depends on a secret.
 */
export class ShortMessageCipher {
  /** The input of the block function (RFC 8439 §2.3): constants, key, block counter and nonce. */
  readonly #state = new Int32Array(16);
  /** The last block of the key stream; the first one is the key of the authenticator. */
  readonly #block = new Int32Array(16);
  readonly #poly = new Poly1305();

  /** @param key 32 bytes, copied: {@linkcode ShortMessageCipher.destroy} erases the copy */
  constructor(key: Uint8Array) {
    this.#state.set(CHACHA_CONSTANTS);
    for (let i = 0; i < 8; i++) this.#state[4 + i] = wordAt(key, 4 * i);
  }

  /**
   * Writes the ciphertext and its tag of 16 bytes to `target`, from the offset `at` on.
   *
   * @param nonce 12 bytes; never use one twice with the same key
   * @throws {TypeError} after {@linkcode ShortMessageCipher.destroy}
   */
  sealInto(target: Uint8Array, at: number, nonce: Uint8Array, plaintext: Uint8Array): void {
    this.#start(nonce);
    this.#xor(plaintext, 0, plaintext.length, target, at);
    this.#authenticate(target, at, plaintext.length);
    const { tag } = this.#poly;
    const tagAt = at + plaintext.length;
    for (let i = 0; i < TAG_LENGTH; i++) target[tagAt + i] = tag[i >> 2]! >>> 8 * (i & 3);
  }

  /**
   * The plaintext, in an array of its own, or `undefined` if the message is not authentic.
   *
   * @throws {TypeError} after {@linkcode ShortMessageCipher.destroy}
   */
  open(nonce: Uint8Array, sealed: Uint8Array): Uint8Array<ArrayBuffer> | undefined {
    const length = sealed.length - TAG_LENGTH;
    if (length < 0) return undefined;
    this.#start(nonce);
    this.#authenticate(sealed, 0, length);
    const { tag } = this.#poly;
    let difference = 0;
    for (let i = 0; i < 4; i++) difference |= tag[i]! ^ wordAt(sealed, length + 4 * i);
    if (difference !== 0) return undefined;
    const plaintext = new Uint8Array(length);
    this.#xor(sealed, 0, length, plaintext, 0);
    return plaintext;
  }

  /** Erases the key; idempotent. */
  destroy(): void {
    this.#state.fill(0);
    this.#block.fill(0);
    this.#poly.destroy();
  }

  /** Takes the authenticator's key from block 0 (RFC 8439 §2.6). */
  #start(nonce: Uint8Array): void {
    // The key stream of an erased state is zeros: it would encrypt nothing, and take anything for authentic.
    if (this.#state[0] === 0) throw new TypeError("Cannot use the key: it was destroyed");
    this.#state[12] = 0;
    for (let i = 0; i < 3; i++) this.#state[13 + i] = wordAt(nonce, 4 * i);
    chachaBlock(this.#state, this.#block);
    this.#poly.start(this.#block);
  }

  /** Encrypts or decrypts with the blocks from 1 on (RFC 8439 §2.4). */
  #xor(source: Uint8Array, from: number, length: number, target: Uint8Array, to: number): void {
    const block = this.#block;
    for (let i = 0; i < length; i++) {
      const index = i & 63;
      if (index === 0) {
        this.#state[12]!++;
        chachaBlock(this.#state, block);
      }
      target[to + i] = source[from + i]! ^ block[index >> 2]! >>> 8 * (index & 3);
    }
  }

  /** The tag of the ciphertext and the two lengths (RFC 8439 §2.8); that of the additional data is 0. */
  #authenticate(bytes: Uint8Array, at: number, length: number): void {
    const poly = this.#poly, end = at + length;
    for (let i = at; i < end; i += 16) {
      poly.add(
        wordAt(bytes, i, end),
        wordAt(bytes, i + 4, end),
        wordAt(bytes, i + 8, end),
        wordAt(bytes, i + 12, end),
      );
    }
    poly.add(0, 0, length, 0);
    poly.finish();
  }
}

/**
 * The authenticator of RFC 8439 §2.5, for blocks of 16 bytes. Numbers of 130 bits are six limbs of 22 bits: sums of products
 * then stay below 2^53, and are exact.
 */
export class Poly1305 {
  /** The tag, after {@linkcode Poly1305.finish}: four words, little-endian. */
  readonly tag = new Int32Array(4);
  readonly #r = new Float64Array(6);
  readonly #h = new Float64Array(6);
  /** The second half of the key. */
  readonly #s = new Int32Array(4);
  /** What {@linkcode Poly1305.finish} works with. */
  readonly #limbs = new Int32Array(6);
  readonly #less = new Int32Array(6);

  /** Begins a message. @param key the first 32 bytes of the block */
  start(key: Int32Array): void {
    setLimbs(this.#r, key[0]! & 0x0fffffff, key[1]! & CLAMP, key[2]! & CLAMP, key[3]! & CLAMP);
    this.#h.fill(0);
    for (let i = 0; i < 4; i++) this.#s[i] = key[4 + i]!;
  }

  /** Adds a block of four words, and multiplies. */
  add(w0: number, w1: number, w2: number, w3: number): void {
    const h = this.#h, r = this.#r;
    const h0 = h[0]! + (w0 & LIMB);
    const h1 = h[1]! + ((w0 >>> 22 | w1 << 10) & LIMB);
    const h2 = h[2]! + ((w1 >>> 12 | w2 << 20) & LIMB);
    const h3 = h[3]! + (w2 >>> 2 & LIMB);
    const h4 = h[4]! + ((w2 >>> 24 | w3 << 8) & LIMB);
    const h5 = h[5]! + (w3 >>> 14 | 1 << 18); // and 2^128
    const r0 = r[0]!, r1 = r[1]!, r2 = r[2]!, r3 = r[3]!, r4 = r[4]!, r5 = r[5]!;
    const s1 = 20 * r1, s2 = 20 * r2, s3 = 20 * r3, s4 = 20 * r4, s5 = 20 * r5; // 2^132 is 20
    let d = h0 * r0 + h1 * s5 + h2 * s4 + h3 * s3 + h4 * s2 + h5 * s1;
    let carry = Math.floor(d * TO_NEXT_LIMB);
    let first = d - carry * LIMB_SIZE;
    d = carry + h0 * r1 + h1 * r0 + h2 * s5 + h3 * s4 + h4 * s3 + h5 * s2;
    carry = Math.floor(d * TO_NEXT_LIMB);
    let second = d - carry * LIMB_SIZE;
    d = carry + h0 * r2 + h1 * r1 + h2 * r0 + h3 * s5 + h4 * s4 + h5 * s3;
    carry = Math.floor(d * TO_NEXT_LIMB);
    h[2] = d - carry * LIMB_SIZE;
    d = carry + h0 * r3 + h1 * r2 + h2 * r1 + h3 * r0 + h4 * s5 + h5 * s4;
    carry = Math.floor(d * TO_NEXT_LIMB);
    h[3] = d - carry * LIMB_SIZE;
    d = carry + h0 * r4 + h1 * r3 + h2 * r2 + h3 * r1 + h4 * r0 + h5 * s5;
    carry = Math.floor(d * TO_NEXT_LIMB);
    h[4] = d - carry * LIMB_SIZE;
    d = carry + h0 * r5 + h1 * r4 + h2 * r3 + h3 * r2 + h4 * r1 + h5 * r0;
    carry = Math.floor(d * TO_NEXT_LIMB);
    h[5] = d - carry * LIMB_SIZE;
    first += 20 * carry;
    carry = Math.floor(first * TO_NEXT_LIMB);
    first -= carry * LIMB_SIZE;
    second += carry;
    h[0] = first;
    h[1] = second;
  }

  /** Computes the tag. */
  finish(): void {
    const limbs = this.#limbs, less = this.#less;
    limbs.set(this.#h);
    fold(limbs);
    fold(limbs);
    let carry = 5; // minus the prime 2^130 - 5, if that is not negative
    for (let i = 0; i < 6; i++) {
      const sum = limbs[i]! + carry;
      less[i] = sum & LIMB;
      carry = sum >>> LIMB_BITS;
    }
    const mask = -(less[5]! >>> TOP_BITS);
    less[5]! &= TOP;
    for (let i = 0; i < 6; i++) limbs[i] = limbs[i]! & ~mask | less[i]! & mask;
    const words = this.tag;
    words[0] = limbs[0]! | limbs[1]! << 22;
    words[1] = limbs[1]! >>> 10 | limbs[2]! << 12;
    words[2] = limbs[2]! >>> 20 | limbs[3]! << 2 | limbs[4]! << 24;
    words[3] = limbs[4]! >>> 8 | limbs[5]! << 14;
    let sum = 0;
    for (let i = 0; i < 4; i++) {
      sum = (words[i]! >>> 0) + (this.#s[i]! >>> 0) + Math.floor(sum / 2 ** 32);
      words[i] = sum;
    }
  }

  /** Erases everything; idempotent. */
  destroy(): void {
    for (const secret of [this.tag, this.#r, this.#h, this.#s, this.#limbs, this.#less]) {
      secret.fill(0);
    }
  }
}

/** Six limbs of four words, little-endian. */
function setLimbs(target: Float64Array, w0: number, w1: number, w2: number, w3: number): void {
  target[0] = w0 & LIMB;
  target[1] = (w0 >>> 22 | w1 << 10) & LIMB;
  target[2] = (w1 >>> 12 | w2 << 20) & LIMB;
  target[3] = w2 >>> 2 & LIMB;
  target[4] = (w2 >>> 24 | w3 << 8) & LIMB;
  target[5] = w3 >>> 14;
}

/** Carries from limb to limb, and five times what is over 2^130 to the first. */
function fold(limbs: Int32Array): void {
  let carry = 0;
  for (let i = 0; i < 6; i++) {
    const sum = limbs[i]! + carry;
    limbs[i] = sum & LIMB;
    carry = sum >>> LIMB_BITS;
  }
  const over = carry << LIMB_BITS - TOP_BITS | limbs[5]! >>> TOP_BITS;
  limbs[5]! &= TOP;
  limbs[0]! += 5 * over;
}

/** Ten double rounds, and the sum with the input (RFC 8439 §2.3). */
function chachaBlock(state: Int32Array, block: Int32Array): void {
  block.set(state);
  for (let round = 0; round < 10; round++) {
    for (let i = 0; i < 4; i++) quarterRound(block, i, 4 + i, 8 + i, 12 + i);
    for (let i = 0; i < 4; i++) {
      quarterRound(block, i, 4 + (i + 1 & 3), 8 + (i + 2 & 3), 12 + (i + 3 & 3));
    }
  }
  for (let i = 0; i < 16; i++) block[i]! += state[i]!;
}

/** RFC 8439 §2.1. */
function quarterRound(x: Int32Array, ia: number, ib: number, ic: number, id: number): void {
  let a = x[ia]!, b = x[ib]!, c = x[ic]!, d = x[id]!;
  a = a + b | 0, d ^= a, d = d << 16 | d >>> 16;
  c = c + d | 0, b ^= c, b = b << 12 | b >>> 20;
  a = a + b | 0, d ^= a, d = d << 8 | d >>> 24;
  c = c + d | 0, b ^= c, b = b << 7 | b >>> 25;
  x[ia] = a, x[ib] = b, x[ic] = c, x[id] = d;
}

/** Four bytes as a number, little-endian; 0 for those that are not before `end`. */
function wordAt(bytes: Uint8Array, at: number, end: number = bytes.length): number {
  if (at + 4 <= end) {
    return bytes[at]! | bytes[at + 1]! << 8 | bytes[at + 2]! << 16 | bytes[at + 3]! << 24;
  }
  let word = 0;
  for (let i = at; i < end; i++) word |= bytes[i]! << 8 * (i - at);
  return word;
}

const TAG_LENGTH = 16;

/** "expand 32-byte k". */
const CHACHA_CONSTANTS = [0x61707865, 0x3320646e, 0x79622d32, 0x6b206574];

/** What is left of the authenticator's key. */
const CLAMP = 0x0ffffffc;

const LIMB_BITS = 22;
const LIMB_SIZE = 2 ** LIMB_BITS;
const LIMB = LIMB_SIZE - 1;
const TO_NEXT_LIMB = 2 ** -LIMB_BITS;

/** The bits of the last limb that are below 2^130. */
const TOP_BITS = 130 - 5 * LIMB_BITS;
const TOP = 2 ** TOP_BITS - 1;
