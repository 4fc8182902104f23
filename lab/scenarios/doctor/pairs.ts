/**
 * What `doctor --with` predicts for pairs of NATs, and what then happens, on real kernels: both sides are examined, one
 * listens, and the other runs `doctor` with the report and the ticket of the first.
 *
 *     deno run -A lab/scenarios/doctor/pairs.ts [NAT NAT]...
 *
 * Prints Markdown; fails if more than one pair in twenty does something else than was predicted.
 *
 * @module
 */

import type { PairReport } from "../../../lib/doctor/report_message.ts";
import { Lab } from "../../kernel/lab.ts";
import { denoArgs, type LabHost } from "../../kernel/lab_host.ts";
import { nat } from "../../kernel/topology.ts";
import { natKind, type NatKindName } from "../punches/nat_kinds.ts";

/** What was predicted, and what happened. */
export interface DoctorPair {
  readonly here: NatKindName;
  readonly there: NatKindName;
  readonly pair: PairReport;
}

/** Examines one pair, in a lab of its own: servers limit how often one address asks for tests. */
export async function examinePair(here: NatKindName, there: NatKindName): Promise<DoctorPair> {
  await using lab = await Lab.start({
    hosts: {
      server: { addresses: [...SERVERS] },
      a: { behind: nat("portRestricted") },
      b: { behind: nat("portRestricted") },
    },
    internet: { rttMs: 50 },
  });
  await lab.nat("a/nat").setBehavior(natKind(here).behavior);
  await lab.nat("b/nat").setBehavior(natKind(there).behavior);
  const serve = ["serve", "--address", SERVERS[0], "--alternate", SERVERS[1]];
  await lab.host("server").serve(Deno.execPath(), denoArgs(CLI, serve), { ready: /rendezvous/i });
  const file = await Deno.makeTempFile({ suffix: ".json" });
  try {
    const { stdout } = await lab.host("b").output(Deno.execPath(), denoArgs(CLI, DOCTOR));
    await Deno.writeTextFile(file, stdout);
    const ticket = await listen(lab.host("b"));
    const args = [...DOCTOR, "--with", file, "--with", ticket];
    const examined = await lab.host("a").output(Deno.execPath(), denoArgs(CLI, args));
    if (examined.stdout === "") throw new Error(examined.stderr);
    return { here, there, pair: JSON.parse(examined.stdout).pair };
  } finally {
    await Deno.remove(file);
  }
}

/** Starts a listener, which ends with the lab; returns its ticket. */
async function listen(host: LabHost): Promise<string> {
  const child = host.spawn(Deno.execPath(), denoArgs(CLI, ["listen", ...MEET, "--json"]), {
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  });
  const found = Promise.withResolvers<string>();
  let text = "";
  // To its end, which is that of the lab: the listener goes on writing.
  const read = child.stderr.pipeThrough(new TextDecoderStream()).pipeTo(
    new WritableStream({
      write: (part) => {
        text += part;
        const [, ticket] = /"ticket":"(punchline:[\w-]+)"/.exec(text) ?? [];
        if (ticket !== undefined) found.resolve(ticket);
      },
    }),
  );
  read.finally(() => found.reject(new Error(`Cannot listen: ${text}`)));
  return await found.promise;
}

const CLI = new URL("../../../cli.ts", import.meta.url);

const SERVERS = ["203.0.113.10", "203.0.113.11"] as const;

const MEET = [
  ...["--server", SERVERS[0], "--server", `${SERVERS[1]}:3479`],
  ...["--rendezvous", `ws://${SERVERS[0]}:3480`],
];

const DOCTOR = ["doctor", ...MEET, "--json"];

/**
 * Each kind of plan, and of its failure. Not `few`, a NAT of 64 sessions: the examination uses them up, so that what is
 * tried right after it fails.
 */
const PAIRS: readonly (readonly [NatKindName, NatKindName])[] = [
  ["fullCone", "portRestricted"],
  ["portRestricted", "portRestricted"],
  ["addressRestricted", "random"],
  ["fullCone", "random"],
  ["portRestricted", "random"],
  ["random", "portRestricted"],
  ["random", "random"],
  ["sequential", "portRestricted"],
  ["resetting", "sequential"],
  ["strict", "portRestricted"],
  ["strict", "strict"],
];

if (import.meta.main) {
  const named = Deno.args as NatKindName[];
  const pairs = named.length === 0
    ? PAIRS
    : named.flatMap((here, index) => index % 2 === 0 ? [[here, named[index + 1]!] as const] : []);
  const print = (line: string) => Deno.stdout.writeSync(new TextEncoder().encode(`${line}\n`));
  print(
    "| here | there | expected | happened | at fault | why |\n| --- | --- | --- | --- | --- | --- |",
  );
  let wrong = 0;
  for (const [here, there] of pairs) {
    const { pair: { expected, tried, fault } } = await examinePair(here, there);
    const isRight = expected?.expectation === tried?.outcome;
    if (!isRight) wrong++;
    const cells = [
      ...[here, there, expected?.expectation, tried?.outcome, fault ?? "-"],
      `${isRight ? "" : "NOT AS PREDICTED: "}${expected?.reason}; ${tried?.reason}`,
    ];
    print(`| ${cells.join(" | ")} |`);
  }
  print(`\n${pairs.length - wrong} of ${pairs.length} as predicted`);
  if (wrong * 20 > pairs.length) Deno.exit(1);
}
