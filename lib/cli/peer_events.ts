/**
 * What commands with a peer tell on stderr.
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
import { type CliIo, EXIT } from "./io.ts";

/** A connection, as it is told. */
export interface ConnectedReport {
  readonly strategy: PathKind;
  readonly method: PunchMethodName | null;
  readonly transport: "tcp";
  /** This side's end. */
  readonly local: string;
  /** The other side's end. */
  readonly remote: string;
  readonly relayed: boolean;
  /** From the call. */
  readonly elapsedMs: number;
  /** From the moment when both sides' addresses were known. */
  readonly punchMs: number;
  /** What was tried on the way. */
  readonly attempts: readonly ConnectionAttempt[];
  /** For people. */
  readonly reason: string;
}

/** Tells what happens. */
export class ConnectionEvents {
  readonly #io: CliIo;
  readonly #asJson: boolean;
  readonly #print: (line: string) => void;

  /** @param options.isStdoutFree whether stdout is not the connection */
  constructor(io: CliIo, options: { asJson: boolean; isStdoutFree?: boolean }) {
    this.#io = io;
    this.#asJson = options.asJson;
    this.#print = options.isStdoutFree ? io.out : io.err;
  }

  /** A line for people; programs are spared it. */
  say(line: string): void {
    if (!this.#asJson) this.#io.err(line);
  }

  /** An object for programs; people are spared it. */
  tell(event: { readonly event: string } & Readonly<Record<string, unknown>>): void {
    if (this.#asJson) this.#print(JSON.stringify(event));
  }

  /** All that was tried. */
  attempts(attempts: readonly ConnectionAttempt[]): void {
    for (const attempt of attempts) {
      this.tell({
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
      this.say(`  ${describe(attempt)}`);
    }
  }

  /** There is a connection. */
  connected(report: ConnectedReport): void {
    const { local, remote, punchMs, attempts, reason } = report;
    if (this.#asJson) this.attempts(attempts);
    this.tell({
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
    this.say(`Connected ${local} to ${remote} in ${punchMs.toFixed(0)} ms: ${reason}`);
  }

  /** Both directions have ended. */
  closed(): void {
    this.tell({ event: "closed" });
    this.say("Closed");
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
  "host": "same host",
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

/** Shows what the other side needs. */
export async function showTicket(
  { ticket }: Peer,
  events: ConnectionEvents,
  io: CliIo,
  options: { command: string; asQr: boolean },
): Promise<void> {
  events.tell({ event: "ticket", ticket });
  events.say(`On the other machine: punchline ${options.command} ${ticket}`);
  if (!options.asQr) return;
  const { renderUnicodeCompact } = await import("uqr");
  io.err(renderUnicodeCompact(ticket, { ecc: "L", border: 2 }));
}

/** Tells of a connection, and of what becomes of it. */
export function tellConnected(connection: PeerConnection, events: ConnectionEvents): void {
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
  tellEvents(connection, events);
}

/** Why there is no connection; the exit code for it. */
export function tellFailure(
  error: unknown,
  events: ConnectionEvents,
  io: CliIo,
  options: { demandsDirect: boolean },
): number {
  if (error instanceof UnreachableError) events.attempts(error.attempts);
  const code = exitCodeOf(error, options.demandsDirect);
  if (code === undefined) throw error;
  io.err(`punchline: ${(error as Error).message}`);
  return code;
}

function exitCodeOf(error: unknown, demandsDirect: boolean): number | undefined {
  if (error instanceof NoResponseError) return EXIT.peerNotFound;
  if (error instanceof RefusedError) {
    const isForNow = error.code === REJECTION_CODES.busy ||
      error.code === REJECTION_CODES.cancelled;
    return isForNow ? EXIT.failure : EXIT.authenticationFailed;
  }
  if (!(error instanceof UnreachableError)) return undefined;
  return demandsDirect ? EXIT.onlyRelayed : EXIT.failure;
}

/** Runs as long as the connection does. */
async function tellEvents(connection: PeerConnection, events: ConnectionEvents): Promise<void> {
  for await (const happened of connection.events) {
    if (happened.event === "path") {
      const { kind: strategy, method, transport, local, remote, relayed } = happened.path;
      events.tell({ event: "path", strategy, method, transport, local, remote, relayed });
      events.say(`Now ${local} to ${remote}: ${pathInWords(happened.path)}`);
    } else {
      events.tell({ event: "lost", reason: happened.reason });
      events.say(`Lost the path: ${happened.reason}`);
    }
  }
}
