/**
 * The figures that punches must reach, as a table of settings and goals.
 *
 * @module
 */

import { NAT_KINDS, type NatKindName } from "./nat_kinds.ts";
import type { BatchOptions } from "./punch_lab.ts";
import { isRefused, successOf, type Summary } from "./summary.ts";

/** One row: punches between NATs across the internet. */
export interface Figure {
  readonly setting: string;
  readonly pairs: readonly (readonly [NatKindName, NatKindName])[];
  /** Between the NATs, and from them to the servers. Default: 80. */
  readonly rttMs?: number;
  readonly jitterMs?: number;
  readonly loss?: number;
  /** New flows per second through each NAT. */
  readonly flowsPerSecond?: number;
  /** How to run each pair. */
  readonly batch: BatchOptions;
  readonly goal: Goal;
}

/** What a row must reach, all of it. Times are limits in milliseconds. */
export interface Goal {
  /** The share of runs that connect, from 0 to 1. */
  readonly success?: number;
  /** Median time from the later side's first dial until both sides are connected. */
  readonly connectMs?: number;
  /** Median time from its first dial until the later side is connected. */
  readonly laterConnectMs?: number;
  /** Median time from the later side's call to the nomination on both sides, or to the refusal. */
  readonly totalMs?: number;
  /** The same for every run. */
  readonly everyTotalMs?: number;
  /** Median number of SYNs of both hosts. */
  readonly syns?: number;
  readonly refused?: true;
}

/** The rows, in the order of the table. */
export function figures(): Figure[] {
  return [
    ...[20, 80, 200].flatMap((rttMs) => [0, 1000, 10_000].map((skewMs) => dropping(rttMs, skewMs))),
    ...[20, 80, 200].flatMap((rttMs) => [0, 1000].flatMap((skewMs) => resetting(rttMs, skewMs))),
    {
      setting: "port-restricted x port-restricted, without NAT test reports",
      pairs: [["portRestricted", "portRestricted"]],
      batch: { runs: 300, atOnce: AT_ONCE, isReported: false },
      goal: { success: 0.99, connectMs: 100 },
    },
    {
      setting: "address-restricted x random",
      pairs: [["addressRestricted", "random"]],
      batch: { runs: 300, atOnce: AT_ONCE },
      goal: { success: 0.99, syns: 24 },
    },
    {
      setting: "port-restricted x port-preserving",
      pairs: [["portRestricted", "preserving"]],
      batch: { runs: 300, atOnce: AT_ONCE },
      goal: { success: 0.99 },
    },
    ...SEQUENTIAL.map((name): Figure => ({
      setting: `port-restricted x ${NAT_KINDS[name].name}, idle`,
      pairs: [["portRestricted", name]],
      batch: { runs: 40 },
      goal: { success: 0.95 },
    })),
    ...SEQUENTIAL.map((name): Figure => ({
      setting: `port-restricted x ${NAT_KINDS[name].name}, 5 new flows a second`,
      pairs: [["portRestricted", name]],
      flowsPerSecond: 5,
      batch: { runs: 40 },
      goal: { success: 0.8 },
    })),
    {
      setting: "port-restricted x random in a block of 1024, within 2 s",
      pairs: [["portRestricted", "block"]],
      batch: { runs: 100 },
      goal: { success: 0.98, everyTotalMs: 2000 },
    },
    {
      setting: "port-restricted x random, within 10 s",
      pairs: [["portRestricted", "random"]],
      batch: { runs: 100 },
      goal: { success: 0.95, everyTotalMs: 10_000, syns: 1300 },
    },
    {
      setting: "sequential x sequential",
      pairs: SEQUENTIAL.map((name) => ["sequential", name] as const),
      batch: { runs: 10 },
      goal: {},
    },
    {
      setting: "sequential x sequential, 5 new flows a second",
      pairs: SEQUENTIAL.map((name) => ["sequential", name] as const),
      flowsPerSecond: 5,
      batch: { runs: 10 },
      goal: {},
    },
    {
      setting: "random x random",
      pairs: [["random", "random"]],
      batch: { runs: 20 },
      goal: { refused: true, totalMs: 400 },
    },
    {
      setting: "port-restricted x port-restricted, 5 % loss each way",
      pairs: [["portRestricted", "portRestricted"]],
      loss: 0.05,
      batch: { runs: 300 }, // one at a time: the server keeps connections whose RST was lost
      goal: { success: 0.99, connectMs: 100 },
    },
    {
      setting: "port-restricted x port-restricted, 30 ms jitter each way",
      pairs: [["portRestricted", "portRestricted"]],
      jitterMs: 30,
      batch: { runs: 300 },
      goal: { success: 0.99, connectMs: 160 },
    },
  ];
}

/**
 * If their SYNs cross, both sides are connected after one round trip. A SYN that arrives too early is lost in the
 * other side's filter. The later side is then connected after one round trip, and the earlier one when the
 * acknowledgment arrives.
 */
function dropping(rttMs: number, skewMs: number): Figure {
  const isCrossed = skewMs < rttMs / 2;
  return {
    setting: `EIM, NATs that drop, RTT ${rttMs} ms, skew ${skewMs / 1000} s`,
    pairs: skewMs > 1000 ? EIM_PAIRS.slice(-2) : EIM_PAIRS,
    rttMs,
    batch: { runs: skewMs > 1000 ? 30 : 60, atOnce: AT_ONCE, skewMs },
    goal: isCrossed
      ? { success: 1, connectMs: rttMs + 20 }
      : { success: 1, laterConnectMs: rttMs + 20, connectMs: 1.5 * rttMs + 20 },
  };
}

function resetting(rttMs: number, skewMs: number): Figure[] {
  const at = `RTT ${rttMs} ms, skew ${skewMs / 1000} s`;
  const common = {
    rttMs,
    batch: { runs: 100, atOnce: AT_ONCE, skewMs },
    goal: { success: 0.99, connectMs: 2 * rttMs + 50 },
  };
  const one = { ...common, batch: { ...common.batch, runs: 150 } };
  return [
    {
      ...one,
      setting: `one resets, ${at}`,
      pairs: [["portRestricted", "resetting"], ["portRestricted", "closing"]],
    },
    {
      ...common,
      setting: `both reset, ${at}`,
      pairs: [["resetting", "resetting"], ["resetting", "closing"], ["closing", "closing"]],
    },
  ];
}

/** Which parts of a goal were missed, in words; empty if it was reached. */
export function missed(goal: Goal, summary: Summary): string[] {
  const success = successOf(summary);
  const { connectMs, laterConnectMs, totalMs, syns } = summary;
  const misses = [
    goal.refused && !isRefused(summary) && "not refused",
    goal.success !== undefined && success < goal.success && `${percent(success)} connected`,
    isOver(connectMs?.median, goal.connectMs) && `median ${connectMs?.median.toFixed(0)} ms`,
    isOver(laterConnectMs?.median, goal.laterConnectMs) &&
    `median of the later side ${laterConnectMs?.median.toFixed(0)} ms`,
    isOver(totalMs?.median, goal.totalMs) && `median in total ${totalMs?.median.toFixed(0)} ms`,
    isOver(totalMs?.max, goal.everyTotalMs) && `one took ${totalMs?.max.toFixed(0)} ms`,
    isOver(syns.median, goal.syns) && `${syns.median} SYNs`,
  ];
  return misses.filter((miss) => typeof miss === "string");
}

/** A goal in words: `>= 99 %, <= 100 ms`. */
export function goalText(goal: Goal): string {
  const parts = [
    goal.refused && "refused",
    goal.success !== undefined && `>= ${percent(goal.success)}`,
    goal.connectMs !== undefined && `<= ${goal.connectMs} ms`,
    goal.laterConnectMs !== undefined && `later side <= ${goal.laterConnectMs} ms`,
    goal.totalMs !== undefined && `total <= ${goal.totalMs} ms`,
    goal.everyTotalMs !== undefined && `each total <= ${goal.everyTotalMs} ms`,
    goal.syns !== undefined && `<= ${goal.syns} SYNs`,
  ].filter((part) => typeof part === "string");
  return parts.length === 0 ? "report" : parts.join(", ");
}

/** `98.3 %`. */
export function percent(share: number): string {
  const rounded = Math.round(share * 1000) / 10;
  return `${rounded} %`;
}

/** A value that was not measured exceeds every limit. */
function isOver(measured: number | undefined, limit: number | undefined): boolean {
  return limit !== undefined && !(measured !== undefined && measured <= limit);
}

const SEQUENTIAL = ["sequential", "descending", "byTwos", "byThrees"] as const;

const EIM_PAIRS: Figure["pairs"] = [
  ["fullCone", "portRestricted"],
  ["addressRestricted", "addressRestricted"],
  ["addressRestricted", "portRestricted"],
  ["portRestricted", "portRestricted"],
  ["portRestricted", "firewall"],
];

/**
 * How many punches of one pair to run at once. Each opens up to ten connections to the STUN server, which accepts 64
 * from one address.
 */
const AT_ONCE = 6;
