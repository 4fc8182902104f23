// deno-lint-ignore-file no-console -- what it prints is its result
/**
 * Runs a proof and writes its figures as JSON:
 *
 *     deno task prove NAME [--seed S] [--runs N] [--out FILE]
 *
 * NAME and its own options are:
 *
 *     kills            a transfer under random kills        [--kills 30] [--megabytes 400]
 *     cli-kills        the same with send --key and recv --yes
 *     tree             a transfer of a whole tree           [--entries 164028 | --from FOLDER]
 *     descriptors      servers out of descriptors
 *     rendezvous-flood a rendezvous under a flood           [--seconds 60] [--floods 3] [--nice 10]
 *     relay-abuse      a relay under attack                 [--seconds 15] [--attack NAME]
 *     churn            connections opened and given up      [--cycles 1000] [--aborts 500]
 *     junk             STUN among junk datagrams            [--seconds 20]
 *     udp-stream       a stream over a bad UDP path, simulated
 *     udp-loss         a thousand punches by UDP at 5 % loss each way, simulated
 *     streams          many streams over one connection     [--streams 10000] [--at-once 1000] [--moves 20]
 *
 * `tree --from /usr/src/linux-source-6.1` sends Debian's kernel sources, once `linux-source` is installed and unpacked.
 * The exit code is 1 if a run misses its figure.
 *
 * @module
 */

import { parseArgs } from "@std/cli/parse-args";
import { messageOf } from "../../lib/base/errors.ts";
import { measureChurn } from "./churn.ts";
import { floodListen, floodServe } from "./descriptors.ts";
import { measureJunk } from "./junk.ts";
import { runCliKills, runKills } from "../hostile/kills.ts";
import { type AbuseFigures, ABUSES, measureRelayAbuse } from "./relay_abuse.ts";
import { makeTree, runTree } from "../hostile/trees.ts";
import { measureRendezvousFlood } from "./rendezvous_flood.ts";
import { measureStreams } from "./streams.ts";
import { lossyPunches } from "../punch/lossy_punches.ts";
import { udpStorm } from "../udp/udp_storm.ts";

/** The figures of one run, and in which of them it fails. */
interface Run {
  readonly figures: object;
  readonly failures: readonly string[];
}

const given = parseArgs(Deno.args, {
  string: [
    ...[
      "seed",
      "runs",
      "out",
      "kills",
      "megabytes",
      "entries",
      "from",
      "seconds",
      "floods",
      "nice",
      "cycles",
      "aborts",
      "streams",
      "at-once",
      "moves",
      "attack",
    ],
  ],
  default: {
    seed: "1",
    runs: "1",
    kills: "30",
    megabytes: "400",
    entries: "164028",
    cycles: "1000",
    aborts: "500",
  },
});
const PROOFS: Readonly<Record<string, (seed: number) => Promise<Run>>> = {
  kills: (seed) => proveKills(runKills, seed),
  "cli-kills": (seed) => proveKills(runCliKills, seed),
  tree: () =>
    withFolder(async (folder) => {
      const source = String(given.from ?? `${folder}/tree`);
      if (given.from === undefined) await makeTree(source, Number(given.entries));
      await Deno.mkdir(`${folder}/in`);
      const figures = await runTree(source, `${folder}/in`);
      const isEqual = figures.isEqual && figures.differences === "";
      return { figures, failures: failing({ "both trees are equal": isEqual }) };
    }),
  descriptors: async (seed) => {
    const figures = { ...await floodServe(seed), ...await floodListen(seed) };
    return {
      figures,
      failures: failing({
        "serves again within 2 s": Object.values(figures).every((ms) => ms !== null && ms <= 2000),
      }),
    };
  },
  "rendezvous-flood": async (seed) => {
    const seconds = Number(given.seconds ?? 60);
    const figures = await measureRendezvousFlood(seed, {
      seconds,
      sources: 64,
      floods: Number(given.floods ?? 1),
      niceness: Number(given.nice ?? 0),
    });
    return {
      figures,
      failures: failing({
        "an honest pair connects within twice its quiet time": figures.failed === 0 &&
          figures.floodedMs <= 2 * figures.quietMs,
        "memory is back within 10 %": figures.residentAfter.every((bytes) =>
          bytes <= 1.1 * figures.residentBefore
        ),
      }),
    };
  },
  "relay-abuse": async () => {
    const names = given.attack === undefined ? Object.keys(ABUSES) : [String(given.attack)];
    const figures: Record<string, AbuseFigures> = {};
    for (const name of names) {
      figures[name] = await measureRelayAbuse(name, Number(given.seconds ?? 15));
    }
    const all = Object.values(figures);
    return {
      figures,
      failures: failing({
        "memory is bounded": all.every(({ residentPeak }) => residentPeak <= 300e6),
        "every honest pair opens": all.every(({ opened }) => opened.succeeded === opened.tried),
        "an honest pair goes on": all.every(({ attacked }) => attacked.p99 <= 1000),
      }),
    };
  },
  churn: async (seed) => {
    const figures = await measureChurn(seed, {
      cycles: Number(given.cycles),
      aborts: Number(given.aborts),
    });
    const { before, afterCycles, afterAborts } = figures;
    const isClean = [afterCycles, afterAborts].every((after) =>
      after.files <= before.files && after.timers <= before.timers &&
      after.listeners <= before.listeners
    );
    return {
      figures,
      failures: failing({
        "no descriptor, timer or listener is left": isClean,
        "memory is flat": figures.growth <= 0.05,
        "every connection that is not given up succeeds": figures.failures === 0,
      }),
    };
  },
  junk: async (seed) => {
    const figures = await measureJunk(seed, { seconds: Number(given.seconds ?? 20) });
    return {
      figures,
      // A rate at which the echo answers less than 90 % is harder for both; one at which it answers all proves nothing.
      failures: failing({
        "the junk costs the echo a tenth of its answers": figures.echo <= 0.93,
        "the STUN server answers 80 %": figures.stun >= 0.8,
      }),
    };
  },
  streams: async (seed) => {
    const [streams, moves] = [Number(given.streams ?? 10_000), Number(given.moves ?? 20)];
    const atOnce = Number(given["at-once"] ?? 1000);
    const figures = await measureStreams(seed, { streams, atOnce, moves });
    return {
      figures,
      failures: failing({
        "all hashes are equal": figures.equal === figures.whole,
        "every stream has ended": figures.whole + figures.reset === streams,
        "every reset was told": figures.told === figures.reset,
        "all moves took place": figures.moves === moves,
        "nothing is left": figures.leftStreams === 0 && figures.leftBytes === 0,
      }),
    };
  },
  "udp-loss": async (seed) => {
    const rttMs = 82;
    const seeds = Array.from({ length: 1000 }, (_, index) => 1000 * seed + index);
    const figures = await lossyPunches({ rttMs, loss: 0.05, signalLoss: 0.1, seeds });
    return {
      figures,
      failures: failing({
        "fewer than one in a thousand fails": figures.failed.length === 0,
        "95 % within two round trips and 100 ms": figures.p95Ms <= 2 * rttMs + 100,
        "no steps of a second": figures.maxMs < 1000,
      }),
    };
  },
  "udp-stream": async (seed) => {
    try {
      return { figures: await udpStorm(seed), failures: [] };
    } catch (error) {
      return { figures: { seed, error: messageOf(error) }, failures: ["the hashes are equal"] };
    }
  },
};

const name = String(given._[0]);
const proof = PROOFS[name];
if (proof === undefined) {
  console.error(`Usage: deno task prove ${Object.keys(PROOFS).join("|")} [--seed S] [--runs N]`);
  Deno.exit(2);
}
const seed = Number(given.seed);
const runs: Run[] = [];
for (let i = 0; i < Number(given.runs); i++) runs.push(await proof(seed + i));
const report = JSON.stringify(
  {
    name,
    commit: await currentCommit(),
    seed,
    runs: runs.length,
    failures: runs.filter(({ failures }) => failures.length > 0).length,
    results: runs,
  },
  null,
  2,
);
console.log(report);
if (typeof given.out === "string") await Deno.writeTextFile(given.out, `${report}\n`);
Deno.exit(runs.some(({ failures }) => failures.length > 0) ? 1 : 0);

function proveKills(run: typeof runKills, seed: number): Promise<Run> {
  return withFolder(async (folder) => {
    const counts = { kills: Number(given.kills), megabytes: Number(given.megabytes) };
    const figures = await run(folder, { ...counts, seed });
    return {
      figures,
      failures: failing({
        "the file arrives whole": figures.isWhole,
        "every rerun adds bytes": figures.fruitless === 0,
        "every rerun goes on within 5 s": figures.resumedMs.longest <= 5000,
        "nothing else is left": figures.names.join() === "file",
      }),
    };
  });
}

async function withFolder(proof: (folder: string) => Promise<Run>): Promise<Run> {
  const folder = await Deno.makeTempDir({ prefix: "prove-" });
  try {
    return await proof(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

function failing(figures: Readonly<Record<string, boolean>>): string[] {
  return Object.entries(figures).filter(([, holds]) => !holds).map(([figure]) => figure);
}

async function currentCommit(): Promise<string> {
  const command = new Deno.Command("git", { args: ["rev-parse", "HEAD"] });
  return new TextDecoder().decode((await command.output()).stdout).trim();
}
