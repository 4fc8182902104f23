/**
 * The lab runs of the punch, each as a table for people and as data.
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
import { runWholePunches } from "./whole.ts";

/** The suites by name. */
export const PUNCH_SUITES = { punch: matrixSuite, figures: figuresSuite } as const;

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

/** What punches have to reach. */
async function figuresSuite({ rows: wanted = [], print }: SuiteOptions): Promise<SuiteResult> {
  for (const line of figureTable([])) print(line);
  const isWanted = ({ setting }: { setting: string }) =>
    wanted.length === 0 || wanted.some((text) => setting.includes(text));
  const onRow = (row: FigureRow) => print(figureLine(row));
  const rows = [
    ...await runFigures(figures().filter(isWanted), onRow),
    ...await runNearPunches(onRow, { scenes: NEAR_SCENES.filter(isWanted) }),
    ...wanted.length === 0 ? await runWholePunches(onRow) : [],
  ];
  return { failures: rows.filter(({ passed }) => !passed).map(figureLine), data: rows };
}

/** Ours: what a picture is worth. */
const MATRIX_RUNS = 6;
const MATRIX_RTT_MS = 50;

/** For few runs of a spray, which hits in 97 %; what has to be reached is in the figures. */
const LEAST_SUCCESS = 0.5;
