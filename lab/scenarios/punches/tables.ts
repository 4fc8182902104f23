/**
 * Tables of punch results for people.
 *
 * @module
 */

import type { FigureRow } from "./figure_runs.ts";
import { percent } from "./figures.ts";
import type { MatrixCell } from "./matrix.ts";
import { natKind } from "./nat_kinds.ts";
import { isRefused, successOf, type Times } from "./summary.ts";

/** The column headings of {@linkcode cellLine}. */
export function cellHeading(): string {
  return row("one side", "other side", "connected", "expected", "time", "SYNs");
}

/** The line of one pair. */
export function cellLine(cell: MatrixCell): string {
  const [a, b] = cell.kinds.map((name) => natKind(name).name);
  const success = isRefused(cell) ? "refused" : percent(successOf(cell));
  const expected = cell.estimate === null ? "-" : percent(cell.estimate);
  const time = isRefused(cell) ? "-" : milliseconds(cell.connectMs?.median);
  return row(a!, b!, success, expected, time, cell.syns.median.toFixed(0)) +
    cell.methods.join(", ");
}

/** The figures as a table in Markdown. */
export function figureTable(rows: readonly FigureRow[]): string[] {
  return [
    "| setting | runs | goal | connected | both connected, median (95 %) | later side, median (95 %) | call to nomination, median (95 %) | SYNs, median (max) | reached |",
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ...rows.map(figureLine),
  ];
}

/** A row of {@linkcode figureTable}. */
export function figureLine({ setting, goal, measured, missed, passed }: FigureRow): string {
  const { runs, inFirstRound, connected, syns } = measured;
  const later = connected > inFirstRound
    ? `, ${connected - inFirstRound} not in the first round`
    : "";
  const success = isRefused(measured) ? "refused" : percent(successOf(measured)) + later;
  return `| ${
    [
      setting,
      runs,
      goal,
      success,
      timesText(measured.connectMs),
      timesText(measured.laterConnectMs),
      timesText(measured.totalMs),
      Number.isNaN(syns.median) ? "-" : `${syns.median.toFixed(0)} (${syns.max.toFixed(0)})`,
      passed ? "yes" : `no: ${missed.join(", ")}`,
    ].join(" | ")
  } |`;
}

function timesText(times: Times | null): string {
  return times === null ? "-" : `${milliseconds(times.median)} (${times.p95.toFixed(0)})`;
}

function milliseconds(ms: number | undefined): string {
  return ms === undefined ? "-" : `${ms.toFixed(0)} ms`;
}

function row(...columns: [string, string, string, string, string, string]): string {
  return columns.map((column, index) => column.padEnd(WIDTHS[index]!)).join("");
}

const WIDTHS = [38, 38, 11, 10, 9, 7];
