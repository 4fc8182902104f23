/**
 * Connections of one peer to another, one after the other: what the first one leaves ready makes the next ones faster.
 *
 * @module
 */

import { delay } from "@std/async/delay";
import { median } from "../../../bench/median.ts";
import { FAR } from "./scenes.ts";
import { PeerLab } from "./peer_lab.ts";
import type { PeerResult } from "./peer_runner.ts";

/** How fast connections must be, as medians in milliseconds since the call. */
export interface AgainGoal {
  readonly connectMs: number;
  readonly echoMs: number;
}

/** The figures of the first connections of a peer, or of later ones. */
export interface AgainRow {
  readonly which: "first" | "later";
  readonly connectMs: number;
  readonly echoMs: number;
  readonly goal: AgainGoal;
  readonly failures: readonly string[];
  readonly passed: boolean;
}

/** Goals with 51 ms to the servers and 82 ms between the NATs. */
export const AGAIN_GOALS: Readonly<Record<AgainRow["which"], AgainGoal>> = {
  first: { connectMs: 300, echoMs: 385 },
  later: { connectMs: 240, echoMs: 330 },
};

/** Opens two peers as often as told, one of which only dials, and connects them six times each. */
export async function runAgain(runs: number): Promise<readonly AgainRow[]> {
  await using lab = await PeerLab.start(FAR);
  const results = { first: [] as PeerResult[], later: [] as PeerResult[] };
  for (let run = -1; run < runs; run++) {
    await using pair = await lab.open(["a", "b"], { options: {}, callerListens: false });
    await delay(WARM_MS);
    for (let index = 0; index < CONNECTIONS; index++) {
      const result = await pair.connect();
      if (run >= 0) results[index === 0 ? "first" : "later"].push(result); // the very first run loads the programs
      await delay(PAUSE_MS);
    }
  }
  return [summarize("first", results.first), summarize("later", results.later)];
}

function summarize(which: AgainRow["which"], results: readonly PeerResult[]): AgainRow {
  const goal = AGAIN_GOALS[which];
  const connected = results.flatMap((each) => each.outcome === "connected" ? [each] : []);
  const failures = results.flatMap((each) => each.outcome === "failed" ? [each.message] : []);
  const connectMs = median(connected.map((each) => each.connectMs));
  const echoMs = median(connected.map((each) => each.echoMs));
  const isFast = connectMs <= goal.connectMs && echoMs <= goal.echoMs;
  return { which, connectMs, echoMs, goal, failures, passed: failures.length === 0 && isFast };
}

/** Chosen by us: base sockets are ready after it. */
const WARM_MS = 1500;

/** Chosen by us: a person, or a program that has something to fetch now and then. */
const PAUSE_MS = 1000;
const CONNECTIONS = 6;
