/**
 * The lab suites of the NAT test. Each prints a table for people and returns data.
 *
 * @module
 */

import { type AdverseResult, runAdverse } from "./adverse.ts";
import {
  ALLOCATIONS,
  type Combination,
  combinations,
  type Judgement,
  nameOf,
} from "./combinations.ts";
import { type Cell, runMatrix } from "./matrix.ts";
import { runReportTimes } from "./report_times.ts";
import type { ServerName } from "./stun_servers.ts";

/** What the command line can vary. */
export interface SuiteOptions {
  /** How many runs for each NAT and server. */
  readonly runs?: number;
  readonly servers?: readonly ServerName[];
  /** Runs only the figures whose setting contains one of these. */
  readonly rows?: readonly string[];
  /** Receives each line of the table as soon as it is known. */
  readonly print: (line: string) => void;
}

/** The result of a suite. */
export interface SuiteResult {
  /** Which of the suite's own goals were missed; empty if it passed. */
  readonly failures: readonly string[];
  readonly data: unknown;
  /** An SVG picture of the results. */
  readonly picture?: string;
}

/** The suites by name. */
export const SUITES: Readonly<Record<string, (options: SuiteOptions) => Promise<SuiteResult>>> = {
  /** Every NAT with every server, RTT 50 ms, no loss. Goal: all verdicts right. */
  verdicts: (options) =>
    matrixSuite(options, {
      combinations: combinations(),
      servers: ["punchline", "coturn", "vovida"],
      runs: 1,
      internet: { rttMs: 50 },
    }),
  /** The same at 5 % loss each way and 10 ms jitter. Goal: no verdict wrong, at most 2 % unknown. */
  loss: (options) =>
    matrixSuite(options, {
      combinations: combinations(),
      servers: ["punchline"],
      runs: 20,
      internet: { rttMs: 50, loss: 0.05, jitterMs: 10 },
    }),
  times: timesSuite,
  /** The same, and the whole report over UDP and TCP, by the command itself, as a person waits for it. */
  report: reportSuite,
  adverse: async ({ print }) => {
    const results = await runAdverse((result) => print(adverseLine(result)));
    const wrong = results.filter(({ judgement }) => judgement === "wrong");
    return { failures: wrong.map(adverseLine), data: results };
  },
};

interface MatrixSetting {
  readonly combinations: readonly Combination[];
  readonly servers: readonly ServerName[];
  readonly runs: number;
  readonly internet: { rttMs: number; loss?: number; jitterMs?: number };
}

async function matrixSuite(options: SuiteOptions, setting: MatrixSetting): Promise<SuiteResult> {
  const { runs = setting.runs, servers = setting.servers, print } = options;
  const { rttMs, loss = 0, jitterMs = 0 } = setting.internet;
  print(
    `RTT ${rttMs} ms, loss ${
      loss * 100
    } % each way, jitter ${jitterMs} ms; ${runs} runs each; right/unknown/wrong`,
  );
  print(CELL_HEADING);
  const cells = await runMatrix({
    ...setting,
    servers,
    runs,
    alternateKnown: false,
    onCell: (cell) => {
      print(cellLine(cell));
      for (const note of cell.notes) print(`    ${note}`);
    },
  });
  const total = totals(cells);
  const verdicts = PARTS.length * runs * cells.length;
  print(
    `${verdicts} verdicts: ${total.right} right, ${total.unknown} unknown, ${total.wrong} wrong`,
  );
  const failures = [
    ...total.wrong > 0 ? [`${total.wrong} verdicts were wrong`] : [],
    ...total.unknown > verdicts * MAX_UNKNOWN ? [`${total.unknown} verdicts were unknown`] : [],
  ];
  return { failures, data: { setting: { ...setting, runs, servers }, total, cells } };
}

/** The time to a full UDP verdict at RTT 51 ms, with and without loss. */
async function timesSuite({ runs = 15, print }: SuiteOptions): Promise<SuiteResult> {
  const failures: string[] = [];
  const rows: unknown[] = [];
  print(`Median time to a full UDP verdict, RTT ${TIMES_RTT_MS} ms, ${runs} runs each`);
  print(
    `${"NAT".padEnd(30)}${"alternate".padEnd(11)}${"lossless".padEnd(12)}${
      "goal".padEnd(9)
    }5 % loss  ratio`,
  );
  for (const alternateKnown of [true, false]) {
    const measure = (loss: number) =>
      runMatrix({
        combinations: TIMED,
        servers: ["punchline"],
        runs,
        internet: { rttMs: TIMES_RTT_MS, loss },
        alternateKnown,
      });
    const [lossless, lossy] = [await measure(0), await measure(0.05)];
    for (const [index, cell] of lossless.entries()) {
      const isOpen = TIMED[index]!.filtering === "endpoint-independent";
      const goalMs = isOpen ? TIMES_RTT_MS * (alternateKnown ? 1 : 2) + 15 : 250;
      const [medianMs, lossyMs] = [median(cell.elapsedMs), median(lossy[index]!.elapsedMs)];
      const ratio = lossyMs / medianMs;
      const known = alternateKnown ? "known" : "unknown";
      print(
        `${cell.nat.padEnd(30)}${known.padEnd(11)}${`${medianMs.toFixed(0)} ms`.padEnd(12)}${
          `${goalMs} ms`.padEnd(9)
        }${`${lossyMs.toFixed(0)} ms`.padEnd(10)}${ratio.toFixed(2)}`,
      );
      rows.push({ nat: cell.nat, alternateKnown, medianMs, goalMs, lossyMs, ratio });
      if (medianMs > goalMs) {
        failures.push(`${cell.nat}, alternate ${known}: ${medianMs} ms > ${goalMs} ms`);
      }
      if (ratio > 2) {
        failures.push(`${cell.nat}, alternate ${known}: ${ratio} times as long with loss`);
      }
    }
  }
  return { failures, data: { rttMs: TIMES_RTT_MS, runs, rows } };
}

async function reportSuite({ runs = 7, print }: SuiteOptions): Promise<SuiteResult> {
  print(
    `Median times that nat-test reports in a new program, RTT ${TIMES_RTT_MS} ms, ${runs} runs each`,
  );
  print(
    `${"NAT".padEnd(30)}${"alternate".padEnd(11)}${
      "UDP (goal)".padEnd(18)
    }whole (goal)      UDP printed earlier by`,
  );
  const rows = await runReportTimes({ combinations: TIMED, rttMs: TIMES_RTT_MS, runs });
  const failures: string[] = [];
  for (const row of rows) {
    const isCone = row.combination.filtering === "endpoint-independent";
    const udpGoalMs = isCone ? (row.alternateKnown ? 66 : 112) : 250;
    const goalMs = isCone ? 250 : 450;
    const [udpMs, wholeMs, printedMs] = [row.udpMs, row.wholeMs, row.printedMs].map(median);
    const known = row.alternateKnown ? "known" : "unknown";
    const name = nameOf(row.combination);
    print(
      `${name.padEnd(30)}${known.padEnd(11)}${`${udpMs!.toFixed(0)} ms (${udpGoalMs})`.padEnd(18)}${
        `${wholeMs!.toFixed(0)} ms (${goalMs})`.padEnd(18)
      }${printedMs!.toFixed(0)} ms`,
    );
    if (udpMs! > udpGoalMs) failures.push(`${name}, alternate ${known}: UDP took ${udpMs} ms`);
    if (wholeMs! > goalMs) failures.push(`${name}, alternate ${known}: all took ${wholeMs} ms`);
  }
  return { failures, data: { rttMs: TIMES_RTT_MS, runs, rows } };
}

function totals(cells: readonly Cell[]): Record<Judgement, number> {
  const total = { right: 0, unknown: 0, wrong: 0 };
  for (const { counts } of cells) {
    for (const part of PARTS) {
      for (const judgement of JUDGEMENTS) total[judgement] += counts[part][judgement];
    }
  }
  return total;
}

function cellLine({ nat, server, counts, elapsedMs, packets }: Cell): string {
  const columns = PARTS.map((part) =>
    JUDGEMENTS.map((judgement) => counts[part][judgement]).join("/").padEnd(12)
  );
  const times = `${median(elapsedMs).toFixed(0)} ms`.padEnd(9) +
    `${(elapsedMs.at(-1) ?? NaN).toFixed(0)} ms`.padEnd(9);
  return `${nat.padEnd(30)}${server.padEnd(9)}${columns.join("")}${times}${packets.toFixed(0)}`;
}

function adverseLine({ judgement, nat, condition, result, wallMs }: AdverseResult): string {
  return `${judgement.padEnd(9)}${nat.padEnd(24)}${
    `${wallMs.toFixed(0)} ms`.padEnd(9)
  }${condition}: ${result}`;
}

function median(sorted: readonly number[]): number {
  return sorted[Math.floor(sorted.length / 2)] ?? NaN;
}

const PARTS = ["mapping", "filtering", "allocation"] as const;
const JUDGEMENTS = ["right", "unknown", "wrong"] as const;

const CELL_HEADING = `${"NAT".padEnd(30)}${"server".padEnd(9)}${"mapping".padEnd(12)}${
  "filtering".padEnd(12)
}${"allocation".padEnd(12)}${"median".padEnd(9)}${"slowest".padEnd(9)}packets`;

const MAX_UNKNOWN = 0.02;
const TIMES_RTT_MS = 51;

/** Full cone, address-restricted, port-restricted and symmetric, for which other projects publish figures. */
const TIMED: readonly Combination[] = combinations([ALLOCATIONS[0]!, ALLOCATIONS.at(-1)!]).filter(
  (each) => {
    const { mapping, filtering, allocation } = each;
    return mapping === "endpoint-independent"
      ? allocation.kind === "preserving"
      : mapping === "address-and-port-dependent" && filtering === mapping &&
        allocation.kind === "random";
  },
);
