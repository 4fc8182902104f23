/**
 * What a failed command tells: why in one line, what to do in a second one where that is known, and the exit code.
 *
 * @module
 */

import { messageOf, NetworkError, PunchlineError, UnreachableError } from "../base/errors.ts";
import { isFullyGranted } from "../net/system/platform.ts";
import type { Command } from "./command.ts";
import { type CliIo, EXIT, UsageError, withoutSecrets } from "./io.ts";
import { commandLine, withCommandLines } from "./started_as.ts";

/** A failure, ready to print. */
export interface Failure {
  readonly exitCode: number;
  /** Why, in one line. */
  readonly message: string;
  /** What to do, if it is known. */
  readonly remedy?: string;
}

/**
 * Explains an error.
 *
 * @returns `undefined` for a fault of this program, which deserves its stack trace
 */
export function explainFailure(
  error: unknown,
  command: Command,
  io: Pick<CliIo, "startedAs">,
): Failure | undefined {
  const isPermission = isPermissionMissing(error);
  const exitCode = isPermission && error instanceof UsageError ? EXIT.failure : exitCodeOf(error);
  if (exitCode === undefined) return undefined;
  const remedy = isPermission
    ? permissionRemedy(command, io, messageOf(error))
    : error instanceof UsageError
    ? error.remedy
    : error instanceof NetworkError
    ? REMEDIES[error.reason]
    : undefined;
  return { exitCode, message: oneLine(messageOf(error)), remedy: remedy && oneLine(remedy) };
}

/** Prints a failure: as text, or as one JSON event. */
export function printFailure(
  { message, remedy }: Omit<Failure, "exitCode">,
  io: CliIo,
  { asJson }: { asJson: boolean },
): void {
  const [why, what] = [message, remedy].map((text) => text && withCommandLines(text, io));
  if (asJson) return io.err(JSON.stringify({ event: "error", message: why, remedy: what }));
  io.err(`punchline: ${why}`);
  if (what !== undefined) io.err(what);
}

/**
 * Which permissions to run a command with.
 *
 * @param command the command that has failed
 * @param message what it said, which may name a permission already
 * @returns `undefined` if the message is about an option that needs more than the command does
 */
function permissionRemedy(
  command: Command,
  io: Pick<CliIo, "startedAs">,
  message: string,
): string | undefined {
  const [, named] = /--allow-(read|write) is not granted/.exec(message) ?? [];
  if (named !== undefined && !command.permissions.some((each) => each === named)) return undefined;
  const missing = PERMISSIONS.filter((each) =>
    command.permissions.includes(each) && !isFullyGranted(each)
  );
  if (missing.length === 0) return undefined;
  if (io.startedAs?.kind === "deno") {
    return `Run it as ${commandLine(io, ...command.name.split(" "))}`;
  }
  const flags = missing.map((each) => `--allow-${each}`).join(" ");
  return message.includes("--allow-") ? undefined : `Run it with ${flags}`;
}

/** Whether a permission of Deno's is missing, here or in what caused the error. */
function isPermissionMissing(error: unknown): boolean {
  for (let each = error; each instanceof Error; each = each.cause) {
    if (each instanceof Deno.errors.NotCapable) return true;
    if ("reason" in each && each.reason === "not-permitted") return true;
  }
  return error instanceof Error && / is not granted/.test(error.message);
}

function exitCodeOf(error: unknown): number | undefined {
  if (error instanceof UsageError) return EXIT.usage;
  if (error instanceof DOMException && error.name === "TimeoutError") return EXIT.timeout;
  if (error instanceof NetworkError && error.reason === "unreachable") return EXIT.offlineOrBlocked;
  if (error instanceof NetworkError && error.reason === "not-allowed") return EXIT.peerNotFound;
  if (error instanceof UnreachableError && error.attempts.length === 0) {
    return EXIT.offlineOrBlocked;
  }
  const isExpected = error instanceof PunchlineError || error instanceof Deno.errors.NotCapable ||
    isSystemError(error);
  return isExpected ? EXIT.failure : undefined;
}

/** Whether the system reported it, such as a full disk. */
function isSystemError(error: unknown): boolean {
  return error instanceof Error && "code" in error && /^E[A-Z0-9]+$/.test(`${error.code}`);
}

/** Without secrets, and without line breaks: names of files and of others may have them. */
function oneLine(text: string): string {
  return withoutSecrets(text).replaceAll("\n", "\\n");
}

/** In the order in which they are named. */
const PERMISSIONS = ["net", "read", "write"] as const;

/** What to do about a socket that failed, where every command gives the same advice. */
const REMEDIES: Readonly<Partial<Record<NetworkError["reason"], string>>> = {
  "address-in-use": "Choose another port, or end the program that uses this one",
  "name-not-found": "Check the spelling of the name, and the connection to the internet",
};
