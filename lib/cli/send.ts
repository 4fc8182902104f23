/**
 * `send`: a ticket, and files and folders for the peer that uses it.
 *
 * @module
 */

import { messageOf } from "../base/errors.ts";
import type { PeerConnection } from "../peer/connection.ts";
import {
  type NextConnection,
  printable,
  sendFiles,
  type SendFilesOptions,
  type SkippedFile,
} from "../transfer/mod.ts";
import { turnAway } from "../transfer/offer_race.ts";
import { acceptOrReport } from "./accept_first.ts";
import { readArguments } from "./arguments.ts";
import { ConnectionSlot } from "./connection_slot.ts";
import { type CliIo, EXIT } from "./io.ts";
import { openManualPrompt } from "./manual_signaling.ts";
import { ConnectionEvents, reportConnected, showTicket } from "./peer_events.ts";
import {
  openPeer,
  openPeerInput,
  PEER_ARGUMENTS,
  PEER_USAGE,
  readPeerOptions,
  readPublicKey,
} from "./peer_options.ts";
import { noteTransfer, readTickets } from "./ticket.ts";
import {
  formatBytes,
  formatFiles,
  reportTransferFailure,
  TransferReporter,
} from "./transfer_progress.ts";

/** One line of help. */
export const SEND_USAGE = `send FILE... ${PEER_USAGE} [--allow KEY]... [--qr]`;

/** The protocol that `send` and `recv` agree on. */
export const FILES_PROTOCOL = "punchline-files/1";

/** Runs the command; returns its exit code. */
export async function send(args: readonly string[], io: CliIo): Promise<number> {
  const given = readArguments(args, {
    ...PEER_ARGUMENTS,
    flags: [...PEER_ARGUMENTS.flags, "qr"],
    lists: [...PEER_ARGUMENTS.lists, "allow"],
    operands: { min: 1, max: Infinity, names: ["a file or folder to send"] },
  });
  const { flags, lists, operands } = given;
  const asJson = flags.has("json");
  const allow = lists.get("allow")!.map((text) => readPublicKey("allow", text));
  const events = new ConnectionEvents(io, { asJson, isStdoutFree: true });
  const input = openPeerInput(io);
  const prompt = openManualPrompt(given, io, events, { stdin: input.stdin });
  const options = await readPeerOptions(given, input, prompt);
  const tickets = await readTickets(given, options, "transfer");
  await using opened = new AsyncDisposableStack();
  const report = ({ message }: Error) => events.print(message); // the peer may try again
  const open = async (): Promise<ConnectionSlot> => {
    const peer = opened.use(
      await openPeer({
        ...options,
        tickets,
        protocol: FILES_PROTOCOL,
        allow: allow.length > 0 ? allow : undefined,
      }),
    );
    await showTicket(peer, events, io, { command: "recv", asQr: flags.has("qr") && !asJson });
    return new ConnectionSlot(
      peer,
      (incoming, signal) => acceptOrReport(incoming, report, { signal }),
      io,
      turnAway,
    );
  };
  let slot: ConnectionSlot | undefined;
  let last: PeerConnection | undefined;
  // After a break the receiver may be another program than before: if it was ended and run again it has a new key, and
  // finds in its folder what it has received already.
  const next: NextConnection = async (options) => { // first called when the files have been found
    slot ??= await open();
    const connection = last = await slot.next(options);
    reportConnected(connection, events);
    return connection;
  };
  // While a receiver decides, others may come and decide faster.
  const others: SendFilesOptions["others"] = {
    next: async (options) => {
      const connection = await slot!.another(options);
      reportConnected(connection, events);
      return connection;
    },
    chosen: (connection) => slot!.hold(last = connection as PeerConnection),
    left: (error) => events.print(`A receiver has left: ${messageOf(error)}`),
  };
  const code = await runSend(next, { sources: operands, asJson, others }, io);
  if (code === EXIT.ok) await noteTransfer(tickets, last);
  await slot?.close();
  return io.signal.aborted ? EXIT.interrupted : code;
}

/** What to send. */
export interface SendCommand {
  /** Files and folders. */
  readonly sources: readonly string[];
  readonly asJson: boolean;
  /** Further receivers, that may look at the offer until one accepts. Default: none. */
  readonly others?: SendFilesOptions["others"];
}

/**
 * Sends the files to the other end.
 *
 * @param next waits for the receiver, again after each break
 * @returns the exit code
 */
export async function runSend(
  next: NextConnection,
  command: SendCommand,
  io: CliIo,
): Promise<number> {
  const { sources, asJson, others } = command;
  using reporter = new TransferReporter(io, { asJson });
  try {
    const result = await sendFiles(next, sources, {
      others,
      signal: io.signal,
      onProgress: reporter.onProgress,
      onFile: reporter.onFile,
      onRefused: reporter.onRefused,
      onBreak: reporter.onBreak,
      onOffer: ({ files, bytes }, skipped) => {
        reporter.emit({ event: "offer", files, bytes, skipped });
        for (const each of skipped) reporter.print(skippedLine(each));
        reporter.print(`Offering ${formatFiles(files)}, ${formatBytes(bytes)}`);
      },
    });
    return reporter.finished("Sent", result);
  } catch (error) {
    return reportTransferFailure(error, reporter, io);
  }
}

function skippedLine({ path, kind }: SkippedFile): string {
  return `Skipping ${printable(path)}: it is ${SKIPPED[kind]}`;
}

const SKIPPED: Readonly<Record<SkippedFile["kind"], string>> = {
  link: "a symbolic link that leads out of what is sent",
  other: "neither a file nor a folder",
  missing: "no longer there, or its name is not UTF-8",
  unreadable: "not readable",
};
