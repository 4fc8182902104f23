/**
 * Damages the recorded descriptions of devices 100,000 times: `deno run -A tests/portmap/fuzz_descriptions.ts
 * [--count N] [--seed N]`. Fails as soon as another service's path is taken for a connection's, or an error is not clear.
 *
 * @module
 */

import { parseArgs } from "@std/cli/parse-args";
import { labelledRandom } from "../simnet/random.ts";
import { checkDamaged, type DamageResult, readRecordings } from "./fuzz_descriptions_check.ts";

const { count, seed } = parseArgs(Deno.args, {
  string: ["count", "seed"],
  default: { count: "100000", seed: `${Date.now()}` },
});
const random = labelledRandom(Number(seed), "descriptions");
const recordings = readRecordings();
const results: Record<DamageResult, number> = { right: 0, none: 0, error: 0 };
for (let index = 0; index < Number(count); index++) {
  results[checkDamaged(recordings[index % recordings.length]!, random)]++;
}
// deno-lint-ignore no-console -- a program
console.log(JSON.stringify({ seed, count, ...results }));
