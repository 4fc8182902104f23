/**
 * The record of one attempt to connect, kept while it runs.
 *
 * @module
 */

import type { ConnectionAttempt } from "../base/errors.ts";
import type { PathKind, PunchMethodName } from "../base/path_kind.ts";
import { formatTransportAddress } from "../net/address.ts";
import type { TcpConnection } from "../net/network.ts";
import type { NominationOutcome } from "./nomination_engine.ts";

/** The record of one dial, of many dials that belong together, or of a connection that was accepted. */
export class AttemptRecord {
  /** SYNs sent so far. */
  tries = 0;
  /** How many of them were reset. */
  resets = 0;
  readonly #kind: PathKind;
  readonly #method: PunchMethodName | null;
  readonly #remote: string;
  readonly #startedAtMs = performance.now();
  #local: string | null = null;
  #outcome: ConnectionAttempt["outcome"] = "abandoned";
  #reason: string | undefined;
  #elapsedMs: number | undefined;

  /**
   * Starts a record.
   *
   * @param remote the address that is dialled, or a description of several
   * @param method how filters are punched; `null` unless `kind` is `"punch-tcp"`
   */
  constructor(kind: PathKind, remote: string, method: PunchMethodName | null = null) {
    this.#kind = kind;
    this.#remote = remote;
    this.#method = method;
  }

  /**
   * Notes how a dial ended. The last dial decides, but a connection stays a connection.
   *
   * @param local the address that it left from, if known
   * @param reason why, in words
   */
  end(outcome: ConnectionAttempt["outcome"], local: string | null = null, reason?: string): void {
    if (this.#outcome === "connected") return;
    this.#reason = reason;
    this.#local = local ?? this.#local;
    this.#outcome = outcome;
    this.#elapsedMs = performance.now() - this.#startedAtMs;
  }

  /** Notes what the nomination decided about a connection. */
  settle(outcome: NominationOutcome, { local }: Pick<TcpConnection, "local">): void {
    this.end(OUTCOMES[outcome], formatTransportAddress(local));
  }

  /** The record as data. */
  toAttempt(): ConnectionAttempt {
    return {
      kind: this.#kind,
      method: this.#method,
      transport: "tcp",
      local: this.#local,
      remote: this.#remote,
      outcome: this.#outcome,
      tries: this.tries,
      resets: this.resets,
      elapsedMs: this.#elapsedMs ?? performance.now() - this.#startedAtMs,
      reason: this.#reason,
    };
  }
}

const OUTCOMES: Readonly<Record<NominationOutcome, ConnectionAttempt["outcome"]>> = {
  "nominated": "connected",
  "not-nominated": "abandoned",
  "not-authenticated": "not-authenticated",
  "broken": "failed",
};
