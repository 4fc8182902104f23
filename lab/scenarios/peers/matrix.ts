/**
 * The peer matrix: every kind of NAT with every other, with a relay for pairs that cannot connect directly.
 *
 * @module
 */

import type { Strategy } from "../../../lib/punch/path_kinds.ts";
import { explainPair, type PairExpectation } from "../../../lib/punch/explain.ts";
import type { NatProfile } from "../../../lib/punch/nat_profile.ts";
import { ALL_KINDS } from "../punches/matrix.ts";
import { natKind, type NatKindName, reportOf } from "../punches/nat_kinds.ts";
import { PeerLab, TURN_URL } from "./peer_lab.ts";
import type { PeerResult } from "./peer_runner.ts";
import { describe, judge, type PeerRow } from "./rows.ts";

/** The result of one pair. */
interface Cell {
  readonly pair: string;
  readonly expected: PairExpectation;
  readonly result: PeerResult;
}

/**
 * Runs all pairs in one lab. Returns a row for the pairs that a punch can connect, and one for the others.
 *
 * @param strategies Default: all
 */
export async function runPeerMatrix(strategies?: readonly Strategy[]): Promise<PeerRow[]> {
  await using lab = await PeerLab.start({ internet: { rttMs: 50 } });
  const cells: Cell[] = [];
  for (const [index, row] of ALL_KINDS.entries()) {
    for (const column of ALL_KINDS.slice(0, index + 1)) {
      const expected = explainPair(profileOf(row), profileOf(column), { rttMs: 50 });
      const waitForDirectMs = expected.method === "impossible" ? 0 : DIRECT_LATER_MS;
      const options = { turn: [TURN_URL], strategies };
      const result = await lab.connectKinds([row, column], { options, waitForDirectMs });
      cells.push({ pair: `${row} x ${column}`, expected, result });
    }
  }
  return [
    judgePossible(cells.filter(({ expected }) => expected.method !== "impossible")),
    judgeImpossible(cells.filter(({ expected }) => expected.method === "impossible")),
  ];
}

/** Port prediction and birthday punches sometimes fail; the relay may carry as many connections as the plans expect. */
function judgePossible(cells: readonly Cell[]): PeerRow {
  const chances = cells.map(({ expected }) => expected.success);
  const misses = sum(chances.map((chance) => 1 - chance));
  const deviation = Math.sqrt(sum(chances.map((chance) => chance * (1 - chance))));
  const mayMiss = Math.round(misses + 2 * deviation);
  const stayed = cells.filter(({ result }) => isRelayed(result) && result.directMs === null);
  const goal = `100 %, ${mayMiss} on the relay for good at most, as the plans expect`;
  const row = judge(
    "every pair that a punch can connect, one run each",
    cells.map(({ result }) => result),
    goal,
    () => stayed.length <= mayMiss,
  );
  const later = cells.filter(({ result }) => isRelayed(result) && result.directMs !== null);
  return { ...row, notes: [...failures(cells), ...stayed.map(note), ...later.map(note)] };
}

/** Only a relay is expected; a direct connection is luck. */
function judgeImpossible(cells: readonly Cell[]): PeerRow {
  const row = judge(
    "every pair that a punch cannot connect: random, unpredictable ports on both sides",
    cells.map(({ result }) => result),
    "100 %",
    () => true,
  );
  const lucky = cells.filter(({ result }) => !isRelayed(result) && result.outcome === "connected");
  return { ...row, notes: [...failures(cells), ...lucky.map(note)] };
}

function failures(cells: readonly Cell[]): string[] {
  return cells.filter(({ result }) => result.outcome !== "connected").map(note);
}

function note({ pair, expected, result }: Cell): string {
  const later = isRelayed(result) && result.directMs !== null
    ? `, direct after ${result.directMs.toFixed(0)} ms`
    : "";
  return `${pair}: ${describe(result)}${later}; expected: ${expected.text}`;
}

function isRelayed(
  result: PeerResult,
): result is Extract<PeerResult, { outcome: "connected" }> & { relayed: true } {
  return result.outcome === "connected" && result.relayed;
}

/** The profile that a side with a NAT test report describes itself by. */
function profileOf(name: NatKindName): NatProfile {
  const kind = natKind(name);
  const { allocation: { kind: how, ...rest }, portRange: range } = kind.behavior;
  const { mapping, filtering, unsolicitedSyn } = reportOf(kind);
  const [first, last] = range;
  return {
    mapping: mapping!.behavior,
    filtering: filtering!.behavior,
    unsolicitedSyn: unsolicitedSyn!,
    allocation: {
      kind: how === "dependent" ? "sequential" : how,
      delta: "delta" in rest ? rest.delta : null,
      range: how === "random" ? range : null,
    },
    onlyForNeighbours: how === "dependent",
    externalIp: "198.51.100.1",
    samples: SAMPLED.map((share, index) => ({
      localPort: 50_000 + index,
      externalPort: Math.round(first + share * (last - first)),
    })),
  };
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

/** Where in the range the sampled ports lie. */
const SAMPLED = [0.4, 1, 0, 0.8, 0.2];

/** Enough for all rounds of a punch. */
const DIRECT_LATER_MS = 10_000;
