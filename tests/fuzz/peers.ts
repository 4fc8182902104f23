/**
 * Decodes random and mutated messages of peers and of signaling servers: `deno run -A --v8-flags=--expose-gc
 * tests/fuzz/peers.ts [--count N] [--seed N]`. Fails as soon as a decoder throws anything but a MalformedMessageError,
 * or at the end if some message always took ten milliseconds, or memory grew.
 *
 * @module
 */

import { parseArgs } from "@std/cli/parse-args";
import { labelledRandom } from "../simnet/random.ts";
import { pick } from "./mutate.ts";
import { isAccepted, type Target, TARGETS } from "./peer_messages.ts";

const { count, seed } = parseArgs(Deno.args, {
  string: ["count", "seed"],
  default: { count: "1000000", seed: `${Date.now()}` },
});
const result = fuzz(Number(count), Number(seed));
// deno-lint-ignore no-console -- a program
console.log(JSON.stringify(result));
if (result.slowest.ms >= 10 || result.heapGrowthBytes >= 1024 * 1024) Deno.exit(1);

function fuzz(count: number, seed: number) {
  const random = labelledRandom(seed, "peers");
  let decoded = 0;
  let slowest = { name: "", ms: 0 };
  const next = () => {
    const target = pick(random, TARGETS);
    const bytes = target.next(random);
    const startMs = performance.now();
    if (isAccepted(target, bytes)) decoded++;
    const ms = ownMs(target, bytes, performance.now() - startMs);
    if (ms > slowest.ms) slowest = { name: target.name, ms };
  };
  const warmUp = Math.ceil(count / 10);
  for (let index = 0; index < warmUp; index++) next();
  const heapBefore = heapUsed();
  for (let index = warmUp; index < count; index++) next();
  const heapGrowthBytes = heapUsed() - heapBefore;
  return { seed, count, decoded, rejected: count - decoded, slowest, heapGrowthBytes };
}

/** How long a message takes without interruptions, such as by the garbage collector. */
function ownMs(target: Target, bytes: Uint8Array, firstMs: number): number {
  let bestMs = firstMs;
  for (let tries = 0; bestMs >= 1 && tries < 10; tries++) {
    const startMs = performance.now();
    isAccepted(target, bytes);
    bestMs = Math.min(bestMs, performance.now() - startMs);
  }
  return bestMs;
}

/** After a full garbage collection, if the flag allows one. */
function heapUsed(): number {
  const { gc } = globalThis as { gc?: () => void };
  gc?.();
  return Deno.memoryUsage().heapUsed;
}
