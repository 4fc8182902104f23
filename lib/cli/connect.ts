/**
 * `connect`: a connection to the peer that printed a ticket. Stdin and stdout are the connection, as in netcat; with
 * `--tcp` each connection to a local port is forwarded to the peer, over a stream of one connection.
 *
 * @module
 */

import { NetworkError, RefusedError } from "../base/errors.ts";
import { REJECTION_CODES } from "../peer/rejection.ts";
import { PEER_TIMINGS } from "../peer/options.ts";
import { readCommand } from "./arguments.ts";
import { type CliIo, EXIT } from "./io.ts";
import { withConfig } from "./config.ts";
import { FORWARD_PROTOCOL, readFronts } from "./forward_options.ts";
import { openManualPrompt } from "./manual_signaling.ts";
import { ConnectionEvents, reportConnected, reportFailure } from "./peer_events.ts";
import { NetworkWatch } from "./network_watch.ts";
import {
  openPeer,
  openPeerInput,
  readConnectTimings,
  readPeerOptions,
  rulesOutDirect,
} from "./peer_options.ts";
import { endOfForwarding, pipeThrough, RESET_CODES } from "./pipe.ts";
import { readTypedAhead, showTypedBelow } from "./stdin_lines.ts";
import { readTarget, ticketOf } from "./target.ts";
import { TicketUrls } from "./ticket_urls.ts";

/** Runs the command; returns its exit code. */
export async function connect(args: readonly string[], io: CliIo): Promise<number> {
  const given = await withConfig(readCommand("connect", args));
  const { flags, values } = given;
  const input = openPeerInput(io);
  const target = await readTarget(given, input);
  const fronts = readFronts(given);
  const forwards = fronts[0]?.kind;
  const events = new ConnectionEvents(io, {
    asJson: flags.has("json"),
    isRelayOnly: rulesOutDirect(given),
  });
  const prompt = openManualPrompt(given, io, events, {
    ticket: target.kind === "ticket" ? target.ticket : undefined,
    forwards,
    stdin: input.stdin,
  });
  const options = await readPeerOptions(given, input, prompt);
  const timings = readConnectTimings(values);
  const urls = new TicketUrls(input, events, options);
  const asks = flags.has("json") ? "never" : "always"; // stderr is for events
  const failsEarly = forwards !== undefined;
  if (target.kind === "ticket") {
    urls.agree(target.servers);
    await urls.ask(target.ticket, { asks, failsEarly });
  }
  if (forwards === undefined) readTypedAhead(io, input.stdin);
  await using watch = new NetworkWatch(events, options.signaling, {
    servers: options.relayOnly ? [] : options.servers,
    isProxied: options.proxy !== undefined,
  });
  await using peer = await openPeer({
    ...options,
    ...timings,
    onProgress: watch.onProgress,
    listen: false,
    protocol: forwards === undefined ? "" : FORWARD_PROTOCOL,
    allowUrl: urls.allow,
    network: urls.network,
  });
  if (forwards === undefined) {
    const { text, timeoutMs } = prompt?.waiting ??
      { text: LOOKING, timeoutMs: PEER_TIMINGS.answerMs };
    events.waitFor(text, timings.timings?.answerMs ?? timeoutMs);
    showTypedBelow(io);
  }
  try {
    const ticket = await ticketOf(target, peer, events, io);
    if (target.kind === "code") await urls.ask(ticket, { asks, failsEarly });
    if (forwards !== undefined) {
      const { forwardFronts } = await import("./forwarding.ts");
      const isVerbose = flags.has("verbose");
      return await forwardFronts(peer, ticket, fronts, { events, isVerbose, io });
    }
    const connecting = peer.connect(ticket, { signal: io.signal });
    await using connection = await (prompt?.unlessOver(connecting) ?? connecting);
    io.signal.addEventListener("abort", () => connection.reset(), { once: true });
    reportConnected(connection, events);
    try {
      await pipeThrough(connection, io, input.stdin.rest());
      await connection.finished;
    } catch (error) {
      const ended = endOfForwarding(connection, { isService: false });
      if (ended !== undefined) {
        throw new NetworkError(`Cannot continue: ${ended}`, "reset", { cause: error });
      }
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

/** What `connect` and `recv` wait for. */
export const LOOKING = "Looking for the peer";
