/**
 * `connect`: a connection to the peer that printed a ticket. Stdin and stdout are the connection, as in netcat; with
 * `--tcp` each connection to a local port is forwarded to the peer.
 *
 * @module
 */

import { NetworkError, RefusedError } from "../base/errors.ts";
import { TaskGroup } from "../base/tasks.ts";
import { toDenoConn } from "../net/deno_conn.ts";
import { shortageLogger } from "../net/shortage.ts";
import { systemNetwork } from "../net/system.ts";
import { loadLateModules } from "../peer/late_modules.ts";
import { REJECTION_CODES } from "../peer/rejection.ts";
import { PEER_TIMINGS } from "../peer/options.ts";
import type { Peer } from "../peer/peer.ts";
import { MAX_PENDING } from "./accept_first.ts";
import { readCommand, readInteger } from "./arguments.ts";
import { type CliIo, EXIT, printError } from "./io.ts";
import { withConfig } from "./config.ts";
import { openManualPrompt } from "./manual_signaling.ts";
import { ConnectionEvents, reportConnected, reportFailure } from "./peer_events.ts";
import { loadExaminers, NetworkWatch } from "./network_watch.ts";
import {
  openPeer,
  openPeerInput,
  readConnectTimings,
  readPeerOptions,
  rulesOutDirect,
} from "./peer_options.ts";
import { endOfForwarding, forward, pipeThrough, RESET_CODES } from "./pipe.ts";
import { readTypedAhead, showTypedBelow } from "./stdin_lines.ts";
import { readTarget, ticketOf } from "./target.ts";
import { isNotAllowed, TicketUrls } from "./ticket_urls.ts";
import { ReadAhead, WaitingConnections } from "./waiting_connections.ts";

/** Runs the command; returns its exit code. */
export async function connect(args: readonly string[], io: CliIo): Promise<number> {
  const given = await withConfig(readCommand("connect", args));
  const { flags, values } = given;
  const input = openPeerInput(io);
  const target = await readTarget(given, input);
  const port = readInteger("tcp", values.get("tcp"), { min: 1, max: 65_535 });
  const events = new ConnectionEvents(io, {
    asJson: flags.has("json"),
    isRelayOnly: rulesOutDirect(given),
  });
  const prompt = openManualPrompt(given, io, events, {
    ticket: target.kind === "ticket" ? target.ticket : undefined,
    port,
    stdin: input.stdin,
  });
  const options = await readPeerOptions(given, input, prompt);
  const timings = readConnectTimings(values);
  const urls = new TicketUrls(input, events, options);
  const asks = flags.has("json") ? "never" : "always"; // stderr is for events
  const failsEarly = port !== undefined;
  if (target.kind === "ticket") {
    urls.agree(target.servers);
    await urls.ask(target.ticket, { asks, failsEarly });
  }
  if (port === undefined) readTypedAhead(io, input.stdin);
  await using watch = new NetworkWatch(events, options.signaling, {
    isProxied: options.proxy !== undefined,
  });
  await using peer = await openPeer({
    ...options,
    ...timings,
    onProgress: watch.onProgress,
    listen: false,
    allowUrl: urls.allow,
    network: urls.network,
  });
  if (port === undefined) {
    const { text, timeoutMs } = prompt?.waiting ??
      { text: LOOKING, timeoutMs: PEER_TIMINGS.answerMs };
    events.waitFor(text, timings.timings?.answerMs ?? timeoutMs);
    showTypedBelow(io);
  }
  try {
    const ticket = await ticketOf(target, peer, events, io);
    if (target.kind === "code") await urls.ask(ticket, { asks, failsEarly });
    if (port !== undefined) return await forwardAll(peer, ticket, port, events, io);
    const connecting = peer.connect(ticket, { signal: io.signal });
    await using connection = await (prompt?.unlessOver(connecting) ?? connecting);
    io.signal.addEventListener("abort", () => connection.reset(), { once: true });
    reportConnected(connection, events);
    try {
      await pipeThrough(connection, io, input.stdin.rest());
      await connection.finished;
    } catch (error) {
      if (connection.resetCode !== RESET_CODES.busy) throw error;
      const message = "Cannot connect: the peer is busy with another connection";
      const remedy = "Wait until the other connection has ended";
      throw new RefusedError(message, REJECTION_CODES.busy, { cause: error, remedy });
    }
    events.closed();
    return EXIT.ok;
  } catch (error) {
    io.signal.throwIfAborted();
    await watch.explain();
    const demandsDirect = options.strategies?.includes("relay") === false;
    const isCode = target.kind === "code";
    return reportFailure(error, events, io, { demandsDirect, command: "connect", isCode });
  }
}

/** Forwards each connection to the local port over a connection of its own, until it is interrupted. */
async function forwardAll(
  peer: Peer,
  ticket: string,
  port: number,
  events: ConnectionEvents,
  io: CliIo,
): Promise<number> {
  const waiting = new WaitingConnections(MAX_PENDING);
  const address = { ip: "127.0.0.1", port };
  const report = shortageLogger(address, { warn: (text) => io.err(`punchline: ${text}`) });
  using listener = await systemNetwork.listenTcp(address, {
    onShortage: (event) => {
      report(event);
      waiting.note(event);
    },
  });
  events.emit({ event: "listening", local: `127.0.0.1:${port}` });
  events.print(`Forwarding 127.0.0.1:${port} to the peer`);
  const idle = `Waiting for connections to 127.0.0.1:${port}`;
  events.waitFor(idle);
  await using forwarding = new TaskGroup((error) => printError(error, io));
  // A flood of the port may leave no file descriptor to load them with.
  forwarding.run(() => Promise.all([loadLateModules(), loadExaminers()]));
  let notAllowed: NetworkError | undefined;
  try {
    for (;;) {
      const local = new ReadAhead(await listener.accept({ signal: io.signal }));
      forwarding.run(async (signal) => {
        try {
          await using connection = await waiting.through(
            local,
            (givenUp) => peer.connect(ticket, { signal: AbortSignal.any([signal, givenUp]) }),
          );
          reportConnected(connection, events);
          await forward(connection, toDenoConn(local), signal);
          events.closed(endOfForwarding(connection, { isService: false }));
          events.waitFor(idle);
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

/** What `connect` and `recv` wait for. */
export const LOOKING = "Looking for the peer";
