/**
 * What `punch` tells on stderr: lines for people, or one JSON object each for programs.
 *
 * @module
 */

import type { ConnectionAttempt } from "../errors.ts";
import { formatTransportAddress } from "../net/address.ts";
import type { PunchedConn } from "../punch/mod.ts";
import type { CliIo } from "./io.ts";

/** Tells what happens. */
export class PunchEvents {
  readonly #io: CliIo;
  readonly #asJson: boolean;

  constructor(io: CliIo, options: { asJson: boolean }) {
    this.#io = io;
    this.#asJson = options.asJson;
  }

  /** A line for people; programs are spared it. */
  say(line: string): void {
    if (!this.#asJson) this.#io.err(line);
  }

  /** All that was tried. */
  attempts(attempts: readonly ConnectionAttempt[]): void {
    for (const { strategy, local, remote, outcome, elapsedMs, tries, resets } of attempts) {
      if (this.#asJson) {
        this.#json({ event: "attempt", strategy, local, remote, outcome, elapsedMs });
        continue;
      }
      const counts = `${tries} ${tries === 1 ? "SYN" : "SYNs"}${
        resets > 0 ? `, ${resets} reset` : ""
      }`;
      this.#io.err(
        `  ${strategy} to ${remote}: ${outcome} after ${elapsedMs.toFixed(0)} ms (${counts})`,
      );
    }
  }

  /** There is a connection. */
  connected(conn: PunchedConn): void {
    const { plan, punchMs, elapsedMs, attempts } = conn.punch;
    const [local, remote] = [conn.local, conn.remote].map(formatTransportAddress);
    if (this.#asJson) {
      this.attempts(attempts);
      this.#json({
        event: "connected",
        strategy: plan.technique,
        local,
        remote,
        relayed: false,
        elapsedMs,
        punchMs,
        attempts: attempts.length,
      });
      return;
    }
    this.#io.err(`Connected ${local} to ${remote} in ${punchMs.toFixed(0)} ms: ${plan.reason}`);
  }

  /** Both directions have ended. */
  closed(): void {
    if (this.#asJson) this.#json({ event: "closed" });
    else this.#io.err("Closed");
  }

  #json(value: unknown): void {
    this.#io.err(JSON.stringify(value));
  }
}
