/**
 * `send`, from its arguments and a source of connections on.
 *
 * @module
 */

import {
  type NextConnection,
  printable,
  sendFiles as sendOver,
  type SkippedFile,
} from "../transfer/mod.ts";
import { type CliIo, EXIT } from "./io.ts";
import { transferFailure } from "./transfer_failure.ts";
import { TransferReporter } from "./transfer_progress.ts";
import { formatBytes, formatFiles } from "./transfer_text.ts";

/** What was asked for. */
export interface SendCommand {
  /** Files and folders. */
  readonly sources: readonly string[];
  readonly asJson: boolean;
}

/**
 * Sends the files to whoever is at the other end.
 *
 * @param next waits for the receiver, again after a break
 * @returns the exit code
 */
export async function sendFiles(
  next: NextConnection,
  command: SendCommand,
  io: CliIo,
): Promise<number> {
  const { sources, asJson } = command;
  using reporter = new TransferReporter(io, { asJson });
  try {
    const result = await sendOver(next, sources, {
      ...{ signal: io.signal, onProgress: reporter.onProgress, onFile: reporter.onFile },
      onBreak: reporter.onBreak,
      onOffer: ({ files, bytes }, skipped) => {
        reporter.event({ event: "offer", files, bytes, skipped });
        for (const each of skipped) reporter.say(skippedLine(each));
        reporter.say(`Offering ${formatFiles(files)}, ${formatBytes(bytes)}`);
      },
    });
    reporter.finished("Sent", result);
    return EXIT.ok;
  } catch (error) {
    return transferFailure(error, reporter, io);
  }
}

function skippedLine({ path, kind }: SkippedFile): string {
  return `Skipping ${printable(path)}: it is ${SKIPPED[kind]}`;
}

const SKIPPED: Readonly<Record<SkippedFile["kind"], string>> = {
  link: "a symbolic link",
  other: "neither a file nor a folder",
  missing: "not there any more, or its name is not UTF-8",
};
