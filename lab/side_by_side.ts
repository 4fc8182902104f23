// deno-lint-ignore-file no-console -- what it prints is its result
/**
 * Runs suites of the NAT lab in another checkout and in this one, in turn, and compares what they measured. Times count as
 * ratios, since both share the machine with whatever else it does.
 *
 *     git worktree add --detach ../before da83d1d
 *     deno run -A lab/side_by_side.ts ../before [--rounds N] [--runs N] [SUITE]...
 *
 * SUITE is `times` (how long a NAT test takes), `punch` or `peers` without its matrix; all of them by default. da83d1d is the
 * last commit before the layout, the words and the engines of today. Each round runs both checkouts, with `--runs` as the lab
 * takes it.
 *
 * @module
 */

import { TextLineStream } from "./kernel/lines.ts";
import { parseArgs } from "@std/cli/parse-args";

/** What one row of a suite measured. */
interface Row {
  readonly runs: number;
  readonly connected: number;
  /** By name; milliseconds, or numbers of packets. */
  readonly figures: Readonly<Record<string, number | null>>;
}

type Rows = ReadonlyMap<string, Row>;

async function measure(root: string, suite: string, runs: string): Promise<Rows> {
  const args = ["run", "-A", "cli.ts", "lab", suite, "--runs", runs];
  if (suite === "peers") return new Map(await printedPeerRows(root, args));
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: [...args, "--json"],
    cwd: root,
    stderr: "inherit",
  }).output();
  const data = JSON.parse(new TextDecoder().decode(stdout))[suite];
  return new Map(READERS[suite]!(data));
}

/** The settings of `peers`, as they are printed: it ends before the matrix, which takes several minutes. */
async function printedPeerRows(root: string, args: string[]): Promise<[string, Row][]> {
  const child = new Deno.Command(Deno.execPath(), { args, cwd: root, stdout: "piped" }).spawn();
  const rows: [string, Row][] = [];
  const lines = child.stdout.pipeThrough(new TextDecoderStream()).pipeThrough(new TextLineStream());
  for await (const line of lines) {
    console.error(line);
    const cells = line.split("|").map((each) => each.trim());
    const [, , setting, share, , , connectMs, firstByteMs] = cells;
    const [connected, runs] = share?.split("/").map(Number) ?? [];
    if (setting === undefined || runs === undefined) continue;
    const figures = { connectMs: Number(connectMs), firstByteMs: Number(firstByteMs) };
    rows.push([RENAMED[setting] ?? setting, { runs, connected: connected!, figures }]);
    if (setting.startsWith(LAST_SETTING)) break;
  }
  child.kill("SIGKILL"); // the namespaces end with their process, whose input it was
  await child.status;
  return rows;
}

/** The rows that both have, added up; ratios above 1 mean that this checkout takes longer, or sends more. */
function compared(before: readonly Rows[], now: readonly Rows[]) {
  const keys = [...before[0]!.keys()].filter((key) => now[0]!.has(key));
  const names = Object.keys(before[0]!.get(keys[0]!)!.figures);
  const ratios = names.map((name) => {
    const each = keys.flatMap((key) => {
      const [old, own] = [before, now].map((rounds) =>
        median(rounds.map((rows) => rows.get(key)!.figures[name]))
      );
      return old && own ? [own / old] : [];
    });
    return [name, {
      rows: each.length,
      median: rounded(median(each)),
      worst: rounded(Math.max(...each)),
    }];
  });
  return {
    rows: keys.length,
    onlyBefore: [...before[0]!.keys()].filter((key) => !keys.includes(key)),
    connected: { before: share(before, keys), now: share(now, keys) },
    ratios: Object.fromEntries(ratios),
  };
}

function share(rounds: readonly Rows[], keys: readonly string[]): string {
  const rows = rounds.flatMap((round) => keys.map((key) => round.get(key)!));
  const sum = (of: "runs" | "connected") => rows.reduce((sum, row) => sum + row[of], 0);
  return `${sum("connected")}/${sum("runs")}`;
}

function median(values: readonly (number | null | undefined)[]): number | null {
  const sorted = values.filter((each) => typeof each === "number").toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? null;
}

function rounded(ratio: number | null): number | null {
  return ratio === null ? null : Math.round(ratio * 100) / 100;
}

interface TimesRow {
  readonly nat: string;
  readonly alternateKnown: boolean;
  readonly medianMs: number;
  readonly lossyMs: number;
}

interface PunchCell {
  readonly kinds: readonly string[];
  readonly runs: number;
  readonly connected: number;
  readonly connectMs: { readonly median: number } | null;
  readonly totalMs: { readonly median: number } | null;
  readonly syns: { readonly median: number };
}

/** What the lab prints as JSON, as rows. */
// deno-lint-ignore no-explicit-any -- the data of two versions of the lab
const READERS: Readonly<Record<string, (data: any) => [string, Row][]>> = {
  times: ({ rows }: { readonly rows: readonly TimesRow[] }) =>
    rows.map(({ nat, alternateKnown, medianMs, lossyMs }) => [
      `${nat} ${alternateKnown}`,
      { runs: 1, connected: 1, figures: { medianMs, lossyMs } },
    ]),
  punch: ({ cells }: { readonly cells: readonly PunchCell[] }) =>
    cells.map(({ kinds, runs, connected, connectMs, totalMs, syns }) => [
      kinds.join(" x "),
      {
        runs,
        connected,
        figures: {
          connectMs: connectMs?.median ?? null,
          totalMs: totalMs?.median ?? null,
          syns: syns.median,
        },
      },
    ]),
};

/** Rows whose words have changed since. */
const RENAMED: Readonly<Record<string, string>> = {
  "51 ms to the servers and 82 ms between the NATs; both peers open, by WebSocket":
    "51 ms to the servers and 82 ms between the NATs; both peers open, signaling by WebSocket",
  "the same, by MQTT": "the same, signaling by MQTT",
  "two hosts in one LAN, by WebSocket 51 ms away":
    "two hosts in one LAN, signaling by WebSocket 51 ms away",
  "symmetric and random on both sides: only the relay, 51 ms away":
    "symmetric with random ports on both sides: only the relay works, 51 ms away",
  "carriers' NATs above home NATs": "home NATs behind carriers' NATs",
  "one side on the open internet": "one side on the public internet",
  "nothing but TCP to the rendezvous and to port 443 gets out, on both sides":
    "only outbound TCP to the rendezvous server and to port 443 allowed, on both sides",
  "5 % of all packets lost each way, 30 ms of jitter": "5 % loss each way, 30 ms of jitter",
};

/** The beginning of the last setting before the matrix, in both. */
const LAST_SETTING = "5 %";

const SUITES = ["times", "punch", "peers"];

const { _: [other, ...named], rounds, runs } = parseArgs(Deno.args, {
  string: ["rounds", "runs"],
  default: { rounds: "1", runs: "2" },
});
if (other === undefined) throw new TypeError("Cannot compare: name another checkout");
const unknown = named.find((name) => !SUITES.includes(`${name}`));
if (unknown !== undefined) {
  throw new TypeError(`Cannot compare ${unknown}: suites are ${SUITES.join(", ")}`);
}
for (const suite of named.length > 0 ? named.map(String) : SUITES) {
  const before: Rows[] = [];
  const now: Rows[] = [];
  for (let round = 0; round < Number(rounds); round++) {
    before.push(await measure(`${other}`, suite, `${runs}`));
    now.push(await measure(new URL("../", import.meta.url).pathname, suite, `${runs}`));
  }
  console.log(JSON.stringify({ suite, ...compared(before, now) }));
}
