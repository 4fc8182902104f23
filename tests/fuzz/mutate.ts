/**
 * Random mutations of messages.
 *
 * @module
 */

import { concat } from "../../lib/base/bytes.ts";
import { type Random, randomInteger } from "../simnet/random.ts";

/** The bytes with up to three changes: a flipped bit, another byte, another length, or a moved part. */
export function mutate(random: Random, bytes: Uint8Array): Uint8Array {
  let mutated = bytes.slice();
  for (let count = randomInteger(random, 0, 3); count > 0; count--) {
    const at = randomInteger(random, 0, Math.max(0, mutated.length - 1));
    switch (randomInteger(random, 0, 4)) {
      case 0:
        mutated[at]! ^= 1 << randomInteger(random, 0, 7);
        break;
      case 1:
        mutated[at] = pick(random, [0x00, 0x01, 0x02, 0x7f, 0x80, 0x81, 0xff]);
        break;
      case 2:
        mutated = mutated.slice(0, at);
        break;
      case 3:
        mutated = concat(mutated, randomBytes(random, randomInteger(random, 1, 8)));
        break;
      default:
        mutated = concat(mutated.subarray(0, at), mutated.subarray(randomInteger(random, 0, at)));
    }
  }
  return mutated;
}

/** The JSON value with a random part replaced or removed. */
export function mutateJson(random: Random, value: unknown): unknown {
  if (typeof value !== "object" || value === null || random() < 0.15) return pick(random, STRANGE);
  const keys = Object.keys(value);
  const key = keys.length === 0 ? "0" : pick(random, keys);
  const copy: Record<string, unknown> = Array.isArray(value) ? [...value] as never : { ...value };
  if (random() < 0.1) delete copy[key];
  else copy[key] = mutateJson(random, copy[key]);
  return copy;
}

/** Random bytes. */
export function randomBytes(random: Random, length: number): Uint8Array<ArrayBuffer> {
  return Uint8Array.from({ length }, () => randomInteger(random, 0, 255));
}

/** One of the choices. */
export function pick<T>(random: Random, choices: readonly T[]): T {
  return choices[randomInteger(random, 0, choices.length - 1)]!;
}

/** Values that no message should contain. */
const STRANGE: readonly unknown[] = [
  null,
  true,
  0,
  -1,
  0.5,
  65_536,
  2 ** 53,
  1e308,
  "",
  " ",
  "\0",
  "a".repeat(5000),
  "toString",
  [],
  {},
  [[]],
  Array(1000).fill(0),
  { length: 1e9 },
  "127.0.0.1",
  "::",
  "[::1]:0",
  "1.2.3.4:5",
];
