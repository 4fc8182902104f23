/**
 * `listen`: a ticket, and a connection to the peer that uses it. Stdin and stdout are the connection, as in netcat; with
 * `--tcp` every connection is forwarded to a local port.
 *
 * @module
 */

import { MalformedMessageError, UnreachableError } from "../base/errors.ts";
import { TaskGroup } from "../base/tasks.ts";
import { Deadline } from "../base/timers.ts";
import { toDenoConn } from "../net/deno_conn.ts";
import type { TcpConnection } from "../net/network.ts";
import type { PeerConnection } from "../peer/connection.ts";
import type { IncomingConnection } from "../peer/incoming.ts";
import type { Peer } from "../peer/peer.ts";
import { type Accept, acceptOrReport } from "./accept_first.ts";
import { readCommand } from "./arguments.ts";
import { withConfig } from "./config.ts";
import { ConnectionSlot } from "./connection_slot.ts";
import { FORWARD_PROTOCOL, readOffers } from "./forward_options.ts";
import { type CliIo, EXIT, failureOf, printError, printFailure, UsageError } from "./io.ts";
import { openManualPrompt } from "./manual_signaling.ts";
import { ConnectionEvents, reportConnected, reportFailure, showTicket } from "./peer_events.ts";
import { NetworkWatch } from "./network_watch.ts";
import {
  openPeer,
  openPeerInput,
  readPeerOptions,
  readPublicKey,
  readTimeout,
  rulesOutDirect,
} from "./peer_options.ts";
import { endOfForwarding, forward, pipeThrough, RESET_CODES } from "./pipe.ts";
import { readCodeExpiry, ShownCode } from "./shown_code.ts";
import { limitText } from "./status_engine.ts";
import { readTypedAhead, showTypedBelow, type StdinLines } from "./stdin_lines.ts";
import { readTickets } from "./ticket.ts";

/** Runs the command; returns its exit code. */
export async function listen(args: readonly string[], io: CliIo): Promise<number> {
  const given = await withConfig(readCommand("listen", args));
  const { flags, values, lists } = given;
  readCodeExpiry(values);
  const offers = readOffers(given);
  const forwards = ["tcp", "unix", "udp", "allow-to"].find((each) => lists.get(each)!.length > 0);
  const timeoutMs = readTimeout(values);
  if (forwards !== undefined && timeoutMs !== undefined) {
    throw new UsageError(`--timeout cannot be combined with --${forwards}`);
  }
  const allow = lists.get("allow")!.map((text) => readPublicKey("allow", text));
  const events = new ConnectionEvents(io, {
    asJson: flags.has("json"),
    isRelayOnly: rulesOutDirect(given),
  });
  const input = openPeerInput(io);
  const prompt = openManualPrompt(given, io, events, {
    forwards,
    stdin: input.stdin,
  });
  const options = await readPeerOptions(given, input, prompt);
  const isTyped = offers === undefined && !flags.has("qr"); // a QR code needs the row
  if (isTyped) readTypedAhead(io, input.stdin);
  events.waitFor("Opening ways to meet");
  await using watch = new NetworkWatch(events, options.signaling, {
    servers: options.relayOnly ? [] : options.servers,
    isProxied: options.proxy !== undefined,
  });
  const tickets = await readTickets(given, options, "connection", io);
  await using peer = await watch.explaining(() =>
    openPeer({
      ...options,
      onProgress: watch.onProgress,
      tickets,
      // What `connect` asks for: a `recv` would wait for files. Forwarding has a protocol of its own.
      protocol: offers === undefined ? "" : undefined,
      allow: allow.length > 0 ? allow : undefined,
    })
  );
  await showTicket(peer, events, io, {
    command: "connect",
    asQr: flags.has("qr") && !flags.has("json"),
  });
  prompt?.askForMessage();
  const { signaling } = options;
  await using code = ShownCode.start(given, { peer, events, io, command: "connect", signaling });
  events.waitFor(WAITING, timeoutMs);
  if (offers === undefined) {
    if (isTyped) showTypedBelow(io);
    const serving = serveOne(peer, events, io, { timeoutMs, stdin: input.stdin, code });
    return await (prompt?.unlessOver(serving) ?? serving);
  }
  const { connectDefault, serveForwardsOf } = await import("./forwarding.ts");
  return await forwardAll(peer, events, io, async (connection, signal) => {
    if (connection.protocol === "") {
      const connecting = connectDefault(offers, signal);
      if (connecting === undefined) {
        events.print("Cannot forward to the first port: no port is offered");
        connection.reset(RESET_CODES.serviceUnreachable);
      } else await forwardTo(connecting, connection, events, io, signal);
      return;
    }
    reportConnected(connection, events);
    await serveForwardsOf(connection, offers, { events, isVerbose: flags.has("verbose"), signal });
    events.closed();
    events.waitFor(WAITING);
  }, ["", FORWARD_PROTOCOL]);
}

/**
 * Connects stdin and stdout to the first peer that gets through. If it is gone without a word, another one takes over.
 */
async function serveOne(
  peer: Peer,
  events: ConnectionEvents,
  io: CliIo,
  { timeoutMs, stdin, code }: {
    timeoutMs: number | undefined;
    stdin: StdinLines;
    code: ShownCode | undefined;
  },
): Promise<number> {
  using deadline = timeoutMs === undefined ? undefined : new Deadline(timeoutMs, io.signal);
  const { signal } = deadline ?? io;
  const acceptOne: Accept = (incoming, tooLate) =>
    accept(incoming, events, io, AbortSignal.any([signal, tooLate]));
  await using stack = new AsyncDisposableStack();
  const slot = stack.adopt(new ConnectionSlot(peer, acceptOne, io), (slot) => slot.close());
  const first = await waitForFirst(slot, io, signal);
  deadline?.[Symbol.dispose](); // those that take over later have no deadline
  if (first === undefined) {
    events.waitOver();
    const message = `Cannot connect: no peer connected within ${limitText(timeoutMs!)}`;
    printFailure(
      { message, remedy: "Give the other side the ticket or the code, and start again" },
      io,
    );
    return EXIT.peerNotFound;
  }
  code?.hush();
  const input = stdin.rest();
  let isIncomplete = false;
  for (let connection = first;; connection = await slot.next({ signal: io.signal })) {
    reportConnected(connection, events);
    try {
      await pipeThrough(connection, io, input);
      await connection.finished;
      events.closed();
      return isIncomplete ? EXIT.failure : EXIT.ok;
    } catch (error) {
      if (!slot.isTakenOver) throw error;
      connection.reset();
      isIncomplete ||= connection.receivedBytes > 0;
      events.print("The peer does not answer any more; another one takes over");
      events.waitFor("Connecting to another peer");
    }
  }
}

/** `undefined` if no peer has connected in time. */
async function waitForFirst(
  slot: ConnectionSlot,
  io: CliIo,
  signal: AbortSignal,
): Promise<PeerConnection | undefined> {
  try {
    return await slot.next({ signal });
  } catch (error) {
    io.signal.throwIfAborted();
    if (signal.aborted && error === signal.reason) return undefined;
    throw error;
  }
}

/** Hands every connection to `serve`, until it is interrupted. */
async function forwardAll(
  peer: Peer,
  events: ConnectionEvents,
  io: CliIo,
  serve: (connection: PeerConnection, signal: AbortSignal) => Promise<void>,
  protocols: readonly string[],
): Promise<number> {
  await using forwarding = new TaskGroup((error) => printError(error, io));
  try {
    for (;;) {
      const incoming = await peer.nextIncoming({ signal: io.signal });
      if (!protocols.includes(incoming.protocol)) {
        incoming.refuse();
        continue;
      }
      forwarding.run(async (signal) => {
        await using connection = await accept(incoming, events, io, signal);
        if (connection === undefined) return;
        const onAbort = () => connection.reset();
        signal.addEventListener("abort", onAbort, { once: true });
        try {
          await serve(connection, signal);
        } finally {
          signal.removeEventListener("abort", onAbort);
        }
      });
    }
  } catch (error) {
    if (!io.signal.aborted) throw error;
  }
  return EXIT.interrupted;
}

async function forwardTo(
  connecting: Promise<TcpConnection>,
  connection: PeerConnection,
  events: ConnectionEvents,
  io: CliIo,
  signal: AbortSignal,
): Promise<void> {
  reportConnected(connection, events);
  try {
    await forward(connection, toDenoConn(await connecting), signal);
    events.closed(endOfForwarding(connection, { isService: true }));
    events.waitFor(WAITING);
  } catch (error) {
    connection.reset(signal.aborted ? undefined : RESET_CODES.serviceUnreachable);
    if (!signal.aborted) printError(error, io);
  }
}

async function accept(
  incoming: IncomingConnection,
  events: ConnectionEvents,
  io: CliIo,
  signal: AbortSignal,
): Promise<PeerConnection | undefined> {
  const report = (error: Error) => {
    if (error instanceof UnreachableError) {
      reportFailure(error, events, io, { demandsDirect: false });
    } else {
      events.print(error.message);
      // Which side to update, if they speak different versions.
      if (error instanceof MalformedMessageError) events.print(failureOf(error).remedy ?? "");
    }
  };
  events.waitFor("A peer was found, connecting");
  const connection = await acceptOrReport(incoming, report, { signal });
  if (connection === undefined) events.waitFor(WAITING);
  return connection;
}

const WAITING = "Waiting for a peer";
