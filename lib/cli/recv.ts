/**
 * `recv`: receives the files that the peer behind a ticket sends.
 *
 * @module
 */

import { type PeerConnection, TICKET_GONE, TICKET_GONE_TEXT } from "../peer/connection.ts";
import { PEER_TIMINGS } from "../peer/options.ts";
import {
  type ExistingPolicy,
  type IncomingOffer,
  type KeptFile,
  type NextConnection,
  receiveFiles,
  systemFiles,
  TransferError,
} from "../transfer/mod.ts";
import { KeptTicket } from "../transfer/kept_ticket.ts";
import { readCommand } from "./arguments.ts";
import { withConfig } from "./config.ts";
import { LOOKING } from "./connect.ts";
import { Consent } from "./consent.ts";
import { type CliIo, EXIT, UsageError } from "./io.ts";
import { openManualPrompt } from "./manual_signaling.ts";
import { NetworkWatch } from "./network_watch.ts";
import {
  ConnectionEvents,
  isForOtherCommand,
  reportConnected,
  reportFailure,
  routeInWords,
} from "./peer_events.ts";
import {
  openPeer,
  openPeerInput,
  readConnectTimings,
  readPeerOptions,
  rulesOutDirect,
} from "./peer_options.ts";
import { canAsk } from "./question.ts";
import { waitFor, waitOver } from "./screen.ts";
import { FILES_PROTOCOL } from "./send.ts";
import { readTarget, type Target, ticketOf } from "./target.ts";
import { TicketUrls } from "./ticket_urls.ts";
import { reportTransferFailure, TransferReporter } from "./transfer_progress.ts";

/** Runs the command; returns its exit code. */
export async function recv(args: readonly string[], io: CliIo): Promise<number> {
  const given = await withConfig(readCommand("recv", args));
  const { flags, values } = given;
  const input = openPeerInput(io);
  const target = await readTarget(given, input);
  const asJson = flags.has("json");
  const events = new ConnectionEvents(io, {
    asJson,
    isStdoutFree: true,
    isRelayOnly: rulesOutDirect(given),
  });
  const prompt = openManualPrompt(given, io, events, {
    ticket: target.kind === "ticket" ? target.ticket : undefined,
    stdin: input.stdin,
  });
  const options = await readPeerOptions(given, input, prompt);
  const timings = readConnectTimings(values);
  const urls = new TicketUrls(input, events, options);
  // The question about the files follows: what is offered is known only once a server was used.
  const asks = flags.has("yes") ? "always" : "if-needed";
  if (target.kind === "ticket") {
    urls.agree(target.servers);
    await urls.ask(target.ticket, { asks });
  }
  await using watch = new NetworkWatch(events, options.signaling, {
    servers: options.relayOnly ? [] : options.servers,
  });
  await using peer = await openPeer({
    ...options,
    onProgress: watch.onProgress,
    ...timings,
    listen: false,
    allowUrl: urls.allow,
    network: urls.network,
    protocol: FILES_PROTOCOL,
  });
  const folder = values.get("to") ?? ".";
  const root = await systemFiles.resolve(folder);
  using found = await findTicket(target, root);
  let ticket = "";
  let last: PeerConnection | undefined;
  const isOver = () => last?.wasReset === true;
  const next: NextConnection = async ({ signal }) => {
    if (isOver()) {
      const isGone = last?.resetCode === TICKET_GONE;
      const why = isGone ? TICKET_GONE_TEXT : "the sender has ended the transfer";
      throw new TransferError(`Cannot continue: ${why}`, "failed", {
        remedy: "Ask the sender to send again",
      });
    }
    const { text, timeoutMs } = prompt?.waiting ??
      { text: LOOKING, timeoutMs: PEER_TIMINGS.answerMs };
    events.waitFor(text, timings.timings?.answerMs ?? timeoutMs);
    last = await watch.explaining(() => {
      const connecting = peer.connect(ticket, { signal });
      return prompt?.unlessOver(connecting) ?? connecting;
    });
    reportConnected(last, events);
    waitFor(io, "Waiting for the sender's offer");
    return last;
  };
  const existing = existingPolicy(flags);
  const consent = new Consent(
    {
      yes: flags.has("yes"),
      merge: flags.has("merge"),
      allowHidden: flags.has("allow-hidden"),
      existing,
    },
    input,
    () => ({ folder: root, sender: last?.remoteId }),
  );
  try {
    ticket = found.ticket ??
      await watch.explaining(() => ticketOf(target, peer, events, io));
    if (target.kind === "code") {
      await found.keep(ticket);
      await urls.ask(ticket, { asks });
    }
    const route = () => last && routeInWords(last.path);
    let hasKept = false;
    const onKept = () => hasKept = true;
    let hasFinished = false;
    const onFinished = () => hasFinished = true;
    const command = {
      ...{ folder, existing, asJson, id: ticket, isOver, route, consent, onKept, onFinished },
    };
    const code = await runReceive(next, command, io);
    const isDeclined = consent.refusal !== undefined;
    if (hasFinished || isDeclined || isOver() && !hasKept) await found.discard();
    await last?.[Symbol.asyncDispose]();
    return io.signal.aborted ? EXIT.interrupted : code;
  } catch (error) {
    io.signal.throwIfAborted();
    const demandsDirect = options.strategies?.includes("relay") === false;
    if (isForOtherCommand(error)) await found.discard(); // there is nothing to resume
    const isCode = target.kind === "code";
    return reportFailure(error, events, io, { demandsDirect, command: "recv", isCode });
  }
}

/** The ticket that an earlier run got for the same code, and a place for the one of this run. */
class FoundTicket implements Disposable {
  readonly #code: string | undefined;
  readonly #root: string;
  #kept: KeptTicket | undefined;

  constructor(code: string | undefined, root: string, kept: KeptTicket | undefined) {
    this.#code = code;
    this.#root = root;
    this.#kept = kept;
  }

  get ticket(): string | undefined {
    return this.#kept?.ticket;
  }

  /** Keeps it for a later run; without that, a crash makes the code useless. */
  async keep(ticket: string): Promise<void> {
    if (this.#kept !== undefined || this.#code === undefined) return;
    this.#kept = await KeptTicket.keep(systemFiles, this.#root, this.#code, ticket);
  }

  /** Nothing is left to resume. */
  async discard(): Promise<void> {
    await this.#kept?.discard();
  }

  [Symbol.dispose](): void {
    this.#kept?.[Symbol.dispose]();
  }
}

async function findTicket(target: Target, root: string): Promise<FoundTicket> {
  if (target.kind === "ticket") return new FoundTicket(undefined, root, undefined);
  const { code } = target;
  return new FoundTicket(code, root, await KeptTicket.find(systemFiles, root, code, Date.now()));
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
  /** Whether the sender has ended the transfer, so that there is nothing to wait for. Default: it never has. */
  readonly isOver?: () => boolean;
  /** Decides about offers. */
  readonly consent: Consent;
  /** Called if there is something that a later run continues. */
  readonly onKept?: () => void;
  /** Called if the transfer has come to its end, even if something was left out. */
  readonly onFinished?: () => void;
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
  const { folder, existing, asJson, id, consent, isOver, route } = command;
  using reporter = new TransferReporter(io, { asJson, route });
  let isAccepted = false;
  let kept: readonly KeptFile[] = [];
  try {
    const result = await receiveFiles(next, folder, {
      existing,
      id,
      signal: io.signal,
      onBreak: (error) => isOver?.() || reporter.onBreak(error),
      onProgress: reporter.onProgress,
      onFile: reporter.onFile,
      onRefused: reporter.onRefused,
      onKept: (files) => kept = files,
      onOffer: async (offer, { signal }) => {
        reporter.emit(offerEvent(offer));
        waitOver(io);
        const print = (line: string) => asJson && canAsk(io) ? io.err(line) : reporter.print(line);
        const decision = await consent.decide(offer, print, signal);
        isAccepted = decision.accept;
        if (isAccepted) waitFor(io, "Waiting for the first bytes");
        return decision;
      },
    });
    command.onFinished?.();
    return reporter.finished("Received", result, existing);
  } catch (error) {
    const isDeclined = error instanceof TransferError && error.reason === "declined";
    if (isDeclined && consent.refusal !== undefined) {
      const { message, remedy } = consent.refusal;
      const declined = new TransferError(message, "declined", { remedy });
      return reportTransferFailure(declined, reporter, io);
    }
    const code = reportTransferFailure(error, reporter, io);
    const reason = error instanceof TransferError ? error.reason : undefined;
    const isInterrupted = io.signal.aborted || reason === "broken";
    const hasEnded = isOver?.() === true && !io.signal.aborted;
    if (!isAccepted) return code;
    const what = reporter.whatIsKept(kept);
    if (what !== undefined) {
      command.onKept?.();
      reporter.emit({ event: "kept", files: kept });
      reporter.print(`Kept: ${what}`);
    }
    if (hasEnded && what !== undefined) reporter.print(RESUME_WITH_KEY);
    else if (isInterrupted && !hasEnded) reporter.print("Run the same command again to resume");
    return code;
  }
}

/** A sender without a key has another ticket the next time, by which nothing is found again. */
const RESUME_WITH_KEY =
  "If the sender runs `send` again with the same --key, this command resumes; without a key it starts over";

function offerEvent(offer: IncomingOffer): Readonly<Record<string, unknown>> {
  const { files, links, bytes, hidden, executables, existingFolders, existingEntries } = offer;
  return {
    event: "offer",
    files,
    bytes,
    links,
    hidden: hidden.length,
    executables: executables.length,
    existingFolders,
    existing: existingEntries.length,
  };
}

function existingPolicy(flags: ReadonlySet<string>): ExistingPolicy {
  if (flags.has("overwrite") && flags.has("rename")) {
    throw new UsageError("--overwrite cannot be combined with --rename");
  }
  return flags.has("overwrite") ? "overwrite" : flags.has("rename") ? "rename" : "refuse";
}
