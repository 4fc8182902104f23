/**
 * Proofs that take longer than a test, with figures as JSON.
 *
 *     deno task prove kills [--seed N] [--kills 30] [--megabytes 400]
 *     deno task prove tree [--entries 164028 | --from FOLDER]
 *
 * `tree --from /usr/src/linux-source-6.1` sends Debian's kernel sources, once `linux-source` is installed and unpacked.
 *
 * @module
 */

// deno-lint-ignore-file no-console -- a program

import { parseArgs } from "@std/cli/parse-args";
import { runKills } from "./kills.ts";
import { makeTree, runTree } from "./trees.ts";

const { _: [what], ...options } = parseArgs(Deno.args, {
  string: ["seed", "kills", "megabytes", "entries", "from"],
  default: { seed: `${Date.now() % 2 ** 31}`, kills: "30", megabytes: "400", entries: "164028" },
});
const folder = await Deno.makeTempDir({ prefix: "prove-" });
try {
  if (what === "kills") {
    const [kills, megabytes, seed] = [options.kills, options.megabytes, options.seed].map(Number);
    const report = await runKills(folder, { kills: kills!, megabytes: megabytes!, seed: seed! });
    console.log(JSON.stringify(report));
    if (!report.isWhole || report.fruitless > 0) Deno.exitCode = 1;
  } else if (what === "tree") {
    const from = options.from as string | undefined;
    const source = from ?? `${folder}/tree`;
    if (from === undefined) await makeTree(source, Number(options.entries));
    await Deno.mkdir(`${folder}/in`);
    const report = await runTree(source, `${folder}/in`);
    console.log(JSON.stringify(report));
    if (!report.isEqual || report.differences !== "") Deno.exitCode = 1;
  } else {
    console.error("Usage: deno task prove kills|tree [--seed N] [--kills N] [--megabytes N] ...");
    Deno.exitCode = 2;
  }
} finally {
  await Deno.remove(folder, { recursive: true });
}
