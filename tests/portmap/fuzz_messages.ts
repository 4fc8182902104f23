/**
 * Messages that try to break the decoders of PCP and NAT-PMP: random bytes, and mutated real messages.
 *
 * @module
 */

import { concat } from "../../lib/base/bytes.ts";
import { mutate, pick, randomBytes } from "../fuzz/mutate.ts";
import { type Random, randomInteger } from "../simnet/random.ts";
import { NAT_PMP_REQUESTS, NAT_PMP_RESPONSES } from "../vectors/nat_pmp_messages.ts";
import { NAT_PMP_ONLY, PCP_REQUESTS, PCP_RESPONSES } from "../vectors/pcp_messages.ts";

/** The next message. */
export function fuzzMessage(random: Random): Uint8Array {
  const kind = random();
  if (kind < 0.1) return randomBytes(random, randomInteger(random, 0, 64));
  if (kind < 0.11) return randomBytes(random, randomInteger(random, 1000, 1200));
  const real = pick(random, REAL);
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

const REAL: readonly Uint8Array[] = [
  ...[...PCP_REQUESTS, ...PCP_RESPONSES, ...NAT_PMP_REQUESTS, ...NAT_PMP_RESPONSES]
    .map(({ bytes }) => bytes),
  NAT_PMP_ONLY,
];
