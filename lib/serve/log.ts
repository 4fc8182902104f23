/**
 * The log of a server: a line for each event, with its time and level.
 *
 * @module
 */

import type { Logger } from "../base/logger.ts";

/** The levels, the most talkative first. Addresses of clients are logged at `debug` only. */
export const LOG_LEVELS = ["debug", "info", "warn"] as const;

/** What a line is about. */
export type LogLevel = typeof LOG_LEVELS[number];

/** How lines look. */
export const LOG_FORMATS = ["text", "json"] as const;

/** How to log. */
export interface LineLoggerOptions {
  readonly format: typeof LOG_FORMATS[number];
  /** The lowest level that is logged. */
  readonly level: LogLevel;
  /** Writes one line. */
  readonly print: (line: string) => void;
}

/** A logger that prints lines: `TIME LEVEL MESSAGE`, or objects with `time`, `level` and `message`. */
export function lineLogger({ format, level, print }: LineLoggerOptions): Logger {
  const log = (of: LogLevel) => (message: string) => {
    if (LOG_LEVELS.indexOf(of) < LOG_LEVELS.indexOf(level)) return;
    const time = new Date().toISOString();
    print(
      format === "json"
        ? JSON.stringify({ time, level: of, message })
        : `${time} ${of} ${message.replaceAll("\n", " ")}`,
    );
  };
  return { debug: log("debug"), info: log("info"), warn: log("warn") };
}
