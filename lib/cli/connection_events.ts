/**
 * What commands that connect tell: lines for people on stderr, or one JSON object each for programs, also there where
 * stdout is the connection.
 *
 * @module
 */

import type { ConnectionAttempt } from "../base/errors.ts";
import type { CliIo } from "./io.ts";

/** A connection, as it is told. */
export interface ConnectedReport {
  readonly strategy: string;
  /** This side's end. */
  readonly local: string;
  /** The other side's end. */
  readonly remote: string;
  readonly relayed: boolean;
  /** From the call. */
  readonly elapsedMs: number;
  /** From the moment when both sides' addresses were known. */
  readonly punchMs: number;
  /** What was tried on the way. */
  readonly attempts: readonly ConnectionAttempt[];
  /** For people. */
  readonly reason: string;
}

/** Tells what happens. */
export class ConnectionEvents {
  readonly #io: CliIo;
  readonly #asJson: boolean;
  readonly #print: (line: string) => void;

  /** @param options.isStdoutFree whether stdout is not the connection */
  constructor(io: CliIo, options: { asJson: boolean; isStdoutFree?: boolean }) {
    this.#io = io;
    this.#asJson = options.asJson;
    this.#print = options.isStdoutFree ? io.out : io.err;
  }

  /** A line for people; programs are spared it. */
  say(line: string): void {
    if (!this.#asJson) this.#io.err(line);
  }

  /** An object for programs; people are spared it. */
  tell(event: { readonly event: string } & Readonly<Record<string, unknown>>): void {
    if (this.#asJson) this.#print(JSON.stringify(event));
  }

  /** All that was tried. */
  attempts(attempts: readonly ConnectionAttempt[]): void {
    for (const attempt of attempts) {
      const { strategy, local, remote, outcome, elapsedMs } = attempt;
      this.tell({ event: "attempt", strategy, local, remote, outcome, elapsedMs });
      this.say(`  ${describe(attempt)}`);
    }
  }

  /** There is a connection. */
  connected({ reason, attempts, ...report }: ConnectedReport): void {
    if (this.#asJson) this.attempts(attempts);
    this.tell({ event: "connected", ...report, attempts: attempts.length });
    const { local, remote, punchMs } = report;
    this.say(`Connected ${local} to ${remote} in ${punchMs.toFixed(0)} ms: ${reason}`);
  }

  /** Both directions have ended. */
  closed(): void {
    this.tell({ event: "closed" });
    this.say("Closed");
  }
}

function describe(attempt: ConnectionAttempt): string {
  const { strategy, remote, outcome, elapsedMs, tries, resets, reason, remedy } = attempt;
  const counts = tries === 0 ? [] : [
    `${tries} ${tries === 1 ? "SYN" : "SYNs"}`,
    ...resets > 0 ? [`${resets} reset`] : [],
  ];
  const notes = counts.length > 0 ? ` (${counts.join(", ")})` : "";
  const words = [reason, remedy].filter((each) => each !== undefined);
  const why = words.length > 0 ? `: ${words.join("; ")}` : "";
  return `${strategy} to ${remote}: ${outcome} after ${elapsedMs.toFixed(0)} ms${notes}${why}`;
}
