/**
 * What the commands that connect peers print: tickets, attempts, connections and failures, as text or as JSON.
 *
 * @module
 */

import {
  type ConnectionAttempt,
  MalformedMessageError,
  messageOf,
  NetworkError,
  NoResponseError,
  RefusedError,
  UnreachableError,
} from "../base/errors.ts";
import type { PathKind, PunchMethodName } from "../base/path_kind.ts";
import type { Finding } from "../nat/behavior.ts";
import type { PeerConnection, PeerPath } from "../peer/connection.ts";
import { REJECTION_CODES } from "../peer/rejection.ts";
import { PEER_TIMINGS, type PeerProgress } from "../peer/options.ts";
import type { Peer } from "../peer/peer.ts";
import { ticketForQr } from "../peer/ticket.ts";
import {
  type CliIo,
  EXIT,
  failureOf,
  oneLine,
  printError,
  remedyHere,
  UsageError,
  withoutSecrets,
} from "./io.ts";
import { copyable } from "./layout.ts";
import { screenOf, waitOver } from "./screen.ts";
import { commandLine } from "./started_as.ts";
import {
  failedWays,
  INITIAL_STATUS,
  type MeetingWay,
  reasonInWords,
  wayName,
} from "./status_engine.ts";

/** What is reported about a new connection. */
export interface ConnectedReport {
  readonly strategy: PathKind;
  /** `null` unless it was punched. */
  readonly method: PunchMethodName | null;
  readonly transport: "tcp" | "udp";
  /** The address on this side, `192.0.2.1:4000`. */
  readonly local: string;
  /** The address on the other side. */
  readonly remote: string;
  readonly relayed: boolean;
  /** From the call to the connection, in milliseconds. */
  readonly elapsedMs: number;
  /** From the moment both sides knew each other's addresses, in milliseconds. */
  readonly punchMs: number;
  /** What was tried on the way. */
  readonly attempts: readonly ConnectionAttempt[];
  /** How it was made, for people. */
  readonly reason: string;
}

/** Prints events: text on stderr and a status line if that is a terminal, or JSON lines with `--json`. */
export class ConnectionEvents {
  readonly #io: CliIo;
  readonly #asJson: boolean;
  readonly #printJson: (line: string) => void;
  readonly #isRelayOnly: boolean;

  /**
   * @param options.isStdoutFree whether JSON goes to stdout, because stdout is not the connection
   * @param options.isRelayOnly whether the user ruled out direct paths
   */
  constructor(
    io: CliIo,
    options: { asJson: boolean; isStdoutFree?: boolean; isRelayOnly?: boolean },
  ) {
    this.#isRelayOnly = options.isRelayOnly ?? false;
    this.#io = io;
    this.#asJson = options.asJson;
    this.#printJson = options.isStdoutFree ? io.out : io.err;
  }

  /** How a connection is made, for people. Over a relay, a better path is looked for, if it may be used. */
  pathOrSearch(path: PeerPath): string {
    const isSearching = path.relayed && !this.#isRelayOnly;
    return isSearching ? "relay, still looking for a direct path" : pathInWords(path);
  }

  /** Prints a line for people; nothing with `--json`. */
  print(line: string): void {
    if (!this.#asJson) this.#io.err(line);
  }

  /** Prints an event for programs; nothing without `--json`. */
  emit(event: { readonly event: string } & Readonly<Record<string, unknown>>): void {
    if (this.#asJson) this.#printJson(JSON.stringify(event));
  }

  /** Says what is waited for, and how each way to meet the peer is. */
  waitFor(text: string, timeoutMs?: number): void {
    screenOf(this.#io)?.tell({ kind: "task", text, isMeeting: true, timeoutMs });
  }

  /** Nothing is waited for any more. */
  waitOver(): void {
    waitOver(this.#io);
  }

  /** Takes the progress of a peer. */
  readonly onProgress = (progress: PeerProgress): void => {
    if (progress.event === "answered") {
      const { url } = progress;
      this.emit({ event: "answered", url });
      return this.waitFor(`Found by ${wayName(url)}, connecting`);
    }
    if (progress.event === "finding") return this.finding(progress.finding);
    const { url, state, error } = progress;
    this.signaling(url, state, error);
  };

  /** Reports how a way to meet the peer is. */
  signaling(url: string, state: MeetingWay["state"], error?: unknown): void {
    const reason = error === undefined ? null : withoutSecrets(messageOf(error));
    const remedy = failureOf(error).remedy ?? null;
    if (state !== "opening") this.emit({ event: "signaling", url, state, reason, remedy });
    screenOf(this.#io)?.tell({ kind: "way", url, state, why: whyInWords(error) });
  }

  /** Reports what stands in the way of all servers, and what to do. */
  finding({ kind, summary, remedy }: Finding): void {
    this.emit({ event: "finding", kind, summary, remedy });
    this.print(summary);
    this.print(`  ${remedy}`);
  }

  /** Says which ways to meet the peer failed. */
  failedWays(): void {
    const ways = failedWays(screenOf(this.#io)?.state ?? INITIAL_STATUS);
    if (ways !== undefined) this.print(`Ways to meet: ${ways}`);
  }

  /** Reports everything that was tried. */
  attempts(attempts: readonly ConnectionAttempt[]): void {
    const said = new Set<string | undefined>();
    for (const attempt of attempts) {
      const remedy = attempt.remedy && remedyHere(attempt.remedy);
      this.emit({
        event: "attempt",
        strategy: attempt.kind,
        method: attempt.method,
        transport: attempt.transport,
        local: attempt.local,
        remote: attempt.remote,
        candidates: attempt.candidates,
        outcome: attempt.outcome,
        reason: attempt.reason ?? null,
        remedy: remedy ?? null,
        elapsedMs: attempt.elapsedMs,
        tries: attempt.tries,
        resets: attempt.resets,
      });
      this.print(`  ${describe({ ...attempt, remedy: said.has(remedy) ? undefined : remedy })}`);
      said.add(remedy);
    }
  }

  /** Reports a connection. */
  connected(report: ConnectedReport): void {
    const { local, remote, punchMs, attempts, reason } = report;
    this.waitOver();
    if (this.#asJson) this.attempts(attempts);
    this.emit({
      event: "connected",
      strategy: report.strategy,
      method: report.method,
      transport: report.transport,
      local,
      remote,
      relayed: report.relayed,
      elapsedMs: report.elapsedMs,
      punchMs,
      attempts: attempts.length,
    });
    this.print(`Connected ${local} to ${remote} in ${punchMs.toFixed(0)} ms: ${reason}`);
  }

  /** Reports that both directions have ended, and why if they did not end by themselves. */
  closed(reason?: string): void {
    this.waitOver();
    this.emit(reason === undefined ? { event: "closed" } : { event: "closed", reason });
    this.print(reason === undefined ? "Closed" : `Closed: ${reason}`);
  }
}

/** Prints the ticket, which the other side needs. */
export async function showTicket(
  { ticket }: Peer,
  events: ConnectionEvents,
  io: CliIo,
  options: { command: string; asQr: boolean },
): Promise<void> {
  events.emit({ event: "ticket", ticket });
  const command = commandLine(io, options.command, ticket);
  events.print(`On the other machine: ${copyable(command)}`);
  if (!options.asQr) return;
  const { showQr } = await import("./qr.ts");
  await showQr(ticketForQr(ticket), io);
}

/** Reports a connection, and from then on every change of its path. */
export function reportConnected(connection: PeerConnection, events: ConnectionEvents): void {
  const { path, elapsedMs, found } = connection;
  events.connected({
    strategy: path.kind,
    method: path.method,
    transport: path.transport,
    local: path.local,
    remote: path.remote,
    relayed: path.relayed,
    elapsedMs,
    punchMs: found.punchMs,
    attempts: found.attempts,
    reason: events.pathOrSearch(path),
  });
  reportPathChanges(connection, events);
}

/** How the two sides are connected, for people, after what was done: sent, or received. */
export function routeInWords(
  { kind, method, transport }: Pick<PeerPath, "kind" | "method" | "transport">,
): string {
  return method === null ? ROUTES[kind] : `by ${methodInWords(method, transport)}`;
}

/**
 * Reports why there is no connection.
 *
 * @param options.demandsDirect whether the user ruled out relays
 * @param options.command which command was given the ticket, if it may be one for another command
 * @param options.isCode whether it was given a code, which is used up now. Default: false
 * @returns the exit code
 * @throws {UsageError} if the ticket is for another command
 * @throws the error itself if it is not about the other side or the paths to it
 */
export function reportFailure(
  error: unknown,
  events: ConnectionEvents,
  io: CliIo,
  options: { demandsDirect: boolean; command?: "connect" | "recv"; isCode?: boolean },
): number {
  if (error instanceof UnreachableError) events.attempts(error.attempts);
  if (isForOtherCommand(error) && options.command !== undefined) {
    throw wrongTicket(options.command, options.isCode ?? false, error);
  }
  const code = exitCodeOf(error, options.demandsDirect);
  if (code === undefined) throw error;
  if (code === EXIT.peerNotFound) events.failedWays();
  events.waitOver();
  printError(error, io);
  return code;
}

/** Whether the ticket belongs to another command. */
export function isForOtherCommand(error: unknown): error is RefusedError {
  return error instanceof RefusedError && error.code === REJECTION_CODES.protocol;
}

/** A ticket of `listen` was given to `recv`, or one of `send` to `connect`, or one of another program. */
function wrongTicket(command: "connect" | "recv", isCode: boolean, cause: Error): UsageError {
  const [printer, other, otherPrinter] = command === "recv"
    ? ["send", "connect", "listen"]
    : ["listen", "recv", "send"];
  const what = isCode ? "code" : "ticket";
  const withWhat = isCode ? "the ticket beside it: the code is used up" : "it";
  return new UsageError(`${command} takes a ${what} of ${printer}; this is another one`, {
    remedy: `If ${otherPrinter} printed it, use \`punchline ${other}\` with ${withWhat}`,
    cause,
  });
}

function exitCodeOf(error: unknown, demandsDirect: boolean): number | undefined {
  if (error instanceof NoResponseError) return EXIT.peerNotFound;
  if (error instanceof RefusedError) {
    const isTemporary = error.code === REJECTION_CODES.busy ||
      error.code === REJECTION_CODES.cancelled;
    return isTemporary ? EXIT.failure : EXIT.authenticationFailed;
  }
  if (!(error instanceof UnreachableError)) return undefined;
  return demandsDirect ? EXIT.onlyRelayed : EXIT.failure;
}

/** Runs until the connection ends. */
async function reportPathChanges(
  connection: PeerConnection,
  events: ConnectionEvents,
): Promise<void> {
  for await (const change of connection.events) {
    if (change.event === "path") {
      const { kind, method, transport, local, remote, relayed } = change.path;
      events.emit({ event: "path", strategy: kind, method, transport, local, remote, relayed });
      events.waitOver();
      events.print(`Now ${local} to ${remote}: ${events.pathOrSearch(change.path)}`);
    } else if (change.event === "stalled") {
      events.emit({ event: "stalled" });
      events.waitFor("No answer over the path, looking for another", PEER_TIMINGS.reconnectMs);
    } else if (change.event === "resumed") {
      events.emit({ event: "resumed" });
      events.waitOver();
    } else {
      events.emit({ event: "lost", reason: change.reason });
      events.print(`Lost the path: ${change.reason}; looking for another`);
      events.waitFor("Looking for another path", PEER_TIMINGS.reconnectMs);
    }
  }
}

function describe(attempt: ConnectionAttempt): string {
  const { transport, local, remote, outcome, elapsedMs, tries, resets, reason, remedy } = attempt;
  const direction = tries === 0 && local !== null ? "from" : "to";
  const counts = tries === 0 ? [] : [
    `${tries} ${transport === "udp" ? "datagram" : "SYN"}${tries === 1 ? "" : "s"}`,
    ...resets > 0 ? [`${resets} reset`] : [],
  ];
  const notes = counts.length > 0 ? ` (${counts.join(", ")})` : "";
  const words = [reason, remedy].filter((each) => each !== undefined);
  const why = words.length > 0 ? `: ${oneLine(words.join("; "))}` : "";
  const what = `${pathInWords(attempt)} ${direction} ${remote}`;
  return `${what}: ${outcome} after ${elapsedMs.toFixed(0)} ms${notes}${why}`;
}

/** Why a way to meet cannot be used, in a word or two. */
function whyInWords(error: unknown): string | null {
  if (error instanceof NetworkError) return reasonInWords(error.reason);
  if (error instanceof RefusedError) return "refused";
  if (error instanceof NoResponseError) return "no answer";
  if (error instanceof MalformedMessageError) return "answers something else";
  return error === undefined ? null : "failed";
}

/** The kind of a path for people, or how it was punched. */
export function pathInWords(
  { kind, method, transport }: Pick<ConnectionAttempt, "kind" | "method" | "transport">,
): string {
  if (method !== null) return methodInWords(method, transport);
  return transport === "udp" ? `${KINDS_IN_WORDS[kind]}, over UDP` : KINDS_IN_WORDS[kind];
}

/** How filters were punched, for people. */
function methodInWords(method: PunchMethodName, transport: PeerPath["transport"]): string {
  return METHODS_IN_WORDS[method](transport.toUpperCase());
}

const KINDS_IN_WORDS: Readonly<Record<PathKind, string>> = {
  "host": "same machine",
  "lan": "local network",
  "ipv6": "IPv6",
  "direct": "direct",
  "mapped": "mapped port",
  "punch-tcp": "TCP hole punching",
  "punch-udp": "UDP hole punching",
  "relay": "relay",
};

/** The same after what was done: sent, or received. */
const ROUTES: Readonly<Record<PathKind, string>> = {
  "host": "on the same machine",
  "lan": "over the local network",
  "ipv6": "over IPv6",
  "direct": "directly",
  "mapped": "through a mapped port",
  "punch-tcp": "by TCP hole punching",
  "punch-udp": "by UDP hole punching",
  "relay": "over a relay",
};

const METHODS_IN_WORDS: Readonly<Record<PunchMethodName, (transport: string) => string>> = {
  "simultaneous-open": (transport) =>
    transport === "UDP" ? "UDP hole punching" : `${transport} simultaneous open`,
  "one-sided-open": (transport) => `${transport} hole punching, opened by one side`,
  "port-prediction": (transport) => `${transport} hole punching by port prediction`,
  "birthday": (transport) => `${transport} hole punching by many ports at once`,
};
