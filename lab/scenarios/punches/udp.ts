/**
 * The figures that punches by UDP must reach, and the matrix of all kinds of NAT by UDP.
 *
 * @module
 */

import { percentiles } from "../../kernel/counters.ts";
import type { InternetSpec } from "../../kernel/topology.ts";
import { natBehavior } from "../../model/nat_behavior.ts";
import type { SuiteOptions, SuiteResult } from "../verdicts/suites.ts";
import { ALL_KINDS } from "./matrix.ts";
import { NAT_KINDS, type NatKind, type NatKindName } from "./nat_kinds.ts";
import { PunchLab, type PunchRun } from "./punch_lab.ts";
import { summarize } from "./summary.ts";

/** The suites by name. */
export const UDP_SUITES = { udp: figuresSuite, "udp-matrix": matrixSuite } as const;

/** A row of the suite `udp`. Times are in milliseconds, from the moment when the later side knows both offers. */
interface UdpFigure {
  readonly setting: string;
  readonly kinds: readonly [NatKindName | NatKind, NatKindName | NatKind];
  readonly internet: InternetSpec;
  readonly runs: number;
  readonly signalRttMs?: number;
  /** The least share of runs that connect. */
  readonly share: number;
  /** Until a datagram has gone both ways, in the median. */
  readonly bothWaysMs?: number;
  /** Until an encrypted message has arrived at both sides, in the median. */
  readonly messageMs?: number;
  /** Until both sides have the path, in 95 of 100 runs, and in all. */
  readonly p95Ms?: number;
  readonly maxMs?: number;
  readonly medianMs?: number;
  /** Of both sides together. */
  readonly probes?: number;
}

const RTT_MS = 82;

const [PLAIN, LOSSY] = [{ rttMs: RTT_MS }, { rttMs: RTT_MS, loss: 0.05 }];

/** NATs that are hard for TCP only. */
const HARD_FOR_TCP: readonly NatKind[] = [
  kind("crossing SYNs dropped", { crossedSyn: "drop" }),
  kind("no simultaneous open", { crossedSyn: "strict" }),
  kind("SYNs reset", { unsolicitedSyn: "reset", resetEndsMapping: true }),
  kind("symmetric for TCP only", {
    tcp: { mapping: "address-and-port-dependent", allocation: { kind: "random" } },
  }),
];

const FIGURES: readonly UdpFigure[] = [
  ...HARD_FOR_TCP.map((each): UdpFigure => ({
    setting: `${each.name}, on both sides, RTT ${RTT_MS} ms`,
    kinds: [each, each],
    internet: PLAIN,
    runs: 100,
    share: 1,
    bothWaysMs: RTT_MS + 20,
    messageMs: 2 * RTT_MS + 20,
  })),
  {
    setting: `port-restricted x random symmetric, RTT ${RTT_MS} ms`,
    kinds: ["portRestricted", "random"],
    internet: PLAIN,
    runs: 500,
    share: 0.97,
    medianMs: 400,
    maxMs: 3000,
    probes: 1300,
  },
  {
    setting: `port-restricted on both sides, RTT ${RTT_MS} ms, 5 % loss each way`,
    kinds: ["portRestricted", "portRestricted"],
    internet: LOSSY,
    runs: 200,
    share: 1,
    p95Ms: 2 * RTT_MS + 100,
  },
];

async function figuresSuite(
  { runs, rows: wanted = [], print }: SuiteOptions,
): Promise<SuiteResult> {
  print(
    "| setting | flag | connected | datagram both ways, median (95 %, max) | path on both sides | encrypted message both ways | probes, max | reached |",
  );
  print("| --- | --- | --- | --- | --- | --- | --- | --- |");
  const lines: { readonly line: string; readonly passed: boolean }[] = [];
  const data: unknown[] = [];
  for (const unstable of [false, true]) {
    for (const figure of FIGURES) {
      if (wanted.length > 0 && !wanted.some((text) => figure.setting.includes(text))) continue;
      const found = await runFigure(figure, { unstable, runs: runs ?? figure.runs });
      const row = judge(figure, found);
      const flag = unstable ? "--unstable-net" : "--allow-net";
      const line = `| ${[figure.setting, flag, ...row.cells].join(" | ")} |`;
      print(line);
      for (const note of row.notes) print(`      ${note}`);
      lines.push({ line, passed: row.missed.length === 0 });
      data.push({ setting: figure.setting, unstable, missed: row.missed, ...summarize(found) });
    }
  }
  return { failures: lines.filter(({ passed }) => !passed).map(({ line }) => line), data };
}

async function runFigure(
  { kinds, internet, signalRttMs }: UdpFigure,
  { unstable, runs }: { readonly unstable: boolean; readonly runs: number },
): Promise<PunchRun[]> {
  await using lab = await PunchLab.start(internet, { unstable });
  await lab.run(kinds, { runs: 2, udp: true }); // warms up: the first runs load the programs
  return await lab.run(kinds, { runs, udp: true, isWarm: true, signalRttMs });
}

function judge(figure: UdpFigure, runs: readonly PunchRun[]) {
  const connected = runs.filter((run) => run.kind === "connected");
  const bothWays = times(connected.map(({ bothWaysMs = NaN }) => bothWaysMs));
  const both = times(connected.map(({ connectMs }) => connectMs));
  const message = times(connected.map(({ messageMs }) => messageMs));
  const probes = Math.max(0, ...connected.map(({ probes }) => probes));
  const share = connected.length / runs.length;
  const refused = runs.filter(({ kind }) => kind === "refused").length;
  const missed = [
    share < figure.share ? "share" : "",
    refused > 0 ? "refused" : "", // each pair has a way
    bothWays.median > (figure.bothWaysMs ?? Infinity) ? "both ways" : "",
    message.median > (figure.messageMs ?? Infinity) ? "message" : "",
    both.median > (figure.medianMs ?? Infinity) ? "median" : "",
    both.p95 > (figure.p95Ms ?? Infinity) ? "95 %" : "",
    both.max > (figure.maxMs ?? Infinity) ? "max" : "",
    probes > (figure.probes ?? Infinity) ? "probes" : "",
  ].filter((each) => each !== "");
  const cells = [
    `${connected.length} of ${runs.length}${refused > 0 ? `, ${refused} refused` : ""}`,
    text(bothWays),
    text(both),
    text(message),
    probes,
    missed.length === 0 ? "yes" : `no: ${missed.join(", ")}`,
  ];
  const others = runs.flatMap((run) => run.kind === "connected" ? [] : [run]);
  const reasons = Map.groupBy(others, ({ kind, reason }) => `${kind}: ${reason}`);
  const notes = Array.from(reasons, ([reason, { length }]) => `${length} ${reason}`);
  return { cells, missed, notes };
}

/** Every kind of NAT with every other, by UDP alone. */
async function matrixSuite({ runs = 2, print }: SuiteOptions): Promise<SuiteResult> {
  await using lab = await PunchLab.start({ rttMs: MATRIX_RTT_MS });
  await lab.run(["portRestricted", "portRestricted"], { runs: 2, udp: true });
  const failures: string[] = [];
  const cells: unknown[] = [];
  print("| one side | other side | by UDP | by | both sides, median | expected |");
  print("| --- | --- | --- | --- | --- | --- |");
  for (const [index, a] of ALL_KINDS.entries()) {
    for (const b of ALL_KINDS.slice(0, index + 1)) {
      const summary = summarize(await lab.run([a, b], { runs, udp: true, timeoutMs: TIMEOUT_MS }));
      const isHopeless = [[a, b], [b, a]].some(([one, other]) =>
        RANDOM.includes(one!) && [...RANDOM, ...SYMMETRIC].includes(other!)
      );
      const passed = isHopeless || summary.connected >= Math.ceil(runs / 2);
      const cell = [
        ...[NAT_KINDS[a].name, NAT_KINDS[b].name],
        `${summary.connected} of ${runs}`,
        summary.methods.join(", "),
        summary.connectMs === null ? "-" : `${summary.connectMs.median.toFixed(0)} ms`,
        isHopeless ? "relay" : "direct",
      ];
      const line = `| ${cell.join(" | ")} |`;
      print(line);
      cells.push({ kinds: [a, b], isHopeless, ...summary });
      if (!passed) failures.push(`${line} ${summary.notes.join("; ")}`);
    }
  }
  return { failures, data: { rttMs: MATRIX_RTT_MS, runs, cells } };
}

function times(values: readonly number[]): { median: number; p95: number; max: number } {
  const sorted = [...values].sort((a, b) => a - b);
  const { p50Ms, maxMs } = percentiles(sorted);
  const p95 = sorted[Math.max(0, Math.ceil(0.95 * sorted.length) - 1)] ?? 0;
  return { median: p50Ms, p95, max: maxMs };
}

function text({ median, p95, max }: ReturnType<typeof times>): string {
  return `${median.toFixed(0)} (${p95.toFixed(0)}, ${max.toFixed(0)}) ms`;
}

function kind(name: string, changes: Parameters<typeof natBehavior>[0]): NatKind {
  return { name, place: "nat", behavior: natBehavior(changes) };
}

/** A port that follows no pattern, beside one that is not known either, is hopeless. */
const RANDOM: readonly NatKindName[] = ["random", "block"];
const SYMMETRIC: readonly NatKindName[] = [
  "preserving",
  "sequential",
  "descending",
  "byTwos",
  "byThrees",
];

const MATRIX_RTT_MS = 50;

/** Long enough for a spray, and short for what is hopeless. */
const TIMEOUT_MS = 8000;
