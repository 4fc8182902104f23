/**
 * A million random inputs for the decoder of UDP paths and for each engine: `deno run -A --v8-flags=--expose-gc
 * tests/udp/fuzz.ts [--count N] [--seed N]`. Fails as soon as an invariant breaks or anything is thrown but a
 * MalformedMessageError, or at the end if memory grew or some input took a second, on a busy machine.
 *
 * @module
 */

import { parseArgs } from "@std/cli/parse-args";
import { labelledRandom } from "../simnet/random.ts";
import { UDP_TARGETS, type UdpFuzzTarget } from "./fuzz_check.ts";
import { PUNCH_TARGETS } from "./fuzz_punch.ts";

/** Then a new instance takes over. */
const INPUTS_EACH = 2000;

const given = parseArgs(Deno.args, {
  string: ["count", "seed"],
  default: { count: "1000000", seed: `${Date.now()}` },
});
const results = [...UDP_TARGETS, ...PUNCH_TARGETS].map((target) =>
  fuzz(target, Number(given.count), Number(given.seed))
);
// deno-lint-ignore no-console -- a program
console.log(JSON.stringify({ seed: Number(given.seed), results }));
if (
  results.some(({ slowestMs, heapGrowthBytes }) => slowestMs >= 1000 || heapGrowthBytes >= 2 ** 21)
) {
  Deno.exit(1);
}

function fuzz({ name, start }: UdpFuzzTarget, count: number, seed: number) {
  const random = labelledRandom(seed, name);
  let accepted = 0;
  let slowestMs = 0;
  let next = start(random);
  let heapBefore = 0;
  for (let i = 0; i < count; i++) {
    if (i % INPUTS_EACH === 0) next = start(random);
    if (i === Math.floor(count / 10)) heapBefore = heapUsed();
    const startMs = performance.now();
    if (next()) accepted++;
    slowestMs = Math.max(slowestMs, performance.now() - startMs);
  }
  return { name, count, accepted, slowestMs, heapGrowthBytes: heapUsed() - heapBefore };
}

/** After a full garbage collection, if the flag allows one. */
function heapUsed(): number {
  const { gc } = globalThis as { gc?: () => void };
  gc?.();
  return Deno.memoryUsage().heapUsed;
}
