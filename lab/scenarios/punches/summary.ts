/**
 * Many runs of one punch in a few figures.
 *
 * @module
 */

import { percentiles } from "../../kernel/counters.ts";
import type { PunchRun } from "./punch_lab.ts";

/** Of runs of the same punch. Times are in milliseconds, and of the runs that connected. */
export interface Summary {
  readonly runs: number;
  readonly connected: number;
  /** Where theory has no way, and both sides said so. */
  readonly refused: number;
  /** Of those that connected, in the first round. */
  readonly inFirstRound: number;
  /** From the later side's start of dialling to a connection on both sides; `null` without any. */
  readonly connectMs: Times | null;
  /** From the same start to the connection on the later side itself. */
  readonly laterConnectMs: Times | null;
  /** From the later side's call to the end, which is a nomination on both sides, or a refusal. */
  readonly totalMs: Times | null;
  /** SYNs of both hosts, those to servers included. */
  readonly syns: { readonly median: number; readonly max: number };
  /** The chance that the plans saw, on average; 0 for a refusal, `null` if nothing is known. */
  readonly estimate: number | null;
  readonly methods: readonly string[];
  /** Why runs did not connect, each reason once. */
  readonly notes: readonly string[];
}

/** A median, and how far others are from it. */
export interface Times {
  readonly median: number;
  readonly p95: number;
  readonly max: number;
}

/** Sums up runs. */
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

/** The share that connected, 0 to 1. */
export function successOf({ connected, runs }: Pick<Summary, "connected" | "runs">): number {
  return runs === 0 ? 0 : connected / runs;
}

/** Whether theory has no way, and every run said so. */
export function isRefused({ refused, runs }: Pick<Summary, "refused" | "runs">): boolean {
  return runs > 0 && refused === runs;
}

function times(values: readonly number[]): Times | null {
  if (values.length === 0) return null;
  const sorted = values.toSorted((a, b) => a - b);
  const at = (share: number) => sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)]!;
  return { median: at(0.5), p95: at(0.95), max: at(1) };
}
