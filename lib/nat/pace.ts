/**
 * When to try again and when to stop waiting, told from the round trips seen so far.
 *
 * @module
 */

import { isSameProbe, type Probe, type ProbeSpec } from "./probe.ts";

/** A view of the probes at one moment. Times are milliseconds since the start of the test. */
export class Pace {
  readonly nowMs: number;
  readonly #probes: readonly Probe[];

  /** @param probes in the order of sending */
  constructor(probes: readonly Probe[], nowMs: number) {
    this.#probes = probes;
    this.nowMs = nowMs;
  }

  /** The tries of one probe. */
  tries(spec: ProbeSpec): Probe[] {
    return this.#probes.filter((probe) => isSameProbe(probe, spec));
  }

  /** Whether one of the tries was answered, in whatever way. */
  isAnswered(spec: ProbeSpec): boolean {
    return this.tries(spec).some(({ reply }) => reply !== undefined);
  }

  /** Whether waiting for more of this probe makes no sense. */
  isGivenUp(spec: ProbeSpec): boolean {
    const tries = this.tries(spec);
    return tries.length >= MAX_TRIES && !this.isAnswered(spec) &&
      this.nowMs >= tries.at(-1)!.sentAtMs + this.#intervalMs(spec.server, tries.length);
  }

  /** Whether so many tries stayed unanswered that something else should be preferred. */
  isDoubtful(spec: ProbeSpec): boolean {
    return this.tries(spec).length > DOUBTFUL_TRIES && !this.isAnswered(spec);
  }

  /** When the probe shall be sent (again): now, if it never was. */
  nextTryMs(spec: ProbeSpec): number {
    const tries = this.tries(spec);
    return tries.length === 0
      ? this.nowMs
      : tries.at(-1)!.sentAtMs + this.#intervalMs(spec.server, tries.length);
  }

  /** When the first answer of a server came; `Infinity` before. */
  firstReplyMs(server: number): number {
    return Math.min(...this.#answered(server).map(({ reply }) => reply!.atMs));
  }

  /** Round trips to a server in milliseconds, shortest first. */
  roundTripsMs(server: number): number[] {
    return this.#answered(server)
      .map(({ reply, sentAtMs }) => reply!.atMs - sentAtMs)
      .sort((a, b) => a - b);
  }

  /** How long an answer may take at most, by what was seen of this server; `undefined` before its first. */
  retransmitMs(server: number): number | undefined {
    const times = this.roundTripsMs(server);
    if (times.length === 0) return undefined;
    return times.at(-1)! + Math.max(REORDER_MS, times.at(-1)! - times[0]!);
  }

  /** How much later than its control's an answer may come and not count as missing. */
  patienceMs(server: number): number {
    const times = this.roundTripsMs(server);
    if (times.length === 0) return Infinity;
    return Math.max(MIN_PATIENCE_MS, times.at(-1)! - times[0]!, times[0]! / 4);
  }

  /** The wait after the n-th try. */
  #intervalMs(server: number, tries: number): number {
    const first = this.retransmitMs(server) ?? FIRST_INTERVAL_MS;
    return Math.max(first, Math.min(MAX_INTERVAL_MS, first * BACKOFF ** (tries - 1)));
  }

  #answered(server: number): Probe[] {
    return this.#probes.filter((probe) => probe.server === server && probe.reply !== undefined);
  }
}

/** Our own choices; RFC 8489 §6.2.1 has 500 ms and doubles it, for clients that are not in a hurry. */
const FIRST_INTERVAL_MS = 100;
const BACKOFF = 1.5;
const MAX_INTERVAL_MS = 500;

/** With the backoff, tries cover more than two seconds, an outage of the kind that Wi-Fi has. */
const MAX_TRIES = 9;

/** One more than that is lost in 1 of 1000 runs at 5 % loss each way. */
const DOUBTFUL_TRIES = 3;

/** How far packets may overtake each other on a path whose jitter has not been seen yet. */
const REORDER_MS = 10;

const MIN_PATIENCE_MS = 15;
