/**
 * `connect`: a connection to the peer that printed a ticket. Stdin and stdout are the connection, as in netcat; with
 * `--tcp` each connection to a local port is forwarded to the peer.
 *
 * @module
 */

import { MalformedMessageError, NetworkError } from "../base/errors.ts";
import { TaskGroup } from "../base/tasks.ts";
import { toDenoConn } from "../net/deno_conn.ts";
import { shortageLogger } from "../net/shortage.ts";
import { systemNetwork } from "../net/system.ts";
import type { Peer } from "../peer/peer.ts";
import { decodeTicket } from "../peer/ticket.ts";
import { MAX_PENDING } from "./accept_first.ts";
import { type Arguments, readArguments, readInteger } from "./arguments.ts";
import { type CliIo, EXIT, printError, UsageError } from "./io.ts";
import { openManualPrompt } from "./manual_signaling.ts";
import { ConnectionEvents, reportConnected, reportFailure } from "./peer_events.ts";
import {
  openPeer,
  openPeerInput,
  PEER_ARGUMENTS,
  PEER_USAGE,
  type PeerInput,
  readConnectTimings,
  readPeerOptions,
} from "./peer_options.ts";
import { forward, pipeThrough } from "./pipe.ts";
import { isNotAllowed, TicketUrls } from "./ticket_urls.ts";
import { NewestFirst } from "./waiting_connections.ts";

/** One line of help. */
export const CONNECT_USAGE = `connect TICKET|@FILE|- ${PEER_USAGE} [--tcp PORT] [--timeout MS]`;

/** Runs the command; returns its exit code. */
export async function connect(args: readonly string[], io: CliIo): Promise<number> {
  const given = readArguments(args, {
    ...PEER_ARGUMENTS,
    values: [...PEER_ARGUMENTS.values, "tcp", "timeout"],
    operands: { min: 0, max: 1, names: [] },
  });
  const { flags, values } = given;
  const input = openPeerInput(io);
  const ticket = await readTicket(given, input);
  const port = readInteger("tcp", values.get("tcp"), { min: 1, max: 65_535 });
  const events = new ConnectionEvents(io, { asJson: flags.has("json") });
  const prompt = openManualPrompt(given, io, events, { ticket, port, stdin: input.stdin });
  const options = await readPeerOptions(given, input, prompt);
  const timings = readConnectTimings(values);
  const urls = new TicketUrls(input, events, options);
  const asks = flags.has("json") ? "never" : "always"; // stderr is for events
  await urls.ask(ticket, { asks, failsEarly: port !== undefined });
  await using peer = await openPeer({
    ...options,
    ...timings,
    listen: false,
    allowUrl: urls.allow,
  });
  if (port !== undefined) return await forwardAll(peer, ticket, port, events, io);
  try {
    await using connection = await peer.connect(ticket, { signal: io.signal });
    io.signal.addEventListener("abort", () => connection.reset(), { once: true });
    reportConnected(connection, events);
    await pipeThrough(connection, io, input.stdin.rest());
    await connection.finished;
    events.closed();
    return EXIT.ok;
  } catch (error) {
    io.signal.throwIfAborted();
    const demandsDirect = options.strategies?.includes("relay") === false;
    return reportFailure(error, events, io, { demandsDirect });
  }
}

/**
 * Reads the ticket that the command is given, with whatever was pasted around it: from the arguments, or from where they
 * say.
 *
 * @throws {UsageError} if the ticket is missing or damaged
 */
export async function readTicket(
  { operands }: Pick<Arguments, "operands">,
  { secrets }: PeerInput,
): Promise<string> {
  const text = await secrets.readOperand("ticket", operands[0], "PUNCHLINE_TICKET");
  try {
    const ticket = extractTicket(text);
    decodeTicket(ticket);
    return ticket;
  } catch (error) {
    if (!(error instanceof MalformedMessageError)) throw error;
    throw new UsageError(error.message, { cause: error });
  }
}

/** Removes what chat programs and people add: invisible characters, quotes, the command before the ticket. */
function extractTicket(text: string): string {
  const plain = text.replaceAll(/[\s\u00ad\u200b-\u200f\u2060\ufeff]+/g, "");
  return /punchline:[\w-]+(?!.*punchline:)/i.exec(plain)?.[0] ?? text;
}

/** Forwards each connection to the local port over a connection of its own, until it is interrupted. */
async function forwardAll(
  peer: Peer,
  ticket: string,
  port: number,
  events: ConnectionEvents,
  io: CliIo,
): Promise<number> {
  const dials = new NewestFirst(MAX_PENDING);
  const address = { ip: "127.0.0.1", port };
  const report = shortageLogger(address, { warn: (text) => io.err(`punchline: ${text}`) });
  using listener = await systemNetwork.listenTcp(address, {
    onShortage: (event) => {
      report(event);
      if (event === "begins") dials.shed(MAX_WAITING_IN_SHORTAGE);
    },
  });
  events.emit({ event: "listening", local: `127.0.0.1:${port}` });
  events.print(`Forwarding 127.0.0.1:${port} to the peer`);
  await using forwarding = new TaskGroup((error) => printError(error, io));
  let notAllowed: NetworkError | undefined;
  try {
    for (;;) {
      const local = await listener.accept({ signal: io.signal });
      forwarding.run(async (signal) => {
        try {
          await using connection = await dials.through(() => peer.connect(ticket, { signal }));
          reportConnected(connection, events);
          await forward(connection, toDenoConn(local), signal);
          events.closed();
        } catch (error) {
          local.reset();
          if (isNotAllowed(error)) {
            notAllowed = error; // nor will it be for the next connection
            listener.close();
          }
          if (signal.aborted || error instanceof NetworkError) return;
          reportFailure(error, events, io, { demandsDirect: false });
        }
      });
    }
  } catch (error) {
    if (!io.signal.aborted) throw notAllowed ?? error;
  }
  return EXIT.interrupted;
}

/** Chosen by us: while there are no file descriptors, those of connections that wait are needed to dial. */
const MAX_WAITING_IN_SHORTAGE = 8;
