/**
 * The record of what was tried.
 *
 * @module
 */

import type { ConnectionAttempt } from "../base/errors.ts";
import type { MeetingOutcome } from "./nomination.ts";

/** The record of one dial, of a spray of them, or of a connection that was accepted. */
export class DialTrace {
  readonly strategy: string;
  readonly remote: string;
  tries = 0;
  resets = 0;
  #local: string | null = null;
  #reason: string | undefined;
  #outcome: ConnectionAttempt["outcome"] = "abandoned";
  readonly #startedAtMs = performance.now();
  #elapsedMs: number | undefined;

  /** @param remote the address that is dialled, or a description of several */
  constructor(strategy: string, remote: string) {
    this.strategy = strategy;
    this.remote = remote;
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
    const { strategy, remote, tries, resets } = this;
    const elapsedMs = this.#elapsedMs ?? performance.now() - this.#startedAtMs;
    const [local, outcome, reason] = [this.#local, this.#outcome, this.#reason];
    return {
      ...{ strategy, local, remote, outcome, tries, resets, elapsedMs },
      ...reason !== undefined && { reason },
    };
  }
}

/** What became of a connection, in the words of a record. */
export const ATTEMPT_OUTCOMES: Readonly<Record<MeetingOutcome, ConnectionAttempt["outcome"]>> = {
  nominated: "connected",
  "not-nominated": "abandoned",
  "not-authenticated": "not-authenticated",
  broken: "failed",
};
