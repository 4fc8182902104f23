/**
 * How far TCP reaches: the pairs that are hard on sockets, sessions or the order of SYNs, without NAT test reports, with a
 * relay on both sides. Data goes both ways over each connection.
 *
 * @module
 */

import { natKind, type NatKindName } from "../punches/nat_kinds.ts";
import { PeerLab, TURN_URL } from "./peer_lab.ts";
import type { PeerResult } from "./peer_runner.ts";
import { describe, judge, type PeerRow } from "./rows.ts";

/** A row: some pairs, in both orders, at some round trips. */
interface ReachRow {
  readonly setting: string;
  readonly pairs: readonly (readonly [NatKindName, NatKindName])[];
  readonly rttsMs: readonly number[];
  /** Whether every connection must be direct, in the end. */
  readonly isDirect: boolean;
  /** How long connecting may take. */
  readonly withinMs?: number;
}

/** The rows, by a word that names them. */
export const REACH: Readonly<Record<string, ReachRow>> = {
  cone: {
    setting: "full cone x random symmetric",
    pairs: [["fullCone", "random"]],
    rttsMs: [20, 80, 200],
    isDirect: true,
  },
  address: {
    setting: "address-restricted x random symmetric",
    pairs: [["addressRestricted", "random"]],
    rttsMs: [80],
    isDirect: true,
  },
  quota: {
    setting: "64 sessions on either side",
    pairs: [
      ["few", "random"],
      ["fewRandom", "portRestricted"],
      ["fewRandom", "few"],
      ["fewCone", "random"],
    ],
    rttsMs: [50],
    isDirect: false,
    withinMs: 3000,
  },
  crossing: {
    setting: "crossing SYNs dropped, reset or refused, on one side",
    pairs: [
      ["crossingDropped", "portRestricted"],
      ["crossingReset", "portRestricted"],
      ["strict", "portRestricted"],
      ["crossingCone", "portRestricted"],
      ["crossingAddress", "strict"],
    ],
    rttsMs: [50],
    isDirect: true,
  },
  kept: {
    setting: "crossing SYNs kept out on both sides: by a relay, at once",
    pairs: [["crossingDropped", "crossingReset"], ["strict", "strict"]],
    rttsMs: [50],
    isDirect: false,
    withinMs: 3000,
  },
  icmp: {
    setting: "unsolicited packets answered by ICMP errors",
    pairs: [["refusing", "portRestricted"], ["refusing", "refusing"], ["refusing", "fullCone"], [
      "refusing",
      "sequential",
    ], ["refusingRandom", "addressRestricted"]],
    rttsMs: [50],
    isDirect: true,
  },
  parity: {
    setting: "random ports of the same parity",
    pairs: [["parity", "portRestricted"], ["parity", "addressRestricted"]],
    rttsMs: [50],
    isDirect: true,
  },
  pool: {
    setting: "pools of addresses",
    pairs: [["pooled", "portRestricted"], ["pooledSequential", "portRestricted"], [
      "pooledRandom",
      "addressRestricted",
    ]],
    rttsMs: [50],
    isDirect: false,
    withinMs: 5000,
  },
};

/** Runs a row: every pair in both orders, at every round trip, `runs` times each. */
export async function runReach(row: ReachRow, runs: number): Promise<PeerRow> {
  const results: PeerResult[] = [];
  const notes: string[] = [];
  for (const rttMs of row.rttsMs) {
    await using lab = await PeerLab.start({ internet: { rttMs } });
    for (const [a, b] of row.pairs) {
      for (const pair of a === b ? [[a, b] as const] : [[a, b] as const, [b, a] as const]) {
        for (let run = 0; run < runs; run++) {
          const options = { turn: [TURN_URL] };
          const waitForDirectMs = row.isDirect ? DIRECT_LATER_MS : 0;
          const result = await lab.connectKinds(pair, {
            options,
            isReported: false,
            waitForDirectMs,
          });
          results.push(result);
          if (!passes(row, result)) {
            const names = pair.map((name) => natKind(name).name).join(" x ");
            notes.push(`${names}, ${rttMs} ms: ${describe(result)}`);
          }
        }
      }
    }
  }
  const goal = [
    `${results.length} of ${results.length} ${row.isDirect ? "direct" : "connected"}`,
    ...row.withinMs === undefined ? [] : [`within ${row.withinMs} ms`],
  ].join(" ");
  return { ...judge(row.setting, results, goal, () => notes.length === 0), notes };
}

function passes({ isDirect, withinMs = Infinity }: ReachRow, result: PeerResult): boolean {
  return result.outcome === "connected" && result.echoMs <= withinMs &&
    (!isDirect || !result.relayed || result.directMs !== null);
}

/** Enough for all rounds of a punch. */
const DIRECT_LATER_MS = 10_000;
