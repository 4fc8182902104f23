/**
 * What the commands that connect peers print: tickets, attempts, connections and failures, as text or as JSON.
 *
 * @module
 */

import {
  type ConnectionAttempt,
  NoResponseError,
  RefusedError,
  UnreachableError,
} from "../base/errors.ts";
import type { PathKind, PunchMethodName } from "../base/path_kind.ts";
import type { PeerConnection } from "../peer/connection.ts";
import { REJECTION_CODES } from "../peer/dialer.ts";
import type { Peer } from "../peer/peer.ts";
import { type CliIo, EXIT, printError } from "./io.ts";

/** What is reported about a new connection. */
export interface ConnectedReport {
  readonly strategy: PathKind;
  /** `null` unless it was punched. */
  readonly method: PunchMethodName | null;
  readonly transport: "tcp";
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

/** Prints events: text on stderr, or JSON lines with `--json`. */
export class ConnectionEvents {
  readonly #io: CliIo;
  readonly #asJson: boolean;
  readonly #printJson: (line: string) => void;

  /** @param options.isStdoutFree whether JSON goes to stdout, because stdout is not the connection */
  constructor(io: CliIo, options: { asJson: boolean; isStdoutFree?: boolean }) {
    this.#io = io;
    this.#asJson = options.asJson;
    this.#printJson = options.isStdoutFree ? io.out : io.err;
  }

  /** Prints a line for people; nothing with `--json`. */
  print(line: string): void {
    if (!this.#asJson) this.#io.err(line);
  }

  /** Prints an event for programs; nothing without `--json`. */
  emit(event: { readonly event: string } & Readonly<Record<string, unknown>>): void {
    if (this.#asJson) this.#printJson(JSON.stringify(event));
  }

  /** Reports everything that was tried. */
  attempts(attempts: readonly ConnectionAttempt[]): void {
    for (const attempt of attempts) {
      this.emit({
        event: "attempt",
        strategy: attempt.kind,
        method: attempt.method,
        transport: attempt.transport,
        local: attempt.local,
        remote: attempt.remote,
        outcome: attempt.outcome,
        reason: attempt.reason ?? null,
        remedy: attempt.remedy ?? null,
        elapsedMs: attempt.elapsedMs,
      });
      this.print(`  ${describe(attempt)}`);
    }
  }

  /** Reports a connection. */
  connected(report: ConnectedReport): void {
    const { local, remote, punchMs, attempts, reason } = report;
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

  /** Reports that both directions have ended. */
  closed(): void {
    this.emit({ event: "closed" });
    this.print("Closed");
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
  events.print(`On the other machine: punchline ${options.command} ${ticket}`);
  if (!options.asQr) return;
  const { renderUnicodeCompact } = await import("uqr");
  io.err(renderUnicodeCompact(ticket, { ecc: "L", border: 2 }));
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
    reason: pathInWords(path),
  });
  reportPathChanges(connection, events);
}

/**
 * Reports why there is no connection.
 *
 * @param options.demandsDirect whether the user ruled out relays
 * @returns the exit code
 * @throws the error itself if it is not about the other side or the paths to it
 */
export function reportFailure(
  error: unknown,
  events: ConnectionEvents,
  io: CliIo,
  options: { demandsDirect: boolean },
): number {
  if (error instanceof UnreachableError) events.attempts(error.attempts);
  const code = exitCodeOf(error, options.demandsDirect);
  if (code === undefined) throw error;
  printError(error, io);
  return code;
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
      events.print(`Now ${local} to ${remote}: ${pathInWords(change.path)}`);
    } else {
      events.emit({ event: "lost", reason: change.reason });
      events.print(`Lost the path: ${change.reason}`);
    }
  }
}

function describe(attempt: ConnectionAttempt): string {
  const { local, remote, outcome, elapsedMs, tries, resets, reason, remedy } = attempt;
  const direction = tries === 0 && local !== null ? "from" : "to";
  const counts = tries === 0 ? [] : [
    `${tries} ${tries === 1 ? "SYN" : "SYNs"}`,
    ...resets > 0 ? [`${resets} reset`] : [],
  ];
  const notes = counts.length > 0 ? ` (${counts.join(", ")})` : "";
  const words = [reason, remedy].filter((each) => each !== undefined);
  const why = words.length > 0 ? `: ${words.join("; ")}` : "";
  const what = `${pathInWords(attempt)} ${direction} ${remote}`;
  return `${what}: ${outcome} after ${elapsedMs.toFixed(0)} ms${notes}${why}`;
}

/** The kind of a path for people, or how it was punched. */
function pathInWords({ kind, method }: Pick<ConnectionAttempt, "kind" | "method">): string {
  return method === null ? KINDS_IN_WORDS[kind] : METHODS_IN_WORDS[method];
}

const KINDS_IN_WORDS: Readonly<Record<PathKind, string>> = {
  "host": "same machine",
  "lan": "local network",
  "ipv6": "IPv6",
  "direct": "direct",
  "mapped": "mapped port",
  "punch-tcp": "TCP hole punching",
  "relay": "relay",
};

const METHODS_IN_WORDS: Readonly<Record<PunchMethodName, string>> = {
  "simultaneous-open": "TCP simultaneous open",
  "one-sided-open": "TCP hole punching, opened by one side",
  "port-prediction": "TCP hole punching by port prediction",
  "birthday": "TCP hole punching by many ports at once",
};
