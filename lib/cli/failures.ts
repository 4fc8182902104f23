/**
 * What a failed command tells: why in one line, what to do in a second one where that is known, and the exit code.
 *
 * @module
 */

import { messageOf, NetworkError, PunchlineError, UnreachableError } from "../base/errors.ts";
import { isFullyGranted } from "../net/system/platform.ts";
import type { Command } from "./command.ts";
import { type CliIo, EXIT, type Failure, failureOf, UsageError } from "./io.ts";
import { copyable } from "./layout.ts";
import { commandLine } from "./started_as.ts";

/**
 * Explains an error.
 *
 * @returns `undefined` for a fault of this program, which deserves its stack trace
 */
export function explainFailure(
  error: unknown,
  command: Command,
  io: Pick<CliIo, "startedAs">,
): Failure & { readonly exitCode: number } | undefined {
  const isPermission = isPermissionMissing(error);
  const exitCode = isPermission && error instanceof UsageError ? EXIT.failure : exitCodeOf(error);
  if (exitCode === undefined) return undefined;
  const remedy = isPermission ? permissionRemedy(command, io, messageOf(error)) : undefined;
  return { exitCode, ...failureOf(error), ...remedy === undefined ? {} : { remedy } };
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
    return `Run it as ${copyable(commandLine(io, ...command.name.split(" ")))}`;
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

/** In the order in which they are named. */
const PERMISSIONS = ["net", "read", "write"] as const;
