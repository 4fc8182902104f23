/**
 * `recv`: receives the files that the peer behind a ticket sends.
 *
 * @module
 */

import type { PeerConnection } from "../peer/connection.ts";
import { Peer } from "../peer/peer.ts";
import {
  type ExistingPolicy,
  type NextConnection,
  type OfferSummary,
  printable,
  receiveFiles as receiveOver,
  TransferError,
} from "../transfer/mod.ts";
import { readArguments } from "./arguments.ts";
import { readTicket } from "./connect.ts";
import { type CliIo, EXIT, UsageError } from "./io.ts";
import { openManualPrompt } from "./manual_signaling.ts";
import { ConnectionEvents, reportConnected, reportFailure, skipUrls } from "./peer_events.ts";
import { PEER_ARGUMENTS, PEER_USAGE, readConnectTimings, readPeerOptions } from "./peer_options.ts";
import { FILES_PROTOCOL } from "./send.ts";
import {
  formatBytes,
  formatFiles,
  reportTransferFailure,
  TransferReporter,
} from "./transfer_progress.ts";

/** One line of help. */
export const RECV_USAGE =
  `recv TICKET [--to FOLDER] [--overwrite | --rename] [--timeout MS] ${PEER_USAGE}`;

/** Runs the command; returns its exit code. */
export async function recv(args: readonly string[], io: CliIo): Promise<number> {
  const given = readArguments(args, {
    ...PEER_ARGUMENTS,
    flags: [...PEER_ARGUMENTS.flags, "overwrite", "rename"],
    values: [...PEER_ARGUMENTS.values, "to", "timeout"],
    operands: { min: 1, max: 1 },
  });
  const { flags, values, operands } = given;
  const ticket = readTicket(operands[0]!);
  const asJson = flags.has("json");
  const events = new ConnectionEvents(io, { asJson, isStdoutFree: true });
  const prompt = openManualPrompt(given, io, events, { ticket });
  const options = await readPeerOptions(given, io, prompt);
  await using peer = await Peer.open({
    ...options,
    ...readConnectTimings(values),
    listen: false,
    allowUrl: skipUrls(events),
    protocol: FILES_PROTOCOL,
  });
  let last: PeerConnection | undefined;
  const next: NextConnection = async ({ signal }) => {
    last = await peer.connect(ticket, { signal });
    reportConnected(last, events);
    return last;
  };
  try {
    const command = { folder: values.get("to") ?? ".", existing: existingPolicy(flags), asJson };
    const code = await receiveFiles(next, command, io);
    await last?.[Symbol.asyncDispose]();
    return io.signal.aborted ? EXIT.interrupted : code;
  } catch (error) {
    io.signal.throwIfAborted();
    const demandsDirect = options.strategies?.includes("relay") === false;
    return reportFailure(error, events, io, { demandsDirect });
  }
}

/** What to receive, and how. */
export interface ReceiveCommand {
  /** The folder to write to. */
  readonly folder: string;
  /** What to do if a different file of the same name exists. */
  readonly existing: ExistingPolicy;
  readonly asJson: boolean;
  /** Whether to accept an offer. Default: accept all. */
  readonly onOffer?: (offer: OfferSummary) => boolean | Promise<boolean>;
}

/**
 * Receives what the other end sends.
 *
 * @param next connects to the sender, again after each break
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
      existing,
      signal: io.signal,
      onBreak: reporter.onBreak,
      onProgress: reporter.onProgress,
      onFile: reporter.onFile,
      onOffer: (offer) => {
        const { files, bytes, manifest } = offer;
        reporter.emit({ event: "offer", files, bytes });
        const names = [...new Set(manifest.map(({ path }) => path.split("/")[0]!))];
        reporter.print(
          `Receiving ${formatFiles(files)}, ${formatBytes(bytes)}: ${listNames(names)}`,
        );
        return onOffer(offer);
      },
    });
    reporter.finished("Received", result);
    return EXIT.ok;
  } catch (error) {
    const code = reportTransferFailure(error, reporter, io);
    if (error instanceof TransferError && error.reason === "exists") {
      reporter.print("Use --rename to keep both files, or --overwrite to replace yours");
    }
    return code;
  }
}

function existingPolicy(flags: ReadonlySet<string>): ExistingPolicy {
  if (flags.has("overwrite") && flags.has("rename")) {
    throw new UsageError("--overwrite cannot be combined with --rename");
  }
  return flags.has("overwrite") ? "overwrite" : flags.has("rename") ? "rename" : "refuse";
}

function listNames(names: readonly string[]): string {
  const shown = names.slice(0, SHOWN_NAMES).map(printable).join(", ");
  return names.length > SHOWN_NAMES ? `${shown} and ${names.length - SHOWN_NAMES} more` : shown;
}

/** Chosen by us: about what fits on a line. */
const SHOWN_NAMES = 5;
