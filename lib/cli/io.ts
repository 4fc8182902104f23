/**
 * What a command gets from the outside: its streams, its terminal, and the signal that interrupts it. What it gives
 * back: an exit code.
 *
 * @module
 */

/** The terminal, or whatever replaces it. */
export interface CliIo {
  /** Prints a line on stdout: results. */
  out(line: string): void;
  /** Prints a line on stderr: progress and diagnostics. */
  err(line: string): void;
  /** A line on stderr that is redrawn as things progress, if stderr is a terminal. */
  readonly status?: StatusLine;
  /** Whether stdout is a terminal. */
  readonly isTerminal: boolean;
  /** Whether stdin is a terminal. */
  readonly isInputTerminal: boolean;
  /** Stdin, for commands that carry bytes. */
  readonly stdin: ReadableStream<Uint8Array>;
  /** Stdout, for commands that carry bytes. */
  readonly stdout: WritableStream<Uint8Array>;
  /** Aborted by Ctrl-C. */
  readonly signal: AbortSignal;
}

/** The line of a terminal on which a progress bar is drawn. */
export interface StatusLine {
  /** The current width of the terminal. */
  readonly columns: number;
  /** Writes the text as it is. */
  write(text: string): void;
}

/** The exit codes, which other programs rely on. */
export const EXIT = {
  ok: 0,
  failure: 1,
  usage: 2,
  offlineOrBlocked: 3,
  peerNotFound: 4,
  authenticationFailed: 5,
  /** A direct path was demanded, but only a relay would have worked. */
  onlyRelayed: 6,
  timeout: 124,
  interrupted: 130,
  /** What shells report for a program that SIGPIPE ended. */
  brokenPipe: 141,
} as const;

/** The command line is wrong; the message says how. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** Prints the error's message on stderr, in one line. */
export function printError(error: unknown, io: CliIo): void {
  io.err(`punchline: ${error instanceof Error ? error.message : error}`);
}
