/**
 * `send`: a ticket, and files and folders for the peer that uses it.
 *
 * @module
 */

import { messageOf } from "../base/errors.ts";
import type { PeerConnection } from "../peer/connection.ts";
import { looksLikeCode } from "../peer/ticket.ts";
import {
  type NextConnection,
  printable,
  sendFiles,
  type SendFilesOptions,
  type SkippedFile,
  systemFiles,
  TransferError,
} from "../transfer/mod.ts";
import { turnAway } from "../transfer/offer_race.ts";
import { acceptOrReport } from "./accept_first.ts";
import { readCommand } from "./arguments.ts";
import { withConfig } from "./config.ts";
import { ConnectionSlot } from "./connection_slot.ts";
import { type CliIo, EXIT, UsageError } from "./io.ts";
import { openManualPrompt } from "./manual_signaling.ts";
import { NetworkWatch } from "./network_watch.ts";
import { ConnectionEvents, reportConnected, routeInWords, showTicket } from "./peer_events.ts";
import {
  openPeer,
  openPeerInput,
  readPeerOptions,
  readPublicKey,
  rulesOutDirect,
} from "./peer_options.ts";
import { readCodeExpiry, ShownCode } from "./shown_code.ts";
import { waitFor } from "./screen.ts";
import { noteTransfer, readTickets } from "./ticket.ts";
import {
  formatBytes,
  formatFiles,
  reportTransferFailure,
  TransferReporter,
} from "./transfer_progress.ts";

/** The protocol that `send` and `recv` agree on. */
export const FILES_PROTOCOL = "punchline-files/1";

/** Runs the command; returns its exit code. */
export async function send(args: readonly string[], io: CliIo): Promise<number> {
  const given = await withConfig(readCommand("send", args));
  const { flags, values, lists, operands } = given;
  readCodeExpiry(values);
  const asJson = flags.has("json");
  const allow = lists.get("allow")!.map((text) => readPublicKey("allow", text));
  const events = new ConnectionEvents(io, {
    asJson,
    isStdoutFree: true,
    isRelayOnly: rulesOutDirect(given),
  });
  await rejectCodes(operands);
  const input = openPeerInput(io);
  const prompt = openManualPrompt(given, io, events, { stdin: input.stdin });
  const options = await readPeerOptions(given, input, prompt);
  const tickets = await readTickets(given, options, "transfer", io);
  await using opened = new AsyncDisposableStack();
  let code: ShownCode | undefined;
  const report = ({ message }: Error) => events.print(message); // the peer may try again
  const open = async (): Promise<ConnectionSlot> => {
    events.waitFor("Opening ways to meet");
    const watch = opened.use(
      new NetworkWatch(events, options.signaling, {
        servers: options.relayOnly ? [] : options.servers,
      }),
    );
    const opening = {
      ...options,
      onProgress: watch.onProgress,
      tickets,
      protocol: FILES_PROTOCOL,
      allow: allow.length > 0 ? allow : undefined,
    };
    const peer = opened.use(await watch.explaining(() => openPeer(opening)));
    await showTicket(peer, events, io, { command: "recv", asQr: flags.has("qr") && !asJson });
    prompt?.askForMessage();
    const { signaling } = options;
    code = ShownCode.start(given, { peer, events, io, command: "recv", signaling });
    if (code !== undefined) opened.use(code);
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
    events.waitFor("Waiting for the receiver");
    const connecting = slot.next(options);
    const connection = last = await (prompt?.unlessOver(connecting) ?? connecting);
    code?.hush();
    reportConnected(connection, events);
    waitFor(io, "Waiting for the receiver's answer");
    return connection;
  };
  // While a receiver decides, others may come and decide faster.
  const others: SendFilesOptions["others"] = {
    next: async (options) => {
      const connection = await slot!.another(options);
      reportConnected(connection, events);
      waitFor(io, "Waiting for the receivers' answers");
      return connection;
    },
    chosen: (connection) => slot!.hold(last = connection as PeerConnection),
    left: (error) => events.print(`A receiver has left: ${messageOf(error)}`),
  };
  const route = () => last && routeInWords(last.path);
  const exitCode = await runSend(next, { sources: operands, asJson, others, route }, io);
  if (exitCode === EXIT.ok) await noteTransfer(tickets, last, io);
  await slot?.close();
  return io.signal.aborted ? EXIT.interrupted : exitCode;
}

/** Refuses a code or a ticket, which is for `recv`, unless a file has that name. */
async function rejectCodes(sources: readonly string[]): Promise<void> {
  for (const source of sources) {
    const what = looksLikeCode(source) ? "code" : /^punchline:/i.test(source) ? "ticket" : "";
    if (what === "" || await systemFiles.stat(source) !== undefined) continue;
    throw new UsageError(`a ${what} is not a file`, {
      remedy: "`punchline recv` receives what it offers",
    });
  }
}

/** What to send. */
export interface SendCommand {
  /** Files and folders. */
  readonly sources: readonly string[];
  readonly asJson: boolean;
  /** Further receivers, that may look at the offer until one accepts. Default: none. */
  readonly others?: SendFilesOptions["others"];
  /** How the receiver is connected, for people. */
  readonly route?: () => string | undefined;
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
  const { sources, asJson, others, route } = command;
  using reporter = new TransferReporter(io, { asJson, route });
  waitFor(io, "Looking at the files");
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
        reporter.print(
          `Offering ${formatFiles(files)}, ${formatBytes(bytes)}: ${namesOf(sources)}`,
        );
      },
    });
    return reporter.finished("Sent", result);
  } catch (error) {
    const isDeclined = error instanceof TransferError && error.reason === "declined";
    const told = isDeclined
      ? new TransferError("The receiver declined, so nothing was sent", "declined")
      : error;
    return reportTransferFailure(told, reporter, io);
  }
}

/** What is sent, as the command line names it. */
function namesOf(sources: readonly string[]): string {
  const names = sources.map((path) => printable(path.replace(/\/+$/, "").replace(/^.*\//, "")));
  const shown = names.slice(0, SHOWN_NAMES).map((name) => name === "" ? "/" : name).join(", ");
  return names.length > SHOWN_NAMES ? `${shown} and ${names.length - SHOWN_NAMES} more` : shown;
}

function skippedLine({ path, kind }: SkippedFile): string {
  return `Skipping ${printable(path)}: it is ${SKIPPED[kind]}`;
}

/** Chosen by us: about what fits on a line. */
const SHOWN_NAMES = 3;

const SKIPPED: Readonly<Record<SkippedFile["kind"], string>> = {
  link: "a symbolic link that leads out of what is sent",
  other: "neither a file nor a folder",
  missing: "no longer there, or its name is not UTF-8",
  unreadable: "not readable",
};
