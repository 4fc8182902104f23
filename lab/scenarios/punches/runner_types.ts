/**
 * What a program for punches is told, and what it reports.
 *
 * @module
 */

import type { FamilyReport } from "../../../lib/nat/behavior.ts";

/** Starts a punch. */
export interface RunnerCommand {
  readonly role: "controlling" | "controlled";
  readonly servers: readonly string[];
  readonly report: Partial<FamilyReport> | null;
  readonly timeoutMs: number;
  /** Whether to prepare the base socket before the clock starts. */
  readonly isWarm: boolean;
  readonly signalRttMs: number;
  /** Carries the messages instead of the process that started this one. */
  readonly rendezvous?: { readonly url: string; readonly room: string };
  /** When to call, in milliseconds since the epoch. Default: at once. */
  readonly callAtMs?: number;
  /** Whether to punch by UDP alone instead of TCP. */
  readonly udp?: boolean;
}

/** The result of a punch. Times are in milliseconds, `...AtMs` since the epoch. */
export type RunnerResult =
  | {
    readonly outcome: "connected";
    readonly method: string;
    /** The plan in words. */
    readonly reason: string;
    readonly startedAtMs: number;
    /** When this side had both offers. */
    readonly dialledAtMs: number;
    readonly establishedAtMs: number;
    readonly nominatedAtMs: number;
    readonly rounds: number;
    readonly estimate: number;
    readonly tries: number;
    readonly local: string;
    readonly remote: string;
    /** What the peer sent over the connection: its local address. */
    readonly received: string;
    /** When that had arrived. */
    readonly receivedAtMs: number;
    /** By UDP: when the peer had answered the first probe. */
    readonly answeredAtMs?: number;
  }
  | {
    readonly outcome: "unreachable";
    readonly startedAtMs: number;
    readonly endedAtMs: number;
    readonly message: string;
    readonly tries: number;
  }
  | { readonly outcome: "error"; readonly message: string };
