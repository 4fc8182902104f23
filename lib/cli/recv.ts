/**
 * `recv`: receives the files that the peer behind a ticket sends.
 *
 * @module
 */

import type { PeerConnection } from "../peer/connection.ts";
import {
  type ExistingPolicy,
  type IncomingOffer,
  type NextConnection,
  receiveFiles,
  systemFiles,
  TransferError,
} from "../transfer/mod.ts";
import { readArguments } from "./arguments.ts";
import { readTicket } from "./connect.ts";
import { Consent } from "./consent.ts";
import { type CliIo, EXIT, UsageError } from "./io.ts";
import { openManualPrompt } from "./manual_signaling.ts";
import { ConnectionEvents, reportConnected, reportFailure } from "./peer_events.ts";
import {
  openPeer,
  openPeerInput,
  PEER_ARGUMENTS,
  PEER_USAGE,
  readConnectTimings,
  readPeerOptions,
} from "./peer_options.ts";
import { canAsk } from "./question.ts";
import { FILES_PROTOCOL } from "./send.ts";
import { TicketUrls } from "./ticket_urls.ts";
import { reportTransferFailure, TransferReporter } from "./transfer_progress.ts";

/** One line of help. */
export const RECV_USAGE =
  `recv TICKET|@FILE|- [--yes] [--merge] [--allow-hidden] [--to FOLDER] [--overwrite | --rename] [--timeout MS] ${PEER_USAGE}`;

/** Runs the command; returns its exit code. */
export async function recv(args: readonly string[], io: CliIo): Promise<number> {
  const given = readArguments(args, {
    ...PEER_ARGUMENTS,
    flags: [...PEER_ARGUMENTS.flags, "yes", "merge", "allow-hidden", "overwrite", "rename"],
    values: [...PEER_ARGUMENTS.values, "to", "timeout"],
    operands: { min: 0, max: 1, names: [] },
  });
  const { flags, values } = given;
  const input = openPeerInput(io);
  const ticket = await readTicket(given, input);
  const asJson = flags.has("json");
  const events = new ConnectionEvents(io, { asJson, isStdoutFree: true });
  const prompt = openManualPrompt(given, io, events, { ticket, stdin: input.stdin });
  const options = await readPeerOptions(given, input, prompt);
  const urls = new TicketUrls(input, events, options);
  // The question about the files follows: what is offered is known only once a server was used.
  await urls.ask(ticket, { asks: flags.has("yes") ? "always" : "if-needed" });
  await using peer = await openPeer({
    ...options,
    ...readConnectTimings(values),
    listen: false,
    allowUrl: urls.allow,
    protocol: FILES_PROTOCOL,
  });
  let last: PeerConnection | undefined;
  const isOver = () => last?.wasReset === true;
  const next: NextConnection = async ({ signal }) => {
    if (isOver()) {
      throw new TransferError("Cannot continue: the sender has ended the transfer", "failed");
    }
    last = await peer.connect(ticket, { signal });
    reportConnected(last, events);
    return last;
  };
  const folder = values.get("to") ?? ".";
  const target = await systemFiles.resolve(folder);
  const command: ReceiveCommand = {
    ...{ folder, existing: existingPolicy(flags), asJson, id: ticket, isOver },
    consent: new Consent(
      {
        yes: flags.has("yes"),
        merge: flags.has("merge"),
        allowHidden: flags.has("allow-hidden"),
      },
      input,
      () => ({ folder: target, sender: last?.remoteId }),
    ),
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
  /** What an interrupted transfer is found again by. */
  readonly id?: string;
  /** Whether the sender has ended the transfer, so that there is nothing to wait for. Default: it never has. */
  readonly isOver?: () => boolean;
  /** Decides about offers. */
  readonly consent: Consent;
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
  const { folder, existing, asJson, id, consent, isOver } = command;
  using reporter = new TransferReporter(io, { asJson });
  let isAccepted = false;
  try {
    const result = await receiveFiles(next, folder, {
      existing,
      id,
      signal: io.signal,
      onBreak: (error) => isOver?.() || reporter.onBreak(error),
      onProgress: reporter.onProgress,
      onFile: reporter.onFile,
      onRefused: reporter.onRefused,
      onOffer: async (offer, { signal }) => {
        reporter.emit(offerEvent(offer));
        const print = (line: string) => asJson && canAsk(io) ? io.err(line) : reporter.print(line);
        const decision = await consent.decide(offer, print, signal);
        isAccepted = decision.accept;
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
    const reason = error instanceof TransferError ? error.reason : undefined;
    if (reason === "exists") {
      reporter.print("Use --rename to keep both files, or --overwrite to replace yours");
    }
    const isInterrupted = io.signal.aborted || reason === "broken";
    if (isAccepted && isInterrupted) reporter.print("Run the same command again to resume");
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

function existingPolicy(flags: ReadonlySet<string>): ExistingPolicy {
  if (flags.has("overwrite") && flags.has("rename")) {
    throw new UsageError("--overwrite cannot be combined with --rename");
  }
  return flags.has("overwrite") ? "overwrite" : flags.has("rename") ? "rename" : "refuse";
}
