/**
 * The lab suites of the punch. Each prints a table for people and returns data.
 *
 * @module
 */

import type { SuiteOptions, SuiteResult } from "../verdicts/suites.ts";
import { type FigureRow, runFigures } from "./figure_runs.ts";
import { figures } from "./figures.ts";
import { drawHeatMap } from "./heat_map.ts";
import { runPunchMatrix } from "./matrix.ts";
import { NEAR_SCENES, runNearPunches } from "./near.ts";
import { isRefused, successOf } from "./summary.ts";
import { cellHeading, cellLine, figureLine, figureTable } from "./tables.ts";
import { warmSuite } from "./warm.ts";
import { runWholePunches } from "./whole.ts";

/** The suites by name. */
export const PUNCH_SUITES = {
  punch: matrixSuite,
  figures: figuresSuite,
  warm: warmSuite,
} as const;

/** Every kind of NAT with every other. */
async function matrixSuite({ runs = MATRIX_RUNS, print }: SuiteOptions): Promise<SuiteResult> {
  print(`RTT ${MATRIX_RTT_MS} ms, ${runs} runs of each pair; the time is a median`);
  print(cellHeading());
  const cells = await runPunchMatrix({
    runs,
    rttMs: MATRIX_RTT_MS,
    onCell: (cell) => print(cellLine(cell)),
  });
  const bad = cells.filter((cell) => !isRefused(cell) && successOf(cell) < LEAST_SUCCESS);
  return {
    failures: bad.map(cellLine),
    data: { rttMs: MATRIX_RTT_MS, runs, cells },
    picture: drawHeatMap(cells, { rttMs: MATRIX_RTT_MS, runs }),
  };
}

/** The figures that punches must reach; `--runs` changes how often each pair is punched. */
async function figuresSuite(
  { runs, rows: wanted = [], print }: SuiteOptions,
): Promise<SuiteResult> {
  for (const line of figureTable([])) print(line);
  const isWanted = ({ setting }: { setting: string }) =>
    wanted.length === 0 || wanted.some((text) => setting.includes(text));
  const onRow = (row: FigureRow) => print(figureLine(row));
  const rows = [
    ...await runFigures(
      figures().filter(isWanted).map((each) => ({
        ...each,
        batch: { ...each.batch, runs: runs ?? each.batch.runs },
      })),
      onRow,
    ),
    ...await runNearPunches(onRow, { scenes: NEAR_SCENES.filter(isWanted) }),
    ...wanted.length === 0 ? await runWholePunches(onRow) : [],
  ];
  return { failures: rows.filter(({ passed }) => !passed).map(figureLine), data: rows };
}

/** Chosen by us: enough for a picture. */
const MATRIX_RUNS = 6;
const MATRIX_RTT_MS = 50;

/** Low, because a birthday punch may fail in a few runs. The figures have the real goals. */
const LEAST_SUCCESS = 0.5;
