/**
 * Measures the figures of figures.ts.
 *
 * @module
 */

import { type Figure, goalText, missed } from "./figures.ts";
import { PunchLab, type PunchRun } from "./punch_lab.ts";
import { summarize, type Summary } from "./summary.ts";

/** A row of the table. */
export interface FigureRow {
  readonly setting: string;
  readonly goal: string;
  readonly measured: Summary;
  /** Which parts of the goal were missed. */
  readonly missed: readonly string[];
  readonly passed: boolean;
}

/** Measures figures, one after another in one lab. */
export async function runFigures(
  rows: readonly Figure[],
  onRow: (row: FigureRow) => void = () => {},
): Promise<FigureRow[]> {
  await using lab = await PunchLab.start({ rttMs: 80 });
  await lab.run(["portRestricted", "firewall"], { runs: 2 }); // warms up: the first run loads the programs
  const found: FigureRow[] = [];
  for (const figure of rows) {
    const row = toRow(figure, await measure(lab, figure));
    found.push(row);
    onRow(row);
  }
  return found;
}

/** The row of some measured runs. */
export function toRow(
  { setting, goal }: Pick<Figure, "setting" | "goal">,
  runs: PunchRun[],
): FigureRow {
  const measured = summarize(runs);
  const misses = missed(goal, measured);
  return { setting, goal: goalText(goal), measured, missed: misses, passed: misses.length === 0 };
}

async function measure(lab: PunchLab, figure: Figure): Promise<PunchRun[]> {
  const { rttMs = 80, jitterMs = 0, loss = 0, flowsPerSecond = 0, batch } = figure;
  await lab.setInternet({ rttMs, jitterMs, loss });
  await using _flows = flowsPerSecond > 0 ? await lab.openFlows(flowsPerSecond) : undefined;
  const runs: PunchRun[] = [];
  for (const pair of figure.pairs) runs.push(...await lab.run(pair, batch));
  return runs;
}
