// deno-lint-ignore-file no-console
/**
 * Which pairs of NATs hyperdht (npm, by UDP) connects in the lab, without a relay; beside `deno task lab peer-matrix`.
 *
 *     cd bench/npm_hyperdht && npm install && deno run -A --config ../../deno.json matrix.ts [--runs N] [KIND]...
 *
 * @module
 */

import { parseArgs } from "@std/cli/parse-args";
import { Lab } from "../../lab/kernel/lab.ts";
import { nat } from "../../lab/kernel/topology.ts";
import { natKind, type NatKindName } from "../../lab/scenarios/punches/nat_kinds.ts";

/** What `peer.js` prints when it connects. */
interface Result {
  readonly outcome: "connected" | "failed";
  readonly reason?: string;
  readonly elapsedMs: number;
}

const PROGRAM = new URL("peer.js", import.meta.url).pathname;
const KINDS: readonly NatKindName[] = [
  "fullCone",
  "addressRestricted",
  "portRestricted",
  "sequential",
  "random",
];

const { _: given, runs } = parseArgs(Deno.args, { string: ["_", "runs"], default: { runs: "1" } });
const kinds = given.length > 0 ? given as NatKindName[] : KINDS;

await using lab = await Lab.start({
  hosts: {
    servers: {},
    a: { behind: nat("portRestricted") },
    b: { behind: nat("portRestricted") },
  },
  internet: { rttMs: 50 },
});
const { ip } = lab.host("servers");
await lab.host("servers").serve("node", [PROGRAM, "network", ip], { ready: /ready/ });
console.log("| connects | listens | connected | median ms | why not |\n| --- | --- | --- | --- | --- |");
for (const one of kinds) {
  for (const other of kinds) {
    const results: Result[] = [];
    for (let run = 0; run < Number(runs); run++) results.push(await connect(one, other));
    const times = results.filter(({ outcome }) => outcome === "connected")
      .map(({ elapsedMs }) => elapsedMs).sort((a, b) => a - b);
    const median = times[Math.floor(times.length / 2)]?.toFixed(0) ?? "";
    const reasons = new Set(results.flatMap(({ reason }) => reason ?? []));
    const cells = [
      natKind(one).name,
      natKind(other).name,
      `${times.length} of ${runs}`,
      median,
      [...reasons].join(", "),
    ];
    console.log(`| ${cells.join(" | ")} |`);
  }
}

async function connect(one: NatKindName, other: NatKindName): Promise<Result> {
  for (const [host, kind] of [["a", one], ["b", other]] as const) {
    const box = lab.nat(`${host}/nat`);
    await box.setBehavior(natKind(kind).behavior);
    await box.flush();
  }
  const { child, output } = await lab.host("b").serve("node", [PROGRAM, "listen", ip], {
    ready: /listening.*\n/,
  });
  const { key } = JSON.parse(output);
  const { stdout, stderr } = await lab.host("a").output("node", [PROGRAM, "connect", ip, key]);
  child.kill("SIGKILL");
  await child.status;
  if (stdout === "") throw new Error(`Cannot connect by hyperdht: ${stderr}`);
  return JSON.parse(stdout);
}
