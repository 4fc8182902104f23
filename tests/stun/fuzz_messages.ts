/**
 * Messages to break a STUN decoder with: random bytes, random attributes, and real messages with some of
 * their bytes changed.
 *
 * @module
 */

import { concat } from "../../lib/base/bytes.ts";
import { mutate, pick, randomBytes } from "../fuzz/mutate.ts";
import { type Random, randomInteger } from "../simnet/random.ts";
import {
  LONG_TERM_REQUEST,
  SAMPLE_IPV4_RESPONSE,
  SAMPLE_IPV6_RESPONSE,
  SAMPLE_REQUEST,
  SHA256_REQUEST,
} from "../vectors/stun_rfc.ts";

/** A random message. Most are small, like most messages on a network. */
export function fuzzMessage(random: Random): Uint8Array {
  return pick(random, KINDS)(random);
}

const KINDS: readonly ((random: Random) => Uint8Array)[] = [
  (random) => randomBytes(random, randomInteger(random, 0, 64)),
  (random) => message(random, randomBytes(random, 4 * randomInteger(random, 0, 64))),
  (random) => message(random, attributes(random, randomInteger(random, 0, 8))),
  (random) => damage(random, message(random, attributes(random, randomInteger(random, 1, 8)))),
  (random) => damage(random, pick(random, REAL).slice()),
  (random) => damage(random, pick(random, REAL).slice()),
  (random) => random() < 0.99 ? damage(random, pick(random, REAL).slice()) : large(random),
];

/** A message of up to the maximum length, in the shapes that cost most. */
function large(random: Random): Uint8Array {
  const length = 4 * randomInteger(random, 1000, 0x3fff);
  const body = new Uint8Array(length);
  const view = new DataView(body.buffer);
  switch (randomInteger(random, 0, 3)) {
    case 0: // as many attributes as fit
      for (let offset = 0; offset < length; offset += 4) view.setUint16(offset, code(random));
      break;
    case 1: // attributes of middle length
      for (let offset = 0; offset + 1024 <= length; offset += 1024) {
        view.setUint16(offset, code(random));
        view.setUint16(offset + 2, 1020);
      }
      break;
    default: // one attribute
      view.setUint16(0, code(random));
      view.setUint16(2, length - 4);
      if (random() < 0.5) body.fill(randomInteger(random, 0, 255), 4);
  }
  return message(random, body);
}

function message(random: Random, body: Uint8Array): Uint8Array {
  const header = randomBytes(random, 20);
  const view = new DataView(header.buffer);
  header[0]! &= 0x3f;
  view.setUint16(2, body.length);
  if (random() < 0.8) view.setUint32(4, 0x2112a442);
  return concat(header, body);
}

function attributes(random: Random, count: number): Uint8Array {
  const parts = Array.from({ length: count }, () => {
    const length = random() < 0.7 ? pick(random, LENGTHS) : randomInteger(random, 0, 40);
    const value = random() < 0.5 ? new Uint8Array(length) : randomBytes(random, length);
    if (random() < 0.5 && length > 1) value[1] = randomInteger(random, 1, 2);
    const type = code(random);
    const header = Uint8Array.of(type >> 8, type, length >> 8, length);
    return concat(header, value, new Uint8Array((4 - length % 4) % 4));
  });
  return concat(...parts);
}

/** Mutates a message. Half of the time the length is corrected, so that the decoder reads on. */
function damage(random: Random, bytes: Uint8Array): Uint8Array {
  const mutated = mutate(random, bytes);
  if (random() < 0.5 && mutated.length >= 20) {
    new DataView(mutated.buffer, mutated.byteOffset).setUint16(2, mutated.length - 20);
  }
  return mutated;
}

function code(random: Random): number {
  return random() < 0.9 ? pick(random, CODES) : randomInteger(random, 0, 0xffff);
}

const REAL = [
  SAMPLE_REQUEST,
  SAMPLE_IPV4_RESPONSE,
  SAMPLE_IPV6_RESPONSE,
  LONG_TERM_REQUEST,
  SHA256_REQUEST,
];

/** Every attribute with a codec, and some without. */
const CODES = [
  ...[0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x14, 0x15, 0x1c, 0x1d],
  ...[0x1e, 0x20, 0x24, 0x26, 0x27, 0x8002, 0x8003, 0x8022, 0x8023, 0x8028, 0x802b, 0x802c, 0xc001],
];

/** Lengths that some attribute requires. */
const LENGTHS = [0, 2, 4, 8, 16, 20, 32];
