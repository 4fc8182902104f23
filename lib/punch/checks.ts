/**
 * Carries out the dials of a plan and hands over every connection that comes of them.
 *
 * A socket that waits for an answer is left alone: the peer's SYN may be on its way to it. A reset is answered by
 * the next SYN at once: two sides that both reset pass each other's filters as soon as their SYNs cross, and redialling
 * without a pause brings that about within two round trips.
 *
 * @module
 */

import { type ConnectionAttempt, NetworkError } from "../base/errors.ts";
import type { PathKind, PunchMethodName } from "../base/path_kind.ts";
import { Deadline } from "../base/timers.ts";
import { formatTransportAddress, ipFamily, type TransportAddress } from "../net/address.ts";
import type { Network, TcpConnection } from "../net/network.ts";
import type { NominationOutcome } from "./nomination.ts";
import {
  type CheckListEntry,
  type DirectPathKind,
  methodOf,
  type PunchPlan,
} from "./plan_types.ts";
import { delay } from "@std/async/delay";

/** The record of one dial, of a spray of them, or of a connection that was accepted. */
export class AttemptRecord {
  readonly kind: PathKind;
  readonly method: PunchMethodName | null;
  readonly remote: string;
  tries = 0;
  resets = 0;
  #local: string | null = null;
  #reason: string | undefined;
  #outcome: ConnectionAttempt["outcome"] = "abandoned";
  readonly #startedAtMs = performance.now();
  #elapsedMs: number | undefined;

  /** @param remote the address that is dialled, or a description of several */
  constructor(kind: PathKind, remote: string, method: PunchMethodName | null = null) {
    this.kind = kind;
    this.remote = remote;
    this.method = method;
  }

  /**
   * Notes what came of it. A connection stays; otherwise the last counts, of the dials of a spray as of redials.
   *
   * @param local the address that it left from, if it is known
   * @param reason why, in words
   */
  end(outcome: ConnectionAttempt["outcome"], local: string | null = null, reason?: string): void {
    if (this.#outcome === "connected") return;
    this.#reason = reason;
    this.#local = local ?? this.#local;
    this.#outcome = outcome;
    this.#elapsedMs = performance.now() - this.#startedAtMs;
  }

  /** The record as data. */
  toAttempt(): ConnectionAttempt {
    return {
      kind: this.kind,
      method: this.method,
      transport: "tcp",
      local: this.#local,
      remote: this.remote,
      outcome: this.#outcome,
      tries: this.tries,
      resets: this.resets,
      elapsedMs: this.#elapsedMs ?? performance.now() - this.#startedAtMs,
      reason: this.#reason,
    };
  }
}

/** What became of a connection, in the words of a record. */
export const ATTEMPT_OUTCOMES: Readonly<Record<NominationOutcome, ConnectionAttempt["outcome"]>> = {
  nominated: "connected",
  "not-nominated": "abandoned",
  "not-authenticated": "not-authenticated",
  broken: "failed",
};

/** What dialling needs. */
export interface ConnectivityChecksOptions {
  readonly network: Network;
  readonly punchPort: number;
  /** Whether something listens on the punch port meanwhile. */
  readonly reusePort: boolean;
  /** Takes each connection; it is the taker's from then on. One that breaks is dialled again. */
  readonly onConnection: (connection: TcpConnection) => Promise<NominationOutcome>;
  /** The kind of path that a target belongs to. */
  readonly kindOf: (target: TransportAddress) => DirectPathKind;
  /** Ends all dials. */
  readonly signal: AbortSignal;
}

/** The dials of a plan under way. */
export class ConnectivityChecks {
  readonly #plan: PunchPlan;
  readonly #options: ConnectivityChecksOptions;
  readonly #traces: AttemptRecord[] = [];

  constructor(plan: PunchPlan, options: ConnectivityChecksOptions) {
    this.#plan = plan;
    this.#options = options;
  }

  /** What was dialled so far. */
  get traces(): readonly AttemptRecord[] {
    return this.#traces;
  }

  /** Runs all groups to their end, or until the signal ends them; never rejects for a dial that fails. */
  async run(): Promise<void> {
    await Promise.all(this.#plan.dials.map((group) => this.#runGroup(group)));
  }

  async #runGroup(group: CheckListEntry): Promise<void> {
    const { signal } = this.#options;
    using deadline = new Deadline(group.startMs + group.timeoutMs, signal);
    const dials: Promise<void>[] = [];
    try {
      if (group.startMs > 0) await delay(group.startMs, { signal: deadline.signal });
      const isSpray = group.targets.length * group.perTarget > SPRAY;
      const spray = isSpray
        ? this.#trace(group.targets[0]!, `${group.targets.length} ports of ${group.targets[0]!.ip}`)
        : undefined;
      const startedAtMs = performance.now();
      for (const [index, target] of targetsOf(group).entries()) {
        await waitForTurn(index, group, startedAtMs, deadline.signal);
        const trace = spray ?? this.#trace(target);
        const localPort = group.from === "punch"
          ? this.#options.punchPort
          : group.localPorts?.[index] ?? 0;
        dials.push(this.#dial(target, localPort, group, trace, deadline.signal));
      }
    } catch (error) {
      if (!deadline.signal.aborted) throw error;
    }
    await Promise.all(dials);
  }

  /** One target, again and again if it resets. */
  async #dial(
    target: TransportAddress,
    localPort: number,
    group: CheckListEntry,
    trace: AttemptRecord,
    signal: AbortSignal,
  ): Promise<void> {
    const { network, onConnection } = this.#options;
    const local = { ip: ipFamily(target.ip) === 4 ? "0.0.0.0" : "::", port: localPort };
    const reusePort = group.from === "punch" && this.#options.reusePort;
    for (let tries = 1;; tries++) {
      trace.tries++;
      try {
        const connection = await network.connectTcp(target, { local, reusePort, signal });
        const from = formatTransportAddress(connection.local);
        const outcome = await onConnection(connection);
        if (outcome !== "broken" || tries >= group.maxTries) {
          return trace.end(ATTEMPT_OUTCOMES[outcome], from);
        }
      } catch (error) {
        if (signal.aborted) {
          return trace.end(this.#options.signal.aborted ? "abandoned" : "timed-out");
        }
        if (!(error instanceof NetworkError)) throw error;
        const isReset = error.reason === "refused" || error.reason === "reset";
        if (isReset) trace.resets++;
        const isWorthAnother = isReset || TEMPORARY.includes(error.reason);
        if (!isWorthAnother || tries >= group.maxTries) return trace.end(outcomeOf(error));
      }
      try {
        await delay(pauseMs(tries), { signal });
      } catch {
        return trace.end(this.#options.signal.aborted ? "abandoned" : "refused");
      }
    }
  }

  #trace(target: TransportAddress, remote = formatTransportAddress(target)): AttemptRecord {
    const kind = this.#options.kindOf(target);
    const trace = new AttemptRecord(kind, remote, methodOf(kind, this.#plan.method));
    this.#traces.push(trace);
    return trace;
  }
}

/** Each target as often as the group wants, all targets once before any twice. */
function targetsOf({ targets, perTarget }: CheckListEntry): TransportAddress[] {
  return Array.from({ length: perTarget }, () => targets).flat();
}

/**
 * Waits until a dial of a group is due, by the clock: delays that add up would stretch a spray beyond the system's
 * first retransmission. Timers are coarser than the spacing, so several dials may be due at once.
 */
async function waitForTurn(
  index: number,
  { spacingMs }: CheckListEntry,
  startedAtMs: number,
  signal: AbortSignal,
): Promise<void> {
  const waitMs = startedAtMs + index * spacingMs - performance.now();
  if (waitMs >= 1) await delay(waitMs, { signal });
}

function outcomeOf({ reason }: NetworkError): ConnectionAttempt["outcome"] {
  switch (reason) {
    case "refused":
    case "reset":
      return "refused";
    case "unreachable":
      return "unreachable";
    case "timed-out":
      return "timed-out";
    default:
      return "failed";
  }
}

/** From one try to the next. */
function pauseMs(tries: number): number {
  if (tries < QUICK_TRIES) return Math.random() * JITTER_MS;
  return tries < SLOW_TRIES ? SLOW_MS : PATIENT_MS;
}

/** What may pass: ICMP errors, and the end of the system's patience, which is shorter than that of people. */
const TEMPORARY: readonly string[] = ["unreachable", "timed-out"];

/** Dials of a group that are more than these share one trace. */
const SPRAY = 32;

/** Enough that two sides which retry in step drift apart, small beside any round trip. */
const JITTER_MS = 3;

/**
 * Redials at once, then slowly: 100 cover a second of skew at 10 ms round trips; after that somebody resets who is
 * not the peer. Ours.
 */
const QUICK_TRIES = 100;
const SLOW_MS = 50;

/** Where people carry the offers there is no hurry. */
const SLOW_TRIES = 200;
const PATIENT_MS = 1000;
