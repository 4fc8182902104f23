/**
 * What a command sees of the world: where it prints, and when to stop.
 *
 * @module
 */

/** The terminal, or whatever stands in its place. */
export interface CliIo {
  /** Prints a line on stdout: results. */
  out(line: string): void;
  /** Prints a line on stderr: progress and diagnostics. */
  err(line: string): void;
  /** The line of a terminal on stderr that is written over as things go on; where there is one. */
  readonly status?: StatusLine;
  /** Whether stdout is a terminal. */
  readonly isTerminal: boolean;
  /** Whether stdin is one. */
  readonly isInputTerminal: boolean;
  /** Stdin, for commands that carry bytes. */
  readonly stdin: ReadableStream<Uint8Array>;
  /** Stdout, for the same. */
  readonly stdout: WritableStream<Uint8Array>;
  /** Aborted by Ctrl-C. */
  readonly signal: AbortSignal;
}

/** Where a bar is drawn. */
export interface StatusLine {
  /** How wide the terminal is now. */
  readonly columns: number;
  /** Writes text as it is. */
  write(text: string): void;
}

/** Exit codes that other programs rely on. */
export const EXIT = {
  ok: 0,
  failure: 1,
  usage: 2,
  offlineOrBlocked: 3,
  peerNotFound: 4,
  authenticationFailed: 5,
  /** A direct path was demanded, and there is none. */
  onlyRelayed: 6,
  timeout: 124,
  interrupted: 130,
  /** As shells report a program that SIGPIPE ended. */
  brokenPipe: 141,
} as const;

/** The command line is wrong; the message says how. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}
