/**
 * `send`: files and folders to whoever comes with the ticket.
 *
 * @module
 */

import { Deadline } from "../base/timers.ts";
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
  acceptOrTell,
  type Callers,
  firstThrough,
  refuseOthers,
} from "./accept_first.ts";
import { readArguments } from "./arguments.ts";
import { type CliIo, EXIT } from "./io.ts";
import { openManualPrompt } from "./manual_signaling.ts";
import { ConnectionEvents, showTicket, tellConnected } from "./peer_events.ts";
import { PEER_ARGUMENTS, PEER_USAGE, readPeerOptions, readPublicKey } from "./peer_options.ts";
import {
  formatBytes,
  formatFiles,
  transferFailure,
  TransferReporter,
} from "./transfer_progress.ts";
import { abortable } from "@std/async/abortable";
import { delay } from "@std/async/delay";

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

/** One line of help. */
export const SEND_USAGE = `send FILE... ${PEER_USAGE} [--allow KEY]... [--qr]`;

/** Runs the command; its exit code. */
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
        ...allow.length > 0 && { allow },
      }),
    );
    await showTicket(peer, events, io, { command: "recv", asQr: flags.has("qr") && !asJson });
    return new Receivers(peer, events);
  };
  let receivers: Receivers | undefined;
  const next: NextConnection = async (options) => { // called once the files are known to be there
    receivers ??= await open();
    return await receivers.next(options);
  };
  const code = await sendFiles(next, { sources: operands, asJson }, io);
  await receivers?.finish();
  return io.signal.aborted ? EXIT.interrupted : code;
}

/** What both commands speak. */
export const FILES_PROTOCOL = "punchline-files/1";

/** Those who come with the ticket: who gets through first is the one, and others are refused while there is one. */
class Receivers {
  readonly #peer: Peer;
  readonly #events: ConnectionEvents;
  /** Settled while there is no receiver. */
  #vacant = Promise.withResolvers<void>();
  #isVacant = false;
  /** Who has come after the first one, and may be the receiver. */
  readonly #again = new WaitQueue<IncomingConnection>(MAX_AGAIN);
  readonly #over = new AbortController();
  #refusing: Promise<void> | undefined;
  #last: PeerConnection | undefined;

  constructor(peer: Peer, events: ConnectionEvents) {
    this.#peer = peer;
    this.#events = events;
  }

  /**
   * Waits for the receiver. After a break that may be another program than before: one that was interrupted has another
   * key when it is run again, and what it has received already is found in its folder. It may be there before the break
   * has come to light.
   */
  async next({ signal }: { signal: AbortSignal }): Promise<PeerConnection> {
    this.#isVacant = true;
    this.#vacant.resolve();
    const callers: Callers = this.#last === undefined
      ? this.#peer
      : { nextIncoming: (options) => this.#again.next(options?.signal) };
    const tell = ({ message }: Error) => this.#events.say(message); // they may try again
    const accept: Accept = (incoming, tooLate) =>
      acceptOrTell(incoming, tell, { signal: AbortSignal.any([signal, tooLate]) });
    const connection = await firstThrough(callers, accept, { signal });
    this.#isVacant = false;
    this.#vacant = Promise.withResolvers();
    this.#last = connection;
    tellConnected(connection, this.#events);
    this.#refusing ??= refuseOthers(this.#peer, {
      signal: this.#over.signal,
      keep: async (incoming) => await this.#mayComeIn(incoming) && this.#again.push(incoming),
    });
    return connection;
  }

  async #mayComeIn({ remoteId }: IncomingConnection): Promise<boolean> {
    if (remoteId === this.#last?.remoteId) return true;
    using deadline = new Deadline(HOLD_MS, this.#over.signal);
    await abortable(this.#vacant.promise, deadline.signal).catch(() => {});
    return this.#isVacant;
  }

  /** Until the other side has all, and those who would have come after it know. */
  async finish(): Promise<void> {
    await this.#last?.[Symbol.asyncDispose]();
    this.#over.abort();
    await this.#refusing;
    await delay(0); // a refusal goes out in the next turn
  }
}

/** Ours: who comes back more often than it is waited for is refused. */
const MAX_AGAIN = 4;

/** Ours: a receiver that went without a word is missed by then. */
const HOLD_MS = 10_000;
