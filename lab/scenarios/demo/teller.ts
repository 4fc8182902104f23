/**
 * Tells a story to people, as slowly as they read.
 *
 * @module
 */

/** Where a demonstration says what it does. */
export interface Teller {
  /** Begins a part. */
  chapter(title: string): Promise<void>;
  /** Says some lines. */
  say(...lines: readonly string[]): Promise<void>;
}
