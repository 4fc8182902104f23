/**
 * Repeating a message until the other side has acknowledged it, over a channel that loses messages.
 *
 * @module
 */

import { backoff } from "./backoff.ts";

/** How often a message is repeated. */
export interface RepetitionOptions {
  /** Before the first repetition; each wait after it is twice as long. */
  readonly firstWaitMs: number;
  /** No wait is longer. */
  readonly maximumWaitMs: number;
  /** Between two messages that answer the other side, whatever it asks for. */
  readonly minimumGapMs: number;
}

/**
 * When to send the latest version of a message: at once when it is new, then after growing waits until it is
 * acknowledged, and as an answer no more often than the gap allows. Pure: the times are those of one clock that never
 * goes back.
 */
export class Repetition {
  readonly #options: RepetitionOptions;
  #sentMs = -Infinity;
  #dueMs = -Infinity;
  #sent = 0;

  constructor(options: RepetitionOptions) {
    this.#options = options;
  }

  /** When to send next; `Infinity` while the latest version is acknowledged. */
  get dueMs(): number {
    return this.#dueMs;
  }

  /** There is a new version: it is due at once, and the waits start anew. */
  renew(): void {
    this.#sent = 0;
    this.#dueMs = -Infinity;
  }

  /** The latest version was sent because it was due. */
  repeated(nowMs: number): void {
    this.sent(nowMs);
    this.#sent++;
    const { firstWaitMs, maximumWaitMs } = this.#options;
    this.#dueMs = nowMs + backoff({ firstMs: firstWaitMs, maximumMs: maximumWaitMs }, this.#sent);
  }

  /** The latest version was sent, for another reason than that it was due. */
  sent(nowMs: number): void {
    this.#sentMs = nowMs;
  }

  /** The other side has the latest version. */
  acknowledge(): void {
    this.#dueMs = Infinity;
  }

  /** Whether the other side may be answered now. */
  mayAnswer(nowMs: number): boolean {
    return nowMs - this.#sentMs >= this.#options.minimumGapMs;
  }
}
