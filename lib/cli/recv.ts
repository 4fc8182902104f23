/**
 * `recv`: receives the files that the peer behind a ticket sends.
 *
 * @module
 */

import type { PeerConnection } from "../peer/connection.ts";
import { PEER_TIMINGS } from "../peer/options.ts";
import {
  type ExistingPolicy,
  type IncomingOffer,
  type NextConnection,
  receiveFiles,
  systemFiles,
  TransferError,
} from "../transfer/mod.ts";
import { readArguments } from "./arguments.ts";
import { LOOKING, readTicket } from "./connect.ts";
import { Consent } from "./consent.ts";
import { type CliIo, EXIT, UsageError } from "./io.ts";
import { openManualPrompt } from "./manual_signaling.ts";
import {
  ConnectionEvents,
  reportConnected,
  reportFailure,
  routeInWords,
  skipUrls,
} from "./peer_events.ts";
import {
  openPeer,
  openPeerInput,
  PEER_ARGUMENTS,
  PEER_USAGE,
  readConnectTimings,
  readPeerOptions,
} from "./peer_options.ts";
import { canAsk } from "./question.ts";
import { waitFor, waitOver } from "./screen.ts";
import { FILES_PROTOCOL } from "./send.ts";
import { reportTransferFailure, TransferReporter } from "./transfer_progress.ts";

/** One line of help. */
export const RECV_USAGE =
  `recv TICKET|@FILE|- [--yes] [--merge] [--allow-hidden] [--to FOLDER] [--overwrite | --rename] [--timeout MS] ${PEER_USAGE} [--qr]`;

/** Runs the command; returns its exit code. */
export async function recv(args: readonly string[], io: CliIo): Promise<number> {
  const given = readArguments(args, {
    ...PEER_ARGUMENTS,
    flags: [...PEER_ARGUMENTS.flags, "yes", "merge", "allow-hidden", "overwrite", "rename", "qr"],
    values: [...PEER_ARGUMENTS.values, "to", "timeout"],
    operands: { min: 0, max: 1 },
  });
  const { flags, values } = given;
  const input = openPeerInput(io);
  const ticket = await readTicket(given, input);
  const asJson = flags.has("json");
  const events = new ConnectionEvents(io, { asJson, isStdoutFree: true });
  const prompt = openManualPrompt(given, io, events, { ticket, stdin: input.stdin });
  const options = await readPeerOptions(given, input, prompt);
  const timings = readConnectTimings(values);
  await using peer = await openPeer({
    ...options,
    onProgress: events.onProgress,
    ...timings,
    listen: false,
    allowUrl: skipUrls(events),
    protocol: FILES_PROTOCOL,
  });
  let last: PeerConnection | undefined;
  const next: NextConnection = async ({ signal }) => {
    if (last?.wasReset) {
      throw new TransferError("Cannot continue: the sender has ended the transfer", "failed");
    }
    events.waitFor(LOOKING, timings.timings?.answerMs ?? PEER_TIMINGS.answerMs);
    last = await peer.connect(ticket, { signal });
    reportConnected(last, events);
    waitFor(io, "Waiting for the sender's offer");
    return last;
  };
  const folder = values.get("to") ?? ".";
  const target = await systemFiles.resolve(folder);
  const command: ReceiveCommand = {
    ...{ folder, existing: existingPolicy(flags), asJson, id: ticket },
    route: () => last && routeInWords(last.path),
    consent: new Consent(
      {
        yes: flags.has("yes"),
        merge: flags.has("merge"),
        allowHidden: flags.has("allow-hidden"),
      },
      input,
      () => ({ folder: target, sender: last?.remoteId }),
    ),
    senderGone: () => endOf(last!),
  };
  try {
    const code = await runReceive(next, command, io);
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
  /** How the sender is connected, for people. */
  readonly route?: () => string | undefined;
  /** What an interrupted transfer is found again by. */
  readonly id?: string;
  /** Decides about offers. */
  readonly consent: Consent;
  /** Ends a question about an offer, because the sender has gone. Default: never. */
  readonly senderGone?: () => AbortSignal;
}

/**
 * Receives what the other end sends.
 *
 * @param next connects to the sender, again after each break
 * @returns the exit code
 */
export async function runReceive(
  next: NextConnection,
  command: ReceiveCommand,
  io: CliIo,
): Promise<number> {
  const { folder, existing, asJson, id, consent, senderGone, route } = command;
  using reporter = new TransferReporter(io, { asJson, route });
  try {
    const result = await receiveFiles(next, folder, {
      existing,
      id,
      signal: io.signal,
      onBreak: reporter.onBreak,
      onProgress: reporter.onProgress,
      onFile: reporter.onFile,
      onRefused: reporter.onRefused,
      onOffer: async (offer) => {
        reporter.emit(offerEvent(offer));
        waitOver(io);
        const ends = [io.signal, ...senderGone === undefined ? [] : [senderGone()]];
        const decision = await consent.decide(
          offer,
          (line) => asJson && canAsk(io) ? io.err(line) : reporter.print(line),
          AbortSignal.any(ends),
        );
        waitFor(io, "Waiting for the first bytes");
        return decision;
      },
    });
    return reporter.finished("Received", result);
  } catch (error) {
    const isDeclined = error instanceof TransferError && error.reason === "declined";
    if (isDeclined && consent.refusal !== undefined) {
      return reportTransferFailure(new TransferError(consent.refusal, "declined"), reporter, io);
    }
    const code = reportTransferFailure(error, reporter, io);
    if (error instanceof TransferError && error.reason === "exists") {
      reporter.print("Use --rename to keep both files, or --overwrite to replace yours");
    }
    return code;
  }
}

function offerEvent(offer: IncomingOffer): Readonly<Record<string, unknown>> {
  const { files, links, bytes, hidden, executables, existingFolders } = offer;
  return {
    ...{ event: "offer", files, bytes, links },
    ...{ hidden: hidden.length, executables: executables.length, existingFolders },
  };
}

/** Aborted when the connection ends before it is finished. */
function endOf(connection: PeerConnection): AbortSignal {
  const ended = new AbortController(); // a promise is to abort it
  connection.finished.catch((error) => ended.abort(error));
  return ended.signal;
}

function existingPolicy(flags: ReadonlySet<string>): ExistingPolicy {
  if (flags.has("overwrite") && flags.has("rename")) {
    throw new UsageError("--overwrite cannot be combined with --rename");
  }
  return flags.has("overwrite") ? "overwrite" : flags.has("rename") ? "rename" : "refuse";
}
