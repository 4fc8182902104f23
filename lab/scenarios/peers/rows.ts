/**
 * Rows of the peer suites: the results of several connections in one setting.
 *
 * @module
 */

import type { PeerResult } from "./peer_runner.ts";

/** The results of one setting, and whether they reach the goal. */
export interface PeerRow {
  readonly setting: string;
  readonly runs: number;
  readonly connected: number;
  readonly relayed: number;
  /** The methods of the punches and the kinds of the other paths, each once. */
  readonly strategies: readonly string[];
  /** Median time in milliseconds since the call. */
  readonly connectMs: number;
  readonly firstByteMs: number;
  readonly goal: string;
  readonly passed: boolean;
  /** What happened to connections that failed or need a remark. */
  readonly notes: readonly string[];
}

/** Judges the results: all must be connected, and `isGood` must accept the row. */
export function judge(
  setting: string,
  results: readonly PeerResult[],
  goal: string,
  isGood: (row: Omit<PeerRow, "passed" | "notes">) => boolean,
): PeerRow {
  const connected = results.flatMap((each) => each.outcome === "connected" ? [each] : []);
  const row = {
    setting,
    goal,
    runs: results.length,
    connected: connected.length,
    relayed: connected.filter(({ relayed }) => relayed).length,
    strategies: [...new Set(connected.map(({ kind, method }) => method ?? kind))].sort(),
    connectMs: median(connected.map(({ connectMs }) => connectMs)),
    firstByteMs: median(connected.map(({ firstByteMs }) => firstByteMs)),
  };
  const notes = results.filter(({ outcome }) => outcome !== "connected").map(describe);
  return { ...row, notes, passed: connected.length === results.length && isGood(row) };
}

/** One result in a few words. */
export function describe(result: PeerResult): string {
  if (result.outcome === "connected") {
    return `${result.method ?? result.kind}${result.relayed ? ", relayed" : ""}`;
  }
  return result.outcome === "failed" ? `${result.error}: ${result.message}` : result.outcome;
}

/** A row as a line of a table. */
export function lineOf(row: PeerRow): string {
  const share = row.runs === 0 ? "" : `${row.connected}/${row.runs}`;
  const ms = (value: number) => Number.isNaN(value) ? "" : value.toFixed(0);
  return `| ${row.passed ? "ok" : "NO"} | ${row.setting} | ${share} | ${row.relayed || ""} | ${
    row.strategies.join(", ")
  } | ${ms(row.connectMs)} | ${ms(row.firstByteMs)} | ${row.goal} |`;
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? NaN;
}

/** The column headings of {@linkcode lineOf}. */
export const ROW_HEADING =
  "|  | setting | connected | relayed | by | connect ms | first byte ms | goal |";
