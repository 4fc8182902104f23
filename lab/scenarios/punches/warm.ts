/**
 * Punches with everything prepared, counted in round trips: how soon the controlling side has the connection, and when
 * the first byte that it writes has arrived.
 *
 * @module
 */

import { median } from "../../../bench/median.ts";
import type { SuiteOptions, SuiteResult } from "../verdicts/suites.ts";
import { startFarLab } from "./far_lab.ts";
import { NAT_KINDS, reportOf } from "./nat_kinds.ts";
import { SERVER_IPS, SERVERS } from "./punch_lab.ts";
import { type PairResult, punchPair } from "./punch_pair.ts";
import { PunchProgram } from "./punch_program.ts";

/** Who calls when. */
export interface WarmScene {
  readonly setting: string;
  /** How much later than the other side each one calls, in milliseconds: controlling, controlled. */
  readonly laterMs: readonly [number, number];
}

/** Medians in milliseconds, since the later side knew both offers. */
export interface WarmRow {
  readonly setting: string;
  readonly runs: number;
  readonly failures: readonly string[];
  /** Until the controlling side has the connection. */
  readonly controllingMs: number;
  /** Until the controlled side has it. */
  readonly controlledMs: number;
  /** How much later than the nomination the first byte of the controlling side arrives. */
  readonly byteAfterMs: number;
  readonly passed: boolean;
}

/** What each row must reach. */
export const WARM_GOALS = { controllingMs: 1.6 * 82 + 10, byteAfterMs: 10 };

/** Both at once, and either one while the other waits. */
export const WARM_SCENES: readonly WarmScene[] = [
  { setting: "both call at once", laterMs: [0, 0] },
  { setting: "the controlled side calls while the other waits", laterMs: [0, 300] },
  { setting: "the controlling side calls while the other waits", laterMs: [300, 0] },
];

/** Measures warm punches: 51 ms to the servers, 82 ms between the NATs. */
export async function runWarmPunches(
  runs: number,
  onRow: (row: WarmRow) => void = () => {},
): Promise<readonly WarmRow[]> {
  await using lab = await startFarLab();
  const programs = ["a", "b"].map((name) => new PunchProgram(lab.host(name)));
  const report = reportOf(NAT_KINDS.portRestricted);
  const [a, b] = programs.map((program) => ({ program, report }));
  const rows: WarmRow[] = [];
  for (const scene of WARM_SCENES) {
    const results: PairResult[] = [];
    for (let run = -1; run < runs; run++) {
      const result = await punchPair([a!, b!], {
        servers: SERVERS,
        isWarm: true,
        rendezvous: { url: RENDEZVOUS, room: `warm-${rows.length}-${run + 1}` },
        callAtMs: performance.timeOrigin + performance.now() + PREPARE_MS,
        laterMs: scene.laterMs,
      });
      if (run >= 0) results.push(result); // the very first run loads the programs
    }
    const row = toRow(scene, results);
    rows.push(row);
    onRow(row);
  }
  await Promise.all(programs.map((program) => program.close()));
  return rows;
}

/** The suite `warm`. */
export async function warmSuite({ runs = RUNS, print }: SuiteOptions): Promise<SuiteResult> {
  print(
    "|  | who calls | runs | failed | controlling side after ms | goal | controlled side after ms | first byte after that, ms | goal |",
  );
  const failures: string[] = [];
  const data = await runWarmPunches(runs, (row) => {
    const cells = [
      row.passed ? "ok" : "NO",
      row.setting,
      row.runs,
      row.failures.length,
      row.controllingMs.toFixed(0),
      WARM_GOALS.controllingMs.toFixed(0),
      row.controlledMs.toFixed(0),
      row.byteAfterMs.toFixed(1),
      WARM_GOALS.byteAfterMs,
    ];
    const line = `| ${cells.join(" | ")} |`;
    print(line);
    if (!row.passed) failures.push(line, ...row.failures);
  });
  return { failures, data };
}

function toRow({ setting }: WarmScene, results: readonly PairResult[]): WarmRow {
  const connected = results.flatMap((each) => each.kind === "connected" ? [each] : []);
  const failures = results.flatMap((each) => each.kind === "connected" ? [] : [each.reason]);
  const controllingMs = median(connected.map(({ nominatedMs: [ms] }) => ms));
  const controlledMs = median(connected.map(({ nominatedMs: [_, ms] }) => ms));
  const byteAfterMs = median(connected.map(({ byteMs, nominatedMs: [_, ms] }) => byteMs - ms));
  const isFast = controllingMs <= WARM_GOALS.controllingMs && byteAfterMs <= WARM_GOALS.byteAfterMs;
  const runs = results.length;
  const passed = failures.length === 0 && isFast;
  return { setting, runs, failures, controllingMs, controlledMs, byteAfterMs, passed };
}

const RUNS = 15;
const RENDEZVOUS = `ws://${SERVER_IPS[0]}:3480`;

/** Enough to join a room, to measure the way to the other side, and to prepare a base socket. */
const PREPARE_MS = 900;
