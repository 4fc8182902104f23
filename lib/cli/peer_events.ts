/**
 * What commands with a peer tell on stderr.
 *
 * @module
 */

import { NoResponseError, RefusedError, UnreachableError } from "../base/errors.ts";
import type { PeerConnection } from "../peer/connection.ts";
import { DECLINE_CODES } from "../peer/dialer.ts";
import type { Peer } from "../peer/peer.ts";
import type { ConnectionEvents } from "./connection_events.ts";
import { type CliIo, EXIT } from "./io.ts";

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
  const { path: { strategy, local, remote, relayed }, elapsedMs, found } = connection;
  const { punchMs, attempts } = found;
  const reason = relayed ? "by a relay" : strategy;
  events.connected({ strategy, local, remote, relayed, elapsedMs, punchMs, attempts, reason });
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
    const isForNow = error.code === DECLINE_CODES.busy || error.code === DECLINE_CODES.withdrawn;
    return isForNow ? EXIT.failure : EXIT.authenticationFailed;
  }
  if (!(error instanceof UnreachableError)) return undefined;
  return demandsDirect ? EXIT.onlyRelayed : EXIT.failure;
}

/** Runs as long as the connection does. */
async function tellEvents(connection: PeerConnection, events: ConnectionEvents): Promise<void> {
  for await (const happened of connection.events) {
    if (happened.event === "path") {
      const { strategy, local, remote, relayed } = happened.path;
      events.tell({ event: "path", strategy, local, remote, relayed });
      events.say(`Now ${local} to ${remote}, ${relayed ? "by a relay" : strategy}`);
    } else {
      events.tell({ event: "lost", reason: happened.reason });
      events.say(`Lost the path: ${happened.reason}`);
    }
  }
}
