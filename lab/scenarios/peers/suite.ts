/**
 * The lab suites of peers: the whole stack, from a ticket to the first byte.
 *
 * @module
 */

import type { SuiteOptions, SuiteResult } from "../verdicts/suites.ts";
import type { Strategy } from "../../../lib/punch/path_kinds.ts";
import { type Outage, OUTAGES, runOutage } from "./outages.ts";
import { CHOICES, lineOfChoice, runChoice } from "./choice.ts";
import { runPeerMatrix } from "./matrix.ts";
import { PeerLab } from "./peer_lab.ts";
import type { PeerResult } from "./peer_runner.ts";
import { judge, lineOf, type PeerRow, ROW_HEADING } from "./rows.ts";
import { CHANGES, runRoaming, TRAFFIC } from "./roaming.ts";
import { REACH, runReach } from "./reach.ts";
import { type PeerScene, SCENES } from "./scenes.ts";
import { runAgain } from "./again.ts";
import { runTransfer } from "./transfer.ts";

/** The suites by name. */
export const PEER_SUITES = {
  peers: peersSuite,
  transfer: transferSuite,
  outages: outagesSuite,
  reach: reachSuite,
  again: againSuite,
  roaming: roamingSuite,
  choice: choiceSuite,
  "peer-matrix": peerMatrixSuite,
} as const;

/** All scenes, and the matrix; `--row` names some of the scenes. */
async function peersSuite(
  { runs = RUNS, rows: names = [], print }: SuiteOptions,
): Promise<SuiteResult> {
  print(ROW_HEADING);
  const rows: PeerRow[] = [];
  const add = (row: PeerRow) => {
    rows.push(row);
    print(lineOf(row));
  };
  const isNamed = ({ setting }: PeerScene) =>
    names.length === 0 || names.some((name) => setting.includes(name));
  for (const scene of SCENES.filter(isNamed)) add(await runScene(scene, runs));
  for (const row of names.length === 0 ? await runPeerMatrix() : []) {
    add(row);
    for (const note of row.notes) print(`      ${note}`);
  }
  return {
    failures: rows.filter(({ passed }) => !passed).map((row) =>
      [lineOf(row), ...row.notes].join("; ")
    ),
    data: rows,
  };
}

/** Pairs that are hard on sockets, sessions or the order of SYNs; `--row` names some of them. */
async function reachSuite({ runs = 2, rows = [], print }: SuiteOptions): Promise<SuiteResult> {
  print(ROW_HEADING);
  const results: PeerRow[] = [];
  for (const [name, each] of Object.entries(REACH)) {
    if (rows.length > 0 && !rows.some((row) => row === name || each.setting.includes(row))) {
      continue;
    }
    const row = await runReach(each, runs);
    results.push(row);
    print(lineOf(row));
    for (const note of row.notes) print(`      ${note}`);
  }
  const failed = results.filter(({ passed }) => !passed);
  return { failures: failed.map((row) => [lineOf(row), ...row.notes].join("; ")), data: results };
}

/** The first connection of a peer, and later ones. */
async function againSuite({ runs = 5, print }: SuiteOptions): Promise<SuiteResult> {
  print("|  | connection | failed | connected after ms | goal | echo after ms | goal |");
  const rows = await runAgain(runs);
  const lines = rows.map(({ passed, which, failures, connectMs, echoMs, goal }) => {
    const numbers = [connectMs, goal.connectMs, echoMs, goal.echoMs].map((ms) => ms.toFixed(0));
    return `| ${[passed ? "ok" : "NO", which, failures.length, ...numbers].join(" | ")} |`;
  });
  for (const line of lines) print(line);
  const failures = rows.flatMap((row, index) => row.passed ? [] : [lines[index]!, ...row.failures]);
  return { failures, data: rows };
}

/** A large file through two NATs, with three interruptions, compared with a bare TCP connection. */
async function transferSuite({ runs = 1, print }: SuiteOptions): Promise<SuiteResult> {
  print("|  | MiB | cuts | new paths | whole | seconds | bare TCP, seconds | ratio of rates |");
  const failures: string[] = [];
  const data: unknown[] = [];
  for (const options of [{ megabytes: 1024, cuts: 0 }, { megabytes: 1024, cuts: 3 }]) {
    for (let run = 0; run < runs; run++) {
      const result = await runTransfer(options);
      const { megabytes, cuts, newPaths, isWhole, seconds, bareSeconds } = result;
      const passed = isWhole && newPaths >= cuts;
      const cells = [
        passed ? "ok" : "NO",
        megabytes,
        cuts,
        newPaths,
        isWhole ? "yes" : "NO",
        seconds.toFixed(1),
        bareSeconds.toFixed(1),
        (bareSeconds / seconds).toFixed(2),
      ];
      const line = `| ${cells.join(" | ")} |`;
      print(line);
      data.push(result);
      if (!passed) failures.push(line);
    }
  }
  return { failures, data };
}

/** A side that dies, a NAT that forgets, an address that changes: when it is noticed, and what happens then. */
async function outagesSuite({ runs = 3, print }: SuiteOptions): Promise<SuiteResult> {
  print("|  | what happens | noticed after ms | goal | settled after ms | goal |");
  const failures: string[] = [];
  const data: unknown[] = [];
  for (const outage of Object.values<Outage>(OUTAGES)) {
    for (let run = 0; run < runs; run++) {
      const result = await runOutage(outage);
      const { setting, noticedMs, settledMs, passed } = result;
      const cells = [
        passed ? "ok" : "NO",
        setting,
        noticedMs.toFixed(0),
        outage.noticedMs,
        settledMs?.toFixed(0) ?? "",
        outage.settledMs ?? "",
      ];
      const line = `| ${cells.join(" | ")} |`;
      print(line);
      data.push(result);
      if (!passed) failures.push(line);
    }
  }
  return { failures, data };
}

/** Every kind of NAT with every other, with a relay, by each transport and by both; `--row` names one of the three. */
async function peerMatrixSuite({ rows = [], print }: SuiteOptions): Promise<SuiteResult> {
  print(ROW_HEADING);
  const results: PeerRow[] = [];
  for (const [transport, strategies] of Object.entries(TRANSPORTS)) {
    if (rows.length > 0 && !rows.includes(transport)) continue;
    for (const row of await runPeerMatrix(strategies)) {
      const named = { ...row, setting: `${row.setting}, ${transport}` };
      results.push(named);
      print(lineOf(named));
      for (const note of row.notes) print(`      ${note}`);
    }
  }
  const failed = results.filter(({ passed }) => !passed);
  return { failures: failed.map((row) => [lineOf(row), ...row.notes].join("; ")), data: results };
}

/** Networks that change below a connection, idle and busy; `--row` names some of the changes. */
async function roamingSuite({ runs = 1, rows = [], print }: SuiteOptions): Promise<SuiteResult> {
  print(
    "|  | what changes | path | who writes | noticed after ms | goes on after ms | whole | events |",
  );
  const failures: string[] = [];
  const data: unknown[] = [];
  for (const [name, change] of Object.entries(CHANGES)) {
    if (rows.length > 0 && !rows.includes(name)) continue;
    for (const transport of ["tcp", "udp"] as const) {
      for (const traffic of change.traffic ?? TRAFFIC) {
        for (let run = 0; run < runs; run++) {
          const result = await runRoaming(change, transport, traffic);
          const line = `| ${
            [
              result.passed ? "ok" : "NO",
              change.setting,
              transport,
              traffic,
              result.noticedMs?.toFixed(0) ?? "",
              result.goesOnMs.toFixed(0),
              result.isWhole ? "yes" : "NO",
              result.events.join(", "),
            ].join(" | ")
          } |`;
          print(line);
          data.push({ change: name, transport, traffic, ...result });
          if (!result.passed) failures.push(line);
        }
      }
    }
  }
  return { failures, data };
}

/** Direct paths that are worse than others; `--row` names some of them. */
async function choiceSuite({ runs = 1, rows = [], print }: SuiteOptions): Promise<SuiteResult> {
  print(
    "|  | paths | at last by | after s | away s | KB/s before | KB/s after | whole | paths used |",
  );
  const failures: string[] = [];
  const data: unknown[] = [];
  for (const [name, choice] of Object.entries(CHOICES)) {
    if (rows.length > 0 && !rows.includes(name)) continue;
    for (let run = 0; run < runs; run++) {
      const result = await runChoice(choice);
      const line = lineOfChoice(choice, result);
      print(line);
      data.push({ choice: name, ...result });
      if (!result.passed) failures.push(line);
    }
  }
  return { failures, data };
}

async function runScene(scene: PeerScene, runs: number): Promise<PeerRow> {
  await using lab = await PeerLab.start(scene);
  await scene.prepare?.(lab.lab);
  const { options, between = ["a", "b"], firstByteMs, mayBeRelayed = false, strategy } = scene;
  const results: PeerResult[] = [];
  await lab.connect(between, { options }); // warms up: the first run loads the programs
  for (let run = 0; run < runs; run++) results.push(await lab.connect(between, { options }));
  const goal = firstByteMs === undefined ? "100 %" : `100 %, first byte <= ${firstByteMs} ms`;
  return judge(scene.setting, results, goal, (row) =>
    (mayBeRelayed || row.relayed === 0) &&
    (strategy === undefined || row.strategies.join() === strategy) &&
    row.firstByteMs <= (firstByteMs ?? Infinity));
}

const TRANSPORTS: Readonly<Record<string, readonly Strategy[] | undefined>> = {
  tcp: ["direct", "punch-tcp", "relay"],
  udp: ["direct", "punch-udp", "relay"],
  both: undefined,
};

const RUNS = 12;
