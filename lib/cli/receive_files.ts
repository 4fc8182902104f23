/**
 * `recv`, from its arguments and a source of connections on.
 *
 * @module
 */

import {
  type ExistingPolicy,
  type NextConnection,
  type OfferSummary,
  printable,
  receiveFiles as receiveOver,
  TransferError,
} from "../transfer/mod.ts";
import { type CliIo, EXIT } from "./io.ts";
import { transferFailure } from "./transfer_failure.ts";
import { TransferReporter } from "./transfer_progress.ts";
import { formatBytes, formatFiles } from "./transfer_text.ts";

/** What was asked for. */
export interface ReceiveCommand {
  /** To receive into. */
  readonly folder: string;
  /** What to do with another file of the same name. */
  readonly existing: ExistingPolicy;
  readonly asJson: boolean;
  /** Whether to accept an offer; without it, all are. */
  readonly onOffer?: (offer: OfferSummary) => boolean | Promise<boolean>;
}

/**
 * Receives what the other end sends.
 *
 * @param next dials the sender, again after a break
 * @returns the exit code
 */
export async function receiveFiles(
  next: NextConnection,
  command: ReceiveCommand,
  io: CliIo,
): Promise<number> {
  const { folder, existing, asJson, onOffer = () => true } = command;
  using reporter = new TransferReporter(io, { asJson });
  try {
    const result = await receiveOver(next, folder, {
      ...{ existing, signal: io.signal, onBreak: reporter.onBreak },
      ...{ onProgress: reporter.onProgress, onFile: reporter.onFile },
      onOffer: (offer) => {
        const { files, bytes, manifest } = offer;
        reporter.event({ event: "offer", files, bytes });
        const names = [...new Set(manifest.map(({ path }) => path.split("/")[0]!))];
        reporter.say(
          `Receiving ${formatFiles(files)}, ${formatBytes(bytes)}: ${listNames(names)}`,
        );
        return onOffer(offer);
      },
    });
    reporter.finished("Received", result);
    return EXIT.ok;
  } catch (error) {
    const code = transferFailure(error, reporter, io);
    if (error instanceof TransferError && error.reason === "exists") {
      reporter.say("--rename keeps both, --overwrite the new one");
    }
    return code;
  }
}

function listNames(names: readonly string[]): string {
  const shown = names.slice(0, SHOWN_NAMES).map(printable).join(", ");
  return names.length > SHOWN_NAMES ? `${shown} and ${names.length - SHOWN_NAMES} more` : shown;
}

/** Ours. */
const SHOWN_NAMES = 5;
