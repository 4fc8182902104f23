/**
 * What a command gets from the outside: its streams, its terminal, and the signal that interrupts it. What it gives
 * back: an exit code.
 *
 * @module
 */

import { messageOf, remedyOf } from "../base/errors.ts";
import { withoutLogin } from "../base/login.ts";
import type { ByteSink, ByteSource } from "../base/reader.ts";
import { copyable } from "./layout.ts";
import type { StartedAs } from "./started_as.ts";

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
  /** The current width of stdout, if it is a terminal. Default: that of stderr. */
  readonly outColumns?: number;
  /** Whether stdin is a terminal. */
  readonly isInputTerminal: boolean;
  /** Stdin, for commands that carry bytes. */
  readonly stdin: ByteSource;
  /**
   * Whether stdin hands over each key at once, without showing it, rather than lines. Default: it cannot do so, as when it
   * is not a terminal.
   */
  setRaw?(isRaw: boolean): void;
  /**
   * Whether the start of a line that was typed before a question stays in the terminal, so that it would be the start of
   * the answer. Default: no.
   */
  readonly keepsTyped?: boolean;
  /** Stdout, for commands that carry bytes. */
  readonly stdout: ByteSink;
  /** How this program was started, for the commands that it tells people to type. Default: as `punchline`. */
  readonly startedAs?: StartedAs;
  /** Aborted by Ctrl-C, TERM and HUP; the reason is an {@linkcode Interruption} that says which. */
  readonly signal: AbortSignal;
  /** Prints a failure as an event, for a command that prints JSON on stderr. Default: as text. */
  fail?(failure: Failure): void;
}

/** Why something failed, and what to do; each in one line. */
export interface Failure {
  /** Why. */
  readonly message: string;
  /** What to do, if it is known. */
  readonly remedy?: string;
}

/** The line of a terminal on which a status line or a progress bar is drawn. */
export interface StatusLine {
  /** The current width of the terminal. */
  readonly columns: number;
  /** Its current height, if known. */
  readonly rows?: number;
  /** Whether it shows colours, and the user wants them. Default: no. */
  readonly hasStyles?: boolean;
  /** Whether its cursor cannot go back, so that nothing is redrawn. Default: no. */
  readonly isDumb?: boolean;
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
  /** What shells report for a program that SIGHUP ended. */
  hungUp: 129,
  interrupted: 130,
  /** The same for SIGPIPE. */
  brokenPipe: 141,
  /** The same for SIGTERM. */
  terminated: 143,
} as const;

/** Removes tickets and logins from a text that is about to be printed. */
export function withoutSecrets(text: string): string {
  return text
    .replaceAll(/punchline:[\w-]{16,}/gi, "punchline:…")
    .replaceAll(
      /[a-z][a-z0-9+.-]*:[^\s"'`]*@/gi,
      (login) => login.includes("USER:PASSWORD") ? login : withoutLogin(login),
    );
}

/** Why a command ends before it is done. */
export class Interruption extends Error {
  override readonly name = "Interruption";
  readonly exitCode: number;

  constructor(exitCode: number) {
    super("Interrupted");
    this.exitCode = exitCode;
  }
}

/** The exit code of a command whose signal was aborted. */
export function interruptedCode({ signal }: Pick<CliIo, "signal">): number {
  return signal.reason instanceof Interruption ? signal.reason.exitCode : EXIT.interrupted;
}

/** The command line is wrong; the message says how. */
export class UsageError extends Error {
  override readonly name = "UsageError";
  /** What to do, if the message does not say it: a sentence without a period. Default: as the cause says. */
  readonly remedy: string | undefined;

  constructor(message: string, { remedy, ...options }: ErrorOptions & { remedy?: string } = {}) {
    super(message, options);
    this.remedy = remedy ?? remedyOf(options.cause);
  }
}

/** Why a file cannot be used, for a message that has named it already. */
export function reasonOfFile(error: unknown, path: string): string {
  const message = messageOf(error);
  for (const cannot of [`Cannot use ${path}: `, `Cannot read ${path}: `]) {
    if (message.startsWith(cannot)) return message.slice(cannot.length);
  }
  const [, reason] = /^(.*?) \(os error \d+\)(?:: .*)?$/s.exec(message) ?? [];
  return reason === undefined ? message : `${reason[0]!.toLowerCase()}${reason.slice(1)}`;
}

/** What an error says, in lines that can be printed. Options of the library have their names of the command line. */
export function failureOf(error: unknown): Failure {
  const remedy = error instanceof UsageError ? error.remedy : remedyOf(error);
  const message = oneLine(messageOf(error));
  return remedy === undefined ? { message } : { message, remedy: oneLine(remedyHere(remedy)) };
}

/** A remedy of the library, as it is carried out on the command line. */
export function remedyHere(remedy: string): string {
  return remedy
    .replace(/name (\S+) in `signaling`/, (_, url) => {
      return `add ${/^mqtt/.test(url) ? "--mqtt" : "--rendezvous"} ${url}`;
    })
    .replaceAll(/`(\w+)`/g, (all, name) => OPTION_NAMES[name] ?? all);
}

/** Prints an error on stderr: why in one line, and what to do in a second one, if that is known. */
export function printError(error: unknown, io: CliIo): void {
  printFailure(failureOf(error), io);
}

/** As {@linkcode printError}. */
export function printFailure(failure: Failure, io: CliIo): void {
  if (io.fail !== undefined) return io.fail(failure);
  io.err(`punchline: ${failure.message}`);
  if (failure.remedy !== undefined) io.err(failure.remedy.replaceAll(OPTION_TO_COPY, copyable));
}

/** Without secrets, and without line breaks: names of files and of others may have them. */
export function oneLine(text: string): string {
  return withoutSecrets(text).replaceAll("\n", "\\n");
}

/** Where to meet, as it is typed. */
const OPTION_TO_COPY = /--(?:rendezvous|mqtt) [a-z]+:\S+/g;

/** What the options of the library are called on the command line. */
const OPTION_NAMES: Readonly<Record<string, string>> = {
  signaling: "--rendezvous or --mqtt",
  turn: "--turn",
  servers: "--server",
  gateway: "--gateway",
  strategies: "--strategy",
  relayOnly: "--relay-only",
  merge: "--merge",
  allowHidden: "--allow-hidden",
  existing: "--rename, to keep both files, or --overwrite, to replace yours",
};
