/**
 * Exponential backoff: how long to wait before the next attempt, and when to repeat a message until it is acknowledged.
 *
 * @module
 */

/** How the waits grow from one failure to the next. */
export interface Backoff {
  /** The wait before the second attempt. */
  readonly firstMs: number;
  /** The longest wait. */
  readonly maximumMs: number;
  /** The ratio of a wait to the one before. Default: 2. */
  readonly factor?: number;
}

/**
 * How long to wait after this many failures, in milliseconds: `firstMs` after the first, then `factor` times as long
 * after each further one, up to `maximumMs`.
 *
 * @param failures at least 1
 *
 * @example
 * ```ts
 * import { backoff } from "./backoff.ts";
 * import { assertEquals } from "@std/assert";
 *
 * const waits = [1, 2, 3, 4].map((failures) => backoff({ firstMs: 500, maximumMs: 3000 }, failures));
 * assertEquals(waits, [500, 1000, 2000, 3000]);
 * ```
 */
export function backoff({ firstMs, maximumMs, factor = 2 }: Backoff, failures: number): number {
  return Math.min(firstMs * factor ** (failures - 1), maximumMs);
}

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
 * acknowledged, and as an answer only as often as the gap allows. Pure: all times are read from one clock, which never
 * goes backwards.
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
