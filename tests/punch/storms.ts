/**
 * Many punches under bad conditions, one after another.
 *
 * ```sh
 * deno run -A tests/punch/storms.ts [RUNS [FIRST_SEED]]
 * ```
 *
 * @module
 */

import { storm, type StormOutcome } from "./storm.ts";

const [runs = 10_000, firstSeed = 1] = Deno.args.map(Number);
const outcomes: Partial<Record<StormOutcome, number>> = {};
const calm = { runs: 0, met: 0 };
const startedMs = performance.now();
let failures = 0;
for (let seed = firstSeed; seed < firstSeed + runs; seed++) {
  try {
    const result = await storm(seed);
    const { outcome, isAborted, isCertain } = result;
    outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
    const isCalm = isCertain && !isAborted;
    if (isCalm) calm.runs++;
    if (isCalm && outcome === "same connection") calm.met++;
    if (outcome === "divided" || isCalm && outcome !== "same connection") {
      report(seed, JSON.stringify(result));
    }
  } catch (error) {
    report(seed, error instanceof Error ? error.stack ?? error.message : `${error}`);
  }
}
const perSecond = runs / (performance.now() - startedMs) * 1000;
print(JSON.stringify({ runs, firstSeed, outcomes, calm, failures, perSecond }));
if (failures > 0) Deno.exit(1);

function report(seed: number, what: string): void {
  failures++;
  print(`seed ${seed}: ${what}`);
}

function print(line: string): void {
  Deno.stdout.writeSync(new TextEncoder().encode(`${line}\n`));
}
