/**
 * Exponential backoff: how long to wait before the next attempt.
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
