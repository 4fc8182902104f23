/**
 * Exponential backoff: how long to wait before the next try.
 *
 * @module
 */

/** How the waits grow. */
export interface Backoff {
  /** Before the second try. */
  readonly firstMs: number;
  /** No wait is longer. */
  readonly maximumMs: number;
  /** From one wait to the next; 2 by default. */
  readonly factor?: number;
}

/**
 * How long to wait after a number of failures, in milliseconds: `firstMs` after the first, then `factor` times as long
 * each time, up to `maximumMs`.
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
