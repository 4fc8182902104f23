/**
 * The punch matrix: every kind of NAT with every other.
 *
 * @module
 */

import { NAT_KINDS, type NatKindName } from "./nat_kinds.ts";
import { PunchLab } from "./punch_lab.ts";
import { summarize, type Summary } from "./summary.ts";

/** What to run. */
export interface MatrixOptions {
  readonly kinds?: readonly NatKindName[];
  /** How many runs of each pair; half of them have the roles exchanged. */
  readonly runs: number;
  /** Between any two NATs, and from each to the servers. */
  readonly rttMs: number;
  /** Called after each pair. */
  readonly onCell?: (cell: MatrixCell) => void;
}

/** The results of one pair. */
export interface MatrixCell extends Summary {
  readonly kinds: readonly [NatKindName, NatKindName];
}

/** Runs all pairs in one lab. */
export async function runPunchMatrix(options: MatrixOptions): Promise<MatrixCell[]> {
  const { kinds = ALL_KINDS, runs, rttMs, onCell } = options;
  await using lab = await PunchLab.start({ rttMs });
  await lab.run([kinds[0]!, kinds[0]!], { runs: 1 }); // warms up: the first run loads the programs
  const cells: MatrixCell[] = [];
  for (const [index, row] of kinds.entries()) {
    for (const column of kinds.slice(0, index + 1)) {
      const pair = [row, column] as const;
      const cell = { kinds: pair, ...summarize(await lab.run(pair, { runs })) };
      cells.push(cell);
      onCell?.(cell);
    }
  }
  return cells;
}

/** In the order of the table. */
export const ALL_KINDS = Object.keys(NAT_KINDS) as readonly (keyof typeof NAT_KINDS)[];
