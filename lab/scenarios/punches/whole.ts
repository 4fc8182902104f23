/**
 * The whole punch as a user experiences it: from the calls of both sides to the nominated connection, with a rendezvous
 * server.
 *
 * @module
 */

import { BETWEEN_NATS_MS, startFarLab, TO_SERVER_MS } from "./far_lab.ts";
import { type FigureRow, toRow } from "./figure_runs.ts";
import { NAT_KINDS, reportOf } from "./nat_kinds.ts";
import { SERVER_IPS, SERVERS } from "./punch_lab.ts";
import type { PunchRun } from "./punch_lab.ts";
import { punchPair } from "./punch_pair.ts";
import { PunchProgram } from "./punch_program.ts";

/** Measures whole punches with everything prepared, and from a cold start. */
export async function runWholePunches(
  onRow: (row: FigureRow) => void = () => {},
  runs = RUNS,
): Promise<FigureRow[]> {
  await using lab = await startFarLab();
  const programs = ["a", "b"].map((name) => new PunchProgram(lab.host(name)));
  const report = reportOf(NAT_KINDS.portRestricted);
  const [a, b] = programs.map((program) => ({ program, report }));
  const punch = async (room: string, isWarm: boolean): Promise<PunchRun> => {
    const result = await punchPair([a!, b!], {
      servers: SERVERS,
      isWarm,
      rendezvous: { url: RENDEZVOUS, room },
      callAtMs: performance.timeOrigin + performance.now() + PREPARE_MS,
    });
    return { ...result, syns: NaN };
  };
  await punch("first", true); // warms up: the first run loads the programs
  const rows: FigureRow[] = [];
  for (const isWarm of [true, false]) {
    const found: PunchRun[] = [];
    for (let run = 0; run < runs; run++) found.push(await punch(`${isWarm}-${run}`, isWarm));
    const row = toRow({
      setting: `whole punch, ${isWarm ? "prepared" : "cold"}; ` +
        `RTT ${TO_SERVER_MS} ms to the servers, ${BETWEEN_NATS_MS} ms between the NATs`,
      goal: { success: 1, totalMs: isWarm ? 240 : 360 },
    }, found);
    rows.push(row);
    onRow(row);
  }
  await Promise.all(programs.map((program) => program.close()));
  return rows;
}

const RUNS = 30;
const RENDEZVOUS = `ws://${SERVER_IPS[0]}:3480`;

/** Enough to join a room and to prepare a base socket. */
const PREPARE_MS = 700;
