/**
 * Repeating a message over a lossy channel until the other side acknowledges it.
 *
 * @module
 */

import { backoff } from "./backoff.ts";

/** How often a message is repeated. */
export interface RepetitionOptions {
  /** The wait before the first repetition. Each further wait is twice as long. */
  readonly firstWaitMs: number;
  /** The longest wait. */
  readonly maximumWaitMs: number;
  /** The shortest time between two answers to the other side, however often it asks. */
  readonly minimumGapMs: number;
}

/**
 * Says when to send the latest version of a message: at once when it is new, then after growing waits until it is
 * acknowledged, and as an answer only as often as the gap allows. Pure: all times are read from one clock, which must not
 * go back.
 */
export class Repetition {
  readonly #options: RepetitionOptions;
  #sentMs = -Infinity;
  #dueMs = -Infinity;
  #sent = 0;

  /** The first version of the message is due at once. */
  constructor(options: RepetitionOptions) {
    this.#options = options;
  }

  /** When to send next; `Infinity` once the latest version is acknowledged. */
  get dueMs(): number {
    return this.#dueMs;
  }

  /** Call when there is a new version: it is due at once, and the waits start over. */
  renew(): void {
    this.#sent = 0;
    this.#dueMs = -Infinity;
  }

  /** Call when the latest version has been sent because it was due. */
  repeated(nowMs: number): void {
    this.sent(nowMs);
    this.#sent++;
    const { firstWaitMs, maximumWaitMs } = this.#options;
    this.#dueMs = nowMs + backoff({ firstMs: firstWaitMs, maximumMs: maximumWaitMs }, this.#sent);
  }

  /** Call when the latest version has been sent for another reason, such as an answer. */
  sent(nowMs: number): void {
    this.#sentMs = nowMs;
  }

  /** Call when the other side has acknowledged the latest version. */
  acknowledge(): void {
    this.#dueMs = Infinity;
  }

  /** Whether the gap allows an answer to the other side now. */
  mayAnswer(nowMs: number): boolean {
    return nowMs - this.#sentMs >= this.#options.minimumGapMs;
  }
}
