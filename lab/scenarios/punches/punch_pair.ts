/**
 * One punch between two programs of the lab, and the messages between them, which take as long as they are told to.
 *
 * @module
 */

import { SignalPost } from "./signal_post.ts";
import type { FamilyReport } from "../../../lib/nat/behavior.ts";
import type { PunchProgram, StartedPunch } from "./punch_program.ts";
import type { RunnerCommand, RunnerResult } from "./punch_runner.ts";

/** One side. The first of two is the controlling one. */
export interface PunchDescription {
  readonly program: PunchProgram;
  /** What it knows of its NAT. */
  readonly report: Partial<FamilyReport> | null;
}

/** How a punch is run. */
export interface PairOptions {
  readonly servers: readonly string[];
  /** A round trip of the messages between both; 50 unless given. */
  readonly signalRttMs?: number;
  /** How much later the second side hears of the first than the other way round, so that it dials so much later. */
  readonly skewMs?: number;
  /** 20 000 unless given. */
  readonly timeoutMs?: number;
  /** Whether the punch ports are ready before. */
  readonly isWarm?: boolean;
  /** Carries the messages, instead of this process. */
  readonly rendezvous?: RunnerCommand["rendezvous"];
  /** When both call; each when it is told to unless given. */
  readonly callAtMs?: number;
}

/** What came of a punch between two. Times are in milliseconds. */
export type PairResult =
  | {
    readonly kind: "connected";
    readonly method: string;
    readonly reason: string;
    /** The chance that the plan saw. */
    readonly estimate: number;
    /** From the later side's start of dialling until both sides had the connection established. */
    readonly connectMs: number;
    /** The same until the later side itself had it; the last segment is on its way to the other for a one-way delay. */
    readonly laterConnectMs: number;
    /** From the later side's call until the connection was nominated on both sides. */
    readonly totalMs: number;
    readonly rounds: number;
    /** The address that the controlling side reached. */
    readonly remote: string;
  }
  | {
    readonly kind: "failed" | "refused";
    readonly reason: string;
    /** From the later side's call until both sides knew. */
    readonly totalMs: number;
  };

/** Runs one punch. */
export async function punchPair(
  [a, b]: readonly [PunchDescription, PunchDescription],
  options: PairOptions,
): Promise<PairResult> {
  const { signalRttMs = 50, skewMs = 0, timeoutMs = 20_000, isWarm = false } = options;
  const { servers, rendezvous, callAtMs } = options;
  const common = { servers, timeoutMs, isWarm, signalRttMs, rendezvous, callAtMs };
  using post = new SignalPost();
  const start = (side: PunchDescription, role: RunnerCommand["role"], to: () => StartedPunch) =>
    side.program.punch({ ...common, role, report: side.report }, (signal) => {
      const waitMs = signalRttMs / 2 + (role === "controlling" ? skewMs : 0);
      post.carry(() => to().deliver(signal), waitMs);
    });
  const first: StartedPunch = start(a, "controlling", () => second);
  const second: StartedPunch = start(b, "controlled", () => first);
  return judge(await first.result, await second.result);
}

function judge(a: RunnerResult, b: RunnerResult): PairResult {
  if (a.outcome === "error" || b.outcome === "error") {
    const [message] = [a, b].flatMap((each) => each.outcome === "error" ? [each.message] : []);
    throw new Error(`Cannot punch: ${message}`);
  }
  const startedAtMs = Math.max(a.startedAtMs, b.startedAtMs);
  if (a.outcome === "connected" && b.outcome === "connected") {
    if (a.heard !== b.local || b.heard !== a.local) {
      const reason = `two connections: ${a.local} hears ${a.heard}, ${b.local} hears ${b.heard}`;
      return { kind: "failed", reason, totalMs: NaN };
    }
    const later = a.dialledAtMs > b.dialledAtMs ? a : b;
    return {
      kind: "connected",
      method: a.method,
      reason: a.reason,
      estimate: a.estimate,
      connectMs: Math.max(a.establishedAtMs, b.establishedAtMs) - later.dialledAtMs,
      laterConnectMs: later.establishedAtMs - later.dialledAtMs,
      totalMs: Math.max(a.nominatedAtMs, b.nominatedAtMs) - startedAtMs,
      rounds: Math.max(a.rounds, b.rounds),
      remote: a.remote,
    };
  }
  const ends = [a, b].flatMap((each) => each.outcome === "unreachable" ? [each] : []);
  const isRefusal = ends.length === 2 && ends.every(({ message }) => message.includes(IMPOSSIBLE));
  return {
    kind: isRefusal ? "refused" : "failed",
    reason: ends.map(({ message }) => message).join("; "),
    totalMs: Math.max(...ends.map(({ endedAtMs }) => endedAtMs)) - startedAtMs,
  };
}

/** How plans begin their reason where theory has no way. */
const IMPOSSIBLE = "impossible: ";
