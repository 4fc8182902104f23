/**
 * Summarizes many runs of one punch.
 *
 * @module
 */

import { percentiles } from "../../kernel/counters.ts";
import type { PunchRun } from "./punch_lab.ts";

/** The summary of several runs of one punch. Times are in milliseconds, and of the runs that connected. */
export interface Summary {
  readonly runs: number;
  readonly connected: number;
  /** How many were refused on both sides because no method can work. */
  readonly refused: number;
  /** How many connected in the first round. */
  readonly inFirstRound: number;
  /** From the later side's first dial until both sides were connected; `null` if none connected. */
  readonly connectMs: Times | null;
  /** The same until the later side itself was connected. */
  readonly laterConnectMs: Times | null;
  /** From the later side's call to the nomination on both sides, or to the refusal. */
  readonly totalMs: Times | null;
  /** SYNs of both hosts, including those to servers. */
  readonly syns: { readonly median: number; readonly max: number };
  /** The plans' average estimate of the chance of success; 0 for a refusal, `null` if unknown. */
  readonly estimate: number | null;
  readonly methods: readonly string[];
  /** Why runs did not connect, without repetitions. */
  readonly notes: readonly string[];
}

/** A distribution of times. */
export interface Times {
  readonly median: number;
  readonly p95: number;
  readonly max: number;
}

/** Summarizes runs. */
export function summarize(runs: readonly PunchRun[]): Summary {
  const connected = runs.filter((run) => run.kind === "connected");
  const others = runs.filter((run) => run.kind !== "connected");
  const refused = others.filter(({ kind }) => kind === "refused");
  const estimates = [...connected.map(({ estimate }) => estimate), ...refused.map(() => 0)];
  const syns = percentiles(runs.map(({ syns }) => syns));
  return {
    runs: runs.length,
    connected: connected.length,
    refused: refused.length,
    inFirstRound: connected.filter(({ rounds }) => rounds === 1).length,
    connectMs: times(connected.map(({ connectMs }) => connectMs)),
    laterConnectMs: times(connected.map(({ laterConnectMs }) => laterConnectMs)),
    totalMs: times((connected.length > 0 ? connected : refused).map(({ totalMs }) => totalMs)),
    syns: { median: syns.p50Ms, max: syns.maxMs },
    estimate: estimates.length === 0
      ? null
      : estimates.reduce((sum, estimate) => sum + estimate) / estimates.length,
    methods: [...new Set(connected.map(({ method }) => method))],
    notes: [...new Set(others.map(({ reason }) => reason))],
  };
}

/** The share of runs that connected, from 0 to 1. */
export function successOf({ connected, runs }: Pick<Summary, "connected" | "runs">): number {
  return runs === 0 ? 0 : connected / runs;
}

/** Whether every run was refused because no method can work. */
export function isRefused({ refused, runs }: Pick<Summary, "refused" | "runs">): boolean {
  return runs > 0 && refused === runs;
}

function times(values: readonly number[]): Times | null {
  if (values.length === 0) return null;
  const sorted = values.toSorted((a, b) => a - b);
  const at = (share: number) => sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)]!;
  return { median: at(0.5), p95: at(0.95), max: at(1) };
}
