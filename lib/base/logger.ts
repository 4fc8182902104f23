/** Receives diagnostics: `console`, or any logger with these methods, such as one from `@std/log`. The library logs nowhere else. */
export interface Logger {
  /** Details for developers. */
  debug(message: string): void;
  /** Normal events. */
  info(message: string): void;
  /** Non-fatal problems. */
  warn(message: string): void;
}
