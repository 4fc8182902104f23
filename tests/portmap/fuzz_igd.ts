/**
 * Decodes mutated SSDP, HTTP, XML and SOAP: `deno run -A tests/portmap/fuzz_igd.ts [--count N] [--seed N]`. Fails as
 * soon as a decoder throws anything but a MalformedMessageError, and at the end if an input took ten milliseconds in
 * every try.
 *
 * @module
 */

import { parseArgs } from "@std/cli/parse-args";
import { labelledRandom } from "../simnet/random.ts";
import { checkInput } from "./fuzz_igd_check.ts";
import { fuzzInput } from "./fuzz_igd_inputs.ts";

const { count, seed } = parseArgs(Deno.args, {
  string: ["count", "seed"],
  default: { count: "1000000", seed: `${Date.now()}` },
});
const result = fuzz(Number(count), Number(seed));
// deno-lint-ignore no-console -- a program
console.log(JSON.stringify(result));
if (result.slowestMs >= 10) Deno.exit(1);

function fuzz(count: number, seed: number) {
  const random = labelledRandom(seed, "igd");
  let decoded = 0;
  let slowestMs = 0;
  for (let index = 0; index < count; index++) {
    const bytes = fuzzInput(random);
    const startMs = performance.now();
    decoded += checkOrReport(bytes);
    slowestMs = Math.max(slowestMs, ownMs(bytes, performance.now() - startMs));
  }
  return { seed, count, decoded, slowestMs };
}

function checkOrReport(bytes: Uint8Array): number {
  try {
    return checkInput(bytes);
  } catch (error) {
    throw new Error(`Cannot decode ${JSON.stringify(new TextDecoder().decode(bytes))}`, {
      cause: error,
    });
  }
}

/** The time that an input takes when nothing comes between, such as the garbage collector. */
function ownMs(bytes: Uint8Array, firstMs: number): number {
  let bestMs = firstMs;
  for (let tries = 0; bestMs >= 1 && tries < 10; tries++) {
    const startMs = performance.now();
    checkInput(bytes);
    bestMs = Math.min(bestMs, performance.now() - startMs);
  }
  return bestMs;
}
