/** Where diagnostics go: `console`, or a logger of `@std/log`'s shape. The library writes nowhere else. */
export interface Logger {
  /** What only a developer wants to know. */
  debug(message: string): void;
  /** What happened. */
  info(message: string): void;
  /** What went wrong without consequences for the caller. */
  warn(message: string): void;
}
