/**
 * `recv`: the files that somebody sends whose ticket this is.
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
import { ConnectionEvents, tellConnected, tellFailure } from "./peer_events.ts";
import { PEER_ARGUMENTS, PEER_USAGE, readConnectTimings, readPeerOptions } from "./peer_options.ts";
import { FILES_PROTOCOL } from "./send.ts";
import {
  formatBytes,
  formatFiles,
  transferFailure,
  TransferReporter,
} from "./transfer_progress.ts";

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

/** One line of help. */
export const RECV_USAGE =
  `recv TICKET [--to FOLDER] [--overwrite | --rename] [--timeout MS] ${PEER_USAGE}`;

/** Runs the command; its exit code. */
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
  const desk = openManualPrompt(given, io, events, { ticket });
  const options = await readPeerOptions(given, io, desk);
  await using peer = await Peer.open({
    ...options,
    ...readConnectTimings(values),
    listen: false,
    protocol: FILES_PROTOCOL,
  });
  let last: PeerConnection | undefined;
  const next: NextConnection = async ({ signal }) => {
    last = await peer.connect(ticket, { signal });
    tellConnected(last, events);
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
    return tellFailure(error, events, io, { demandsDirect });
  }
}

function existingPolicy(flags: ReadonlySet<string>): ExistingPolicy {
  if (flags.has("overwrite") && flags.has("rename")) {
    throw new UsageError("--overwrite and --rename exclude each other");
  }
  return flags.has("overwrite") ? "overwrite" : flags.has("rename") ? "rename" : "refuse";
}
