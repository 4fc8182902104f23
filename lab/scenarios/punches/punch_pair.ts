/**
 * One punch between two programs of the lab, with a chosen delay for the signaling messages between them.
 *
 * @module
 */

import type { FamilyReport } from "../../../lib/nat/behavior.ts";
import type { PunchProgram, StartedPunch } from "./punch_program.ts";
import type { RunnerCommand, RunnerResult } from "./runner_types.ts";

/** One side. The first of the two is the controlling one. */
export interface PunchDescription {
  readonly program: PunchProgram;
  /** Its NAT test report. */
  readonly report: Partial<FamilyReport> | null;
}

/** How to run a punch. */
export interface PairOptions {
  readonly servers: readonly string[];
  /** The round trip of signaling messages. Default: 50. */
  readonly signalRttMs?: number;
  /** How much longer messages to the second side take, so that it starts to dial that much later. Default: 0. */
  readonly skewMs?: number;
  /** Default: 20 000. */
  readonly timeoutMs?: number;
  /** Whether the base sockets are prepared before the call. */
  readonly isWarm?: boolean;
  /** Carries the messages instead of this process. */
  readonly rendezvous?: RunnerCommand["rendezvous"];
  /** When both sides call. Default: at once. */
  readonly callAtMs?: number;
  /** How much later than that each side calls, the controlling one first. Default: not at all. */
  readonly laterMs?: readonly [number, number];
  /** Whether to punch by UDP alone instead of TCP. */
  readonly udp?: boolean;
}

/** The result of a punch. Times are in milliseconds. */
export type PairResult =
  | {
    readonly kind: "connected";
    readonly method: string;
    readonly reason: string;
    /** The plan's estimate of the chance of success. */
    readonly estimate: number;
    /** From the later side's first dial until both sides were connected. */
    readonly connectMs: number;
    /** The same until the later side itself was connected, half a round trip earlier. */
    readonly laterConnectMs: number;
    /** From the later side's call until the connection was nominated on both sides. */
    readonly totalMs: number;
    readonly rounds: number;
    /** The remote address of the controlling side's connection. */
    readonly remote: string;
    /** From the moment when the later side knew both offers until each side had the connection, the controlling one first. */
    readonly nominatedMs: readonly [number, number];
    /** From the same moment until what the controlling side wrote first had arrived. */
    readonly byteMs: number;
    /** From the same moment until a message had arrived at both sides; by UDP an encrypted one. */
    readonly messageMs: number;
    /** By UDP: from the same moment until a datagram had gone both ways. */
    readonly bothWaysMs?: number;
    /** By UDP: the probes of both sides. */
    readonly probes: number;
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
  const { servers, rendezvous, callAtMs, laterMs = [0, 0], udp } = options;
  const common = { servers, timeoutMs, isWarm, signalRttMs, rendezvous, udp };
  using post = new DelayedDelivery();
  const start = (side: PunchDescription, role: RunnerCommand["role"], to: () => StartedPunch) =>
    side.program.punch({
      ...common,
      role,
      report: side.report,
      callAtMs: callAtMs === undefined
        ? undefined
        : callAtMs + laterMs[role === "controlling" ? 0 : 1],
    }, (signal) => {
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
    if (a.received !== b.local || b.received !== a.local) {
      const reason =
        `two connections: ${a.local} received ${a.received}, ${b.local} received ${b.received}`;
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
      nominatedMs: [a.nominatedAtMs - later.dialledAtMs, b.nominatedAtMs - later.dialledAtMs],
      byteMs: b.receivedAtMs - later.dialledAtMs,
      rounds: Math.max(a.rounds, b.rounds),
      remote: a.remote,
      messageMs: Math.max(a.receivedAtMs, b.receivedAtMs) - later.dialledAtMs,
      bothWaysMs: a.answeredAtMs === undefined || b.answeredAtMs === undefined
        ? undefined
        : Math.min(a.answeredAtMs, b.answeredAtMs) - later.dialledAtMs,
      probes: a.tries + b.tries,
    };
  }
  const ends = [a, b].flatMap((each) => each.outcome === "unreachable" ? [each] : []);
  const isRefusal = ends.length === 2 && ends.every(({ message }) => message.includes(IMPOSSIBLE));
  return {
    kind: isRefusal ? "refused" : "failed",
    reason: [...new Set(ends.map(({ message }) => message))].join("; "),
    totalMs: Math.max(...ends.map(({ endedAtMs }) => endedAtMs)) - startedAtMs,
  };
}

/** Delivers messages after a delay. Those still on their way when it is disposed of are lost, and leave no timer. */
export class DelayedDelivery implements Disposable {
  readonly #timers = new Set<ReturnType<typeof setTimeout>>();

  /** Calls `deliver` after this many milliseconds. */
  carry(deliver: () => void, afterMs: number): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      deliver();
    }, afterMs);
    this.#timers.add(timer);
  }

  [Symbol.dispose](): void {
    for (const timer of this.#timers) clearTimeout(timer);
  }
}

/** How the reason of a plan begins if no method can work. */
const IMPOSSIBLE = "impossible: ";
