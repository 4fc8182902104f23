/**
 * `connect`: the whole stack as a netcat, from the side that has a ticket. Stdin and stdout are the connection, or
 * whoever connects to a port of this machine has one.
 *
 * @module
 */

import { MalformedMessageError, NetworkError } from "../base/errors.ts";
import { Semaphore } from "../base/tasks.ts";
import { toDenoConn } from "../net/deno_conn.ts";
import type { TcpConnection } from "../net/network.ts";
import { systemNetwork } from "../net/system.ts";
import { Peer } from "../peer/peer.ts";
import { decodeTicket } from "../peer/ticket.ts";
import { MAX_UNDER_WAY } from "./accept_first.ts";
import { readArguments, readInteger } from "./arguments.ts";
import { type CliIo, EXIT, UsageError } from "./io.ts";
import { openManualPrompt } from "./manual_signaling.ts";
import { ConnectionEvents, tellConnected, tellFailure } from "./peer_events.ts";
import { PEER_ARGUMENTS, PEER_USAGE, readConnectTimings, readPeerOptions } from "./peer_options.ts";
import { forward, pipeThrough } from "./pipe.ts";

/** One line of help. */
export const CONNECT_USAGE = `connect TICKET ${PEER_USAGE} [--tcp PORT] [--timeout MS]`;

/** Runs the command; its exit code. */
export async function connect(args: readonly string[], io: CliIo): Promise<number> {
  const given = readArguments(args, {
    ...PEER_ARGUMENTS,
    values: [...PEER_ARGUMENTS.values, "tcp", "timeout"],
    operands: { min: 1, max: 1 },
  });
  const { flags, values, operands } = given;
  const ticket = readTicket(operands[0]!);
  const port = readInteger("tcp", values.get("tcp"), { min: 1, max: 65_535 });
  const events = new ConnectionEvents(io, { asJson: flags.has("json") });
  const desk = openManualPrompt(given, io, events, { ticket, ...port !== undefined && { port } });
  const options = await readPeerOptions(given, io, desk);
  const timings = readConnectTimings(values);
  await using peer = await Peer.open({ ...options, ...timings, listen: false });
  const demandsDirect = options.strategies?.includes("relay") === false;
  if (port !== undefined) return await forwardAll(peer, ticket, port, events, io);
  try {
    await using connection = await peer.connect(ticket, { signal: io.signal });
    tellConnected(connection, events);
    await pipeThrough(connection, io, desk?.stdin);
    await connection.finished;
    events.closed();
    return EXIT.ok;
  } catch (error) {
    io.signal.throwIfAborted();
    return tellFailure(error, events, io, { demandsDirect });
  }
}

/**
 * A ticket that can be read.
 *
 * @throws {UsageError} if it is none
 */
export function readTicket(text: string): string {
  try {
    const ticket = tidy(text);
    decodeTicket(ticket);
    return ticket;
  } catch (error) {
    if (!(error instanceof MalformedMessageError)) throw error;
    throw new UsageError(error.message, { cause: error });
  }
}

/** Without what chat programs and people put around a ticket: invisible characters, quotes, a command before it. */
function tidy(text: string): string {
  const plain = text.replaceAll(/[\s\u00ad\u200b-\u200f\u2060\ufeff]+/g, "");
  return /punchline:[\w-]+(?!.*punchline:)/i.exec(plain)?.[0] ?? text;
}

/** Each connection to the port of this machine gets one of its own to the peer. */
async function forwardAll(
  peer: Peer,
  ticket: string,
  port: number,
  events: ConnectionEvents,
  io: CliIo,
): Promise<number> {
  using listener = await systemNetwork.listenTcp({ ip: "127.0.0.1", port });
  events.tell({ event: "listening", local: `127.0.0.1:${port}` });
  events.say(`Forwarding 127.0.0.1:${port} to the peer`);
  const semaphore = new Semaphore(MAX_UNDER_WAY);
  const running = new Set<Promise<void>>();
  try {
    for (;;) {
      const local = await listener.accept({ signal: io.signal });
      const job = forwardOne(peer, ticket, local, events, io, semaphore).finally(() =>
        running.delete(job)
      );
      running.add(job);
    }
  } catch (error) {
    if (!io.signal.aborted) throw error;
  }
  await Promise.all(running);
  return EXIT.interrupted;
}

async function forwardOne(
  peer: Peer,
  ticket: string,
  local: TcpConnection,
  events: ConnectionEvents,
  io: CliIo,
  semaphore: Semaphore,
): Promise<void> {
  try {
    await using connection = await semaphore.through(() =>
      peer.connect(ticket, { signal: io.signal })
    );
    tellConnected(connection, events);
    const end = () => connection.reset();
    io.signal.addEventListener("abort", end, { once: true });
    await forward(connection, toDenoConn(local));
    io.signal.removeEventListener("abort", end);
    events.closed();
  } catch (error) {
    local.reset();
    if (io.signal.aborted || error instanceof NetworkError) return;
    tellFailure(error, events, io, { demandsDirect: false });
  }
}
