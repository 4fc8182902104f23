/**
 * How `send` and `recv` end when a transfer does not.
 *
 * @module
 */

import { FileError, printable, TransferError } from "../transfer/mod.ts";
import { type CliIo, EXIT } from "./io.ts";
import type { TransferReporter } from "./transfer_progress.ts";

/**
 * Prints why, and gives the exit code.
 *
 * @throws what is none of the transfer's own failures
 */
export function transferFailure(error: unknown, reporter: TransferReporter, io: CliIo): number {
  reporter[Symbol.dispose]();
  if (io.signal.aborted) return EXIT.interrupted;
  if (!(error instanceof TransferError || error instanceof FileError)) throw error;
  const message = printable(error.message);
  reporter.event({ event: "failed", reason: error.reason, message });
  io.err(`punchline: ${message}`);
  return EXIT.failure;
}
