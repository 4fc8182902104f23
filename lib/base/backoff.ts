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
 * When to send the latest version of a message: at once when it is new, then after growing waits until it is
 * acknowledged, and as an answer only as often as the gap allows. Plain data, so that it can be part of an engine's
 * state; the functions below return what follows. All times are read from one clock, which never goes backwards.
 */
export interface Repetition {
  readonly options: RepetitionOptions;
  /** When to send next; `Infinity` once the latest version is acknowledged. */
  readonly dueMs: number;
  /** When the message was last sent. */
  readonly sentMs: number;
  /** How often the latest version was sent because it was due. */
  readonly repeats: number;
}

/** The first version of a message, due at once or at `dueMs`. */
export function startRepetition(options: RepetitionOptions, dueMs = -Infinity): Repetition {
  return { options, dueMs, sentMs: -Infinity, repeats: 0 };
}

/** There is a new version: it is due at once, and the waits start over. */
export function afterChange(repetition: Repetition): Repetition {
  return { ...repetition, dueMs: -Infinity, repeats: 0 };
}

/** The latest version has been sent because it was due. */
export function afterRepeating(repetition: Repetition, nowMs: number): Repetition {
  const { options, repeats } = repetition;
  const policy = { firstMs: options.firstWaitMs, maximumMs: options.maximumWaitMs };
  const dueMs = nowMs + backoff(policy, repeats + 1);
  return { options, dueMs, sentMs: nowMs, repeats: repeats + 1 };
}

/** The latest version has been sent for another reason, such as an answer. */
export function afterSending(repetition: Repetition, nowMs: number): Repetition {
  return { ...repetition, sentMs: nowMs };
}

/** The other side has acknowledged the latest version. */
export function afterAcknowledgement(repetition: Repetition): Repetition {
  return { ...repetition, dueMs: Infinity };
}

/** Whether the gap allows an answer to the other side now. */
export function mayAnswer({ options, sentMs }: Repetition, nowMs: number): boolean {
  return nowMs - sentMs >= options.minimumGapMs;
}
