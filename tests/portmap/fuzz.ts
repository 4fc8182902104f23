/**
 * Decodes random and mutated messages of PCP and NAT-PMP: `deno run -A --v8-flags=--expose-gc tests/portmap/fuzz.ts
 * [--count N] [--seed N]`. Fails as soon as a decoder throws anything but a MalformedMessageError, and at the end if
 * memory has grown.
 *
 * @module
 */

import { parseArgs } from "@std/cli/parse-args";
import { toHex } from "../../lib/base/bytes.ts";
import { labelledRandom } from "../simnet/random.ts";
import { checkDecoders } from "./fuzz_check.ts";
import { fuzzMessage } from "./fuzz_messages.ts";

const { count, seed } = parseArgs(Deno.args, {
  string: ["count", "seed"],
  default: { count: "1000000", seed: `${Date.now()}` },
});
const result = fuzz(Number(count), Number(seed));
// deno-lint-ignore no-console -- a program
console.log(JSON.stringify(result));
if (result.heapGrowthBytes >= 1024 * 1024) Deno.exit(1);

function fuzz(count: number, seed: number) {
  const random = labelledRandom(seed, "portmap");
  let decoded = 0;
  const next = () => {
    const bytes = fuzzMessage(random);
    try {
      if (checkDecoders(bytes) > 0) decoded++;
    } catch (error) {
      throw new Error(`Cannot decode ${toHex(bytes)}`, { cause: error });
    }
  };
  const warmUp = Math.ceil(count / 10);
  for (let index = 0; index < warmUp; index++) next();
  const heapBefore = heapUsed();
  for (let index = warmUp; index < count; index++) next();
  const heapGrowthBytes = heapUsed() - heapBefore;
  return { seed, count, decoded, rejected: count - decoded, heapGrowthBytes };
}

/** The size of the heap, after a garbage collection if the flag exposes it. */
function heapUsed(): number {
  const { gc } = globalThis as { gc?: () => void };
  gc?.();
  return Deno.memoryUsage().heapUsed;
}
