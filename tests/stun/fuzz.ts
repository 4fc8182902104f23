/**
 * Decodes random and mutated messages: `deno run -A --v8-flags=--expose-gc tests/stun/fuzz.ts [--count N]
 * [--seed N]`. Fails as soon as the decoder throws anything but a MalformedMessageError, and at the end if a message
 * took a millisecond or memory has grown.
 *
 * A pause of the garbage collector or of the machine is not the fault of a message: a slow message is timed again at
 * once, and its best time counts. First times are reported as well, with those of a control that computes for about as
 * long and allocates nothing: what the control shows is due to the machine.
 *
 * @module
 */

import { parseArgs } from "@std/cli/parse-args";
import { toHex } from "../../lib/base/bytes.ts";
import { labelledRandom } from "../simnet/random.ts";
import { tryDecode } from "./fuzz_check.ts";
import { fuzzMessage } from "./fuzz_messages.ts";

const { count, seed } = parseArgs(Deno.args, {
  string: ["count", "seed"],
  default: { count: "1000000", seed: `${Date.now()}` },
});
const result = fuzz(Number(count), Number(seed));
// deno-lint-ignore no-console -- a program
console.log(JSON.stringify(result));
if (result.slowestMs >= 1 || result.heapGrowthBytes >= 1024 * 1024) Deno.exit(1);

function fuzz(count: number, seed: number) {
  const random = labelledRandom(seed, "stun");
  let decoded = 0;
  let slowestMs = 0;
  const firstMs = new Float64Array(count);
  const controlMs = new Float64Array(count);
  const next = (index: number) => {
    const bytes = fuzzMessage(random);
    controlMs[index] = timeMs(compute);
    let message;
    firstMs[index] = timeMs(() => message = decodeOrReport(bytes));
    if (message !== undefined) decoded++;
    slowestMs = Math.max(slowestMs, ownMs(bytes, firstMs[index]));
  };

  const warmUp = Math.min(count, Math.ceil(count / 10));
  for (let index = 0; index < warmUp; index++) next(index);
  const heapBefore = heapUsed();
  for (let index = warmUp; index < count; index++) next(index);
  const heapGrowthBytes = heapUsed() - heapBefore;

  return {
    seed,
    count,
    decoded,
    rejected: count - decoded,
    slowestMs,
    heapGrowthBytes,
    first: summary(firstMs),
    control: summary(controlMs),
  };
}

function summary(timesMs: Float64Array) {
  timesMs.sort();
  const quantile = (part: number) => timesMs[Math.floor((timesMs.length - 1) * part)];
  return {
    medianMs: quantile(0.5),
    p999Ms: quantile(0.999),
    slowestMs: quantile(1),
    overOneMs: timesMs.filter((ms) => ms >= 1).length,
  };
}

function decodeOrReport(bytes: Uint8Array) {
  try {
    return tryDecode(bytes);
  } catch (error) {
    throw new Error(`Cannot decode ${toHex(bytes)}`, { cause: error });
  }
}

/** The time that a message takes without interruptions. */
function ownMs(bytes: Uint8Array, firstMs: number): number {
  let bestMs = firstMs;
  for (let tries = 0; bestMs >= 0.05 && tries < 10; tries++) {
    bestMs = Math.min(bestMs, timeMs(() => tryDecode(bytes)));
  }
  return bestMs;
}

function timeMs(job: () => void): number {
  const startMs = performance.now();
  job();
  return performance.now() - startMs;
}

/** About as long as decoding takes. */
function compute(): void {
  let state = 1;
  for (let i = 0; i < 4000; i++) state = Math.imul(state ^ i, 0x01000193);
  if (state === 0) throw new Error("Cannot be: the hash of these numbers is not zero");
}

/** After a full collection, if the flag allows one. */
function heapUsed(): number {
  const { gc } = globalThis as { gc?: () => void };
  gc?.();
  return Deno.memoryUsage().heapUsed;
}
