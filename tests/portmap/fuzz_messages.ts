/**
 * Messages to break PCP and NAT-PMP decoders with: random bytes, and real messages with some of their bytes changed.
 *
 * @module
 */

import { concat } from "../../lib/bytes.ts";
import { type Random, randomInteger } from "../simnet/random.ts";
import { NAT_PMP_REQUESTS, NAT_PMP_RESPONSES } from "../vectors/nat_pmp_messages.ts";
import { NAT_PMP_ONLY, PCP_REQUESTS, PCP_RESPONSES } from "../vectors/pcp_messages.ts";

/** The next message. */
export function fuzzMessage(random: Random): Uint8Array {
  const kind = random();
  if (kind < 0.1) return randomBytes(random, randomInteger(random, 0, 64));
  if (kind < 0.11) return randomBytes(random, randomInteger(random, 1000, 1200));
  const real = pick(random, REAL).slice();
  return mutate(random, kind < 0.4 ? concat(real, options(random)) : real);
}

function options(random: Random): Uint8Array {
  const parts = Array.from({ length: randomInteger(random, 1, 4) }, () => {
    const length = pick(random, [0, 1, 4, 16, 20, 33]);
    const code = random() < 0.8 ? randomInteger(random, 0, 4) : randomInteger(random, 0, 255);
    return concat(
      Uint8Array.of(code, 0, 0, length),
      randomBytes(random, Math.ceil(length / 4) * 4),
    );
  });
  return concat(...parts);
}

function mutate(random: Random, bytes: Uint8Array): Uint8Array {
  let mutated = bytes;
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

function randomBytes(random: Random, length: number): Uint8Array<ArrayBuffer> {
  return Uint8Array.from({ length }, () => randomInteger(random, 0, 255));
}

function pick<T>(random: Random, choices: readonly T[]): T {
  return choices[randomInteger(random, 0, choices.length - 1)]!;
}

const REAL: readonly Uint8Array[] = [
  ...[...PCP_REQUESTS, ...PCP_RESPONSES, ...NAT_PMP_REQUESTS, ...NAT_PMP_RESPONSES]
    .map(({ bytes }) => bytes),
  NAT_PMP_ONLY,
];
