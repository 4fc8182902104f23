/**
 * `send`: a ticket, and files and folders for the peer that uses it.
 *
 * @module
 */

import { TaskGroup } from "../base/tasks.ts";
import { idleDelay } from "../base/timers.ts";
import { WaitQueue } from "../base/wait_queue.ts";
import type { PeerConnection } from "../peer/connection.ts";
import type { IncomingConnection } from "../peer/incoming.ts";
import { Peer } from "../peer/peer.ts";
import {
  type NextConnection,
  printable,
  sendFiles as sendOver,
  type SkippedFile,
} from "../transfer/mod.ts";
import {
  type Accept,
  acceptFirst,
  acceptOrReport,
  type IncomingSource,
  refuseOthers,
} from "./accept_first.ts";
import { readArguments } from "./arguments.ts";
import { type CliIo, EXIT, printError } from "./io.ts";
import { openManualPrompt } from "./manual_signaling.ts";
import { ConnectionEvents, reportConnected, showTicket } from "./peer_events.ts";
import { PEER_ARGUMENTS, PEER_USAGE, readPeerOptions, readPublicKey } from "./peer_options.ts";
import {
  formatBytes,
  formatFiles,
  reportTransferFailure,
  TransferReporter,
} from "./transfer_progress.ts";
import { delay } from "@std/async/delay";

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
    operands: { min: 1, max: Infinity },
  });
  const { flags, lists, operands } = given;
  const asJson = flags.has("json");
  const allow = lists.get("allow")!.map((text) => readPublicKey("allow", text));
  const events = new ConnectionEvents(io, { asJson, isStdoutFree: true });
  const options = await readPeerOptions(given, io, openManualPrompt(given, io, events));
  await using opened = new AsyncDisposableStack();
  const open = async (): Promise<Receivers> => {
    const peer = opened.use(
      await Peer.open({
        ...options,
        protocol: FILES_PROTOCOL,
        allow: allow.length > 0 ? allow : undefined,
      }),
    );
    await showTicket(peer, events, io, { command: "recv", asQr: flags.has("qr") && !asJson });
    return new Receivers(peer, events, io);
  };
  let receivers: Receivers | undefined;
  const next: NextConnection = async (options) => { // first called when the files have been found
    receivers ??= await open();
    return await receivers.next(options);
  };
  const code = await sendFiles(next, { sources: operands, asJson }, io);
  await receivers?.finish();
  return io.signal.aborted ? EXIT.interrupted : code;
}

/** What to send. */
export interface SendCommand {
  /** Files and folders. */
  readonly sources: readonly string[];
  readonly asJson: boolean;
}

/**
 * Sends the files to the other end.
 *
 * @param next waits for the receiver, again after each break
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
      signal: io.signal,
      onProgress: reporter.onProgress,
      onFile: reporter.onFile,
      onBreak: reporter.onBreak,
      onOffer: ({ files, bytes }, skipped) => {
        reporter.emit({ event: "offer", files, bytes, skipped });
        for (const each of skipped) reporter.print(skippedLine(each));
        reporter.print(`Offering ${formatFiles(files)}, ${formatBytes(bytes)}`);
      },
    });
    reporter.finished("Sent", result);
    return EXIT.ok;
  } catch (error) {
    return reportTransferFailure(error, reporter, io);
  }
}

/** The peers that use the ticket: the first to get through is the receiver, and the others are refused meanwhile. */
class Receivers {
  readonly #peer: Peer;
  readonly #events: ConnectionEvents;
  /** Resolved while there is no receiver. */
  #vacant = Promise.withResolvers<void>();
  #isVacant = false;
  /** Peers that came after the first one, and may become the receiver. */
  readonly #returning = new WaitQueue<IncomingConnection>(MAX_RETURNING);
  /** Refuses the others, once there is a receiver. */
  readonly #others: TaskGroup;
  #last: PeerConnection | undefined;

  constructor(peer: Peer, events: ConnectionEvents, io: CliIo) {
    this.#peer = peer;
    this.#events = events;
    this.#others = new TaskGroup((error) => printError(error, io));
  }

  /**
   * Waits for the receiver. After a break it may be another program than before: if it was interrupted and run again it
   * has a new key, and finds in its folder what it has received already. It may be back before the break is noticed.
   */
  async next({ signal }: { signal: AbortSignal }): Promise<PeerConnection> {
    this.#isVacant = true;
    this.#vacant.resolve();
    const isFirst = this.#last === undefined;
    const source: IncomingSource = isFirst
      ? this.#peer
      : { nextIncoming: (options) => this.#returning.next(options?.signal) };
    const report = ({ message }: Error) => this.#events.print(message); // the peer may try again
    const accept: Accept = (incoming, tooLate) =>
      acceptOrReport(incoming, report, { signal: AbortSignal.any([signal, tooLate]) });
    const connection = await acceptFirst(source, accept, { signal });
    this.#isVacant = false;
    this.#vacant = Promise.withResolvers();
    this.#last = connection;
    reportConnected(connection, this.#events);
    if (isFirst) this.#others.run((signal) => this.#refuseOthers(signal));
    return connection;
  }

  /** Waits until the receiver has everything, and the others have been refused. */
  async finish(): Promise<void> {
    await this.#last?.[Symbol.asyncDispose]();
    await this.#others.stop();
    await delay(0); // a refusal is sent in the next turn of the event loop
  }

  #refuseOthers(signal: AbortSignal): Promise<void> {
    return refuseOthers(this.#peer, {
      signal,
      keep: async (incoming) =>
        await this.#mayReplace(incoming, signal) && this.#returning.push(incoming),
    });
  }

  async #mayReplace({ remoteId }: IncomingConnection, signal: AbortSignal): Promise<boolean> {
    if (remoteId === this.#last?.remoteId) return true;
    await Promise.race([this.#vacant.promise, idleDelay(HOLD_MS, signal)]);
    return this.#isVacant;
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

/** Chosen by us: a peer that comes back more often than it is waited for is refused. */
const MAX_RETURNING = 4;

/** Chosen by us: by then it has shown that a receiver has gone without closing its connection. */
const HOLD_MS = 10_000;
