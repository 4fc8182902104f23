/**
 * `listen`: the whole stack as a netcat, from the side that is reached. Stdin and stdout are the connection, or a port
 * of this machine is.
 *
 * @module
 */

import { UnreachableError } from "../base/errors.ts";
import { Semaphore } from "../base/tasks.ts";
import { Deadline } from "../base/timers.ts";
import { toDenoConn } from "../net/deno_conn.ts";
import { systemNetwork } from "../net/system.ts";
import type { PeerConnection } from "../peer/connection.ts";
import type { IncomingConnection } from "../peer/incoming.ts";
import { Peer } from "../peer/peer.ts";
import { acceptOrTell, firstThrough, MAX_UNDER_WAY, refuseOthers } from "./accept_first.ts";
import { readArguments, readInteger } from "./arguments.ts";
import { type CliIo, EXIT, UsageError } from "./io.ts";
import { type ManualPrompt, openManualPrompt } from "./manual_signaling.ts";
import { ConnectionEvents, showTicket, tellConnected, tellFailure } from "./peer_events.ts";
import {
  PEER_ARGUMENTS,
  PEER_USAGE,
  readPeerOptions,
  readPublicKey,
  readTimeout,
} from "./peer_options.ts";
import { forward, pipeThrough } from "./pipe.ts";

/** One line of help. */
export const LISTEN_USAGE =
  `listen ${PEER_USAGE} [--allow KEY]... [--tcp PORT] [--timeout MS] [--qr]`;

/** Runs the command; its exit code. */
export async function listen(args: readonly string[], io: CliIo): Promise<number> {
  const given = readArguments(args, {
    ...PEER_ARGUMENTS,
    flags: [...PEER_ARGUMENTS.flags, "qr"],
    values: [...PEER_ARGUMENTS.values, "tcp", "timeout"],
    lists: [...PEER_ARGUMENTS.lists, "allow"],
  });
  const { flags, values, lists } = given;
  const port = readInteger("tcp", values.get("tcp"), { min: 1, max: 65_535 });
  const timeoutMs = readTimeout(values);
  if (port !== undefined && timeoutMs !== undefined) {
    throw new UsageError("--timeout is for the first caller; with --tcp there is no last one");
  }
  const allow = lists.get("allow")!.map((text) => readPublicKey("allow", text));
  const events = new ConnectionEvents(io, { asJson: flags.has("json") });
  const desk = openManualPrompt(given, io, events, port === undefined ? {} : { port });
  const options = await readPeerOptions(given, io, desk);
  await using peer = await Peer.open({
    ...options,
    protocol: "", // as `connect` asks for: whoever came with `recv` would wait for files
    ...allow.length > 0 && { allow },
  });
  await showTicket(peer, events, io, {
    command: "connect",
    asQr: flags.has("qr") && !flags.has("json"),
  });
  return port === undefined
    ? await serveOne(peer, events, io, { timeoutMs, desk })
    : await serveAll(peer, port, events, io);
}

/** Whoever gets through first has stdin and stdout. */
async function serveOne(
  peer: Peer,
  events: ConnectionEvents,
  io: CliIo,
  { timeoutMs, desk }: { timeoutMs: number | undefined; desk: ManualPrompt | undefined },
): Promise<number> {
  const connection = await waitForOne(peer, events, io, timeoutMs);
  if (connection === undefined) {
    io.err(`punchline: Cannot connect: nobody came within ${timeoutMs} ms`);
    return EXIT.peerNotFound;
  }
  await using _connection = connection;
  const over = new AbortController();
  const refusing = refuseOthers(peer, over);
  try {
    tellConnected(connection, events);
    await pipeThrough(connection, io, desk?.stdin);
    await connection.finished;
    events.closed();
    return EXIT.ok;
  } finally {
    over.abort();
    await refusing;
  }
}

async function waitForOne(
  peer: Peer,
  events: ConnectionEvents,
  io: CliIo,
  timeoutMs: number | undefined,
): Promise<PeerConnection | undefined> {
  using deadline = timeoutMs === undefined ? undefined : new Deadline(timeoutMs, io.signal);
  const { signal } = deadline ?? io;
  try {
    const letIn = (incoming: IncomingConnection, tooLate: AbortSignal) =>
      accept(incoming, events, io, AbortSignal.any([io.signal, tooLate]));
    return await firstThrough(peer, letIn, { signal });
  } catch (error) {
    io.signal.throwIfAborted();
    if (signal.aborted && error === signal.reason) return undefined;
    throw error;
  }
}

/** Everybody gets a connection of their own to the port, until Ctrl-C. */
async function serveAll(
  peer: Peer,
  port: number,
  events: ConnectionEvents,
  io: CliIo,
): Promise<number> {
  const semaphore = new Semaphore(MAX_UNDER_WAY);
  const running = new Set<Promise<void>>();
  try {
    for (;;) {
      const incoming = await peer.nextIncoming({ signal: io.signal });
      const serving = serve(incoming, port, events, io, semaphore)
        .catch((error) => {
          if (!io.signal.aborted) {
            io.err(`punchline: ${error instanceof Error ? error.message : error}`);
          }
        })
        .finally(() => running.delete(serving));
      running.add(serving);
    }
  } catch (error) {
    if (!io.signal.aborted) throw error;
  }
  await Promise.all(running);
  return EXIT.interrupted;
}

async function serve(
  incoming: IncomingConnection,
  port: number,
  events: ConnectionEvents,
  io: CliIo,
  semaphore: Semaphore,
): Promise<void> {
  await using connection = await semaphore.through(() => accept(incoming, events, io, io.signal));
  if (connection === undefined) return;
  tellConnected(connection, events);
  const end = () => connection.reset();
  io.signal.addEventListener("abort", end, { once: true });
  try {
    const local = await systemNetwork.connectTcp({ ip: "127.0.0.1", port });
    await forward(connection, toDenoConn(local));
    events.closed();
  } catch (error) {
    io.err(`punchline: ${error instanceof Error ? error.message : error}`);
    connection.reset();
  } finally {
    io.signal.removeEventListener("abort", end);
  }
}

async function accept(
  incoming: IncomingConnection,
  events: ConnectionEvents,
  io: CliIo,
  signal: AbortSignal,
): Promise<PeerConnection | undefined> {
  const tell = (error: Error) => {
    if (error instanceof UnreachableError) tellFailure(error, events, io, { demandsDirect: false });
    else events.say(error.message);
  };
  return await acceptOrTell(incoming, tell, { signal });
}
