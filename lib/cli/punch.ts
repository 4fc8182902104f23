/**
 * `punch`: a TCP connection through two NATs, between two runs of this command that meet in a room. Stdin and stdout are
 * the connection.
 *
 * @module
 */

import { UnreachableError } from "../base/errors.ts";
import { shownUrl } from "../base/login.ts";
import { runAll } from "../base/tasks.ts";
import { formatTransportAddress, parseHostPort } from "../net/address.ts";
import {
  type BaseSocket,
  preparePunch,
  type PreparePunchOptions,
  punch,
  type PunchedConn,
  type PunchRole,
} from "../punch/mod.ts";
import { openWebSocketChannel, type WebSocketChannel } from "../signal/rendezvous/channel.ts";
import { agreeOnRole } from "../signal/role.ts";
import { readArguments, readInteger, readWith } from "./arguments.ts";
import { type CliIo, EXIT, printError, UsageError } from "./io.ts";
import { type ConnectedReport, ConnectionEvents } from "./peer_events.ts";
import { readSignalUrl } from "./peer_options.ts";
import { pipeThrough } from "./pipe.ts";

/** One line of help. */
export const PUNCH_USAGE =
  "punch ROOM --rendezvous URL [--server HOST[:PORT]]... [--timeout MS] [--json]";

/** Runs the command; returns its exit code. */
export async function punchCommand(args: readonly string[], io: CliIo): Promise<number> {
  const { flags, values, lists, operands } = readArguments(args, {
    flags: ["json"],
    values: ["rendezvous", "timeout"],
    lists: ["server"],
    operands: { min: 1, max: 1, names: ["the name of the room, the same on both sides"] },
  });
  const [room] = operands as [string];
  const given = values.get("rendezvous");
  if (given === undefined) {
    throw new UsageError("--rendezvous is missing: name the server where the two sides meet");
  }
  const url = readSignalUrl("rendezvous", given);
  const servers = lists.get("server")!;
  for (const server of servers) readWith(() => parseHostPort(server, 0));
  const timeoutMs = readInteger("timeout", values.get("timeout"), { min: 1, max: 3_600_000 });
  const events = new ConnectionEvents(io, { asJson: flags.has("json") });
  const options = { signal: io.signal, servers: servers.length > 0 ? servers : undefined };

  await using channel = await enterRoom(url, room, io.signal);
  if (!channel.isPeerPresent) {
    events.print(`Waiting in room ${room} at ${shownUrl(url)} for the other side`);
  }
  const prepared = await prepareWhileWaiting(channel, options, timeoutMs);
  if (prepared === undefined) {
    io.err(
      `punchline: Cannot punch: the other side did not join room ${room} within ${timeoutMs} ms`,
    );
    return EXIT.peerNotFound;
  }
  try {
    await using stack = new AsyncDisposableStack();
    const conn = stack.adopt(
      await punch({ ...options, timeoutMs, channel, ...prepared }),
      (conn) => conn.close(),
    );
    events.connected(reportOf(conn));
    await pipeThrough(conn, io);
    events.closed();
    return EXIT.ok;
  } catch (error) {
    if (!(error instanceof UnreachableError)) throw error;
    events.attempts(error.attempts);
    printError(error, io);
    return EXIT.failure;
  }
}

async function enterRoom(
  url: string,
  room: string,
  signal: AbortSignal,
): Promise<WebSocketChannel> {
  try {
    return await openWebSocketChannel(url, room, { signal });
  } catch (error) {
    if (error instanceof TypeError) throw new UsageError(error.message, { cause: error });
    throw error;
  }
}

/**
 * Prepares the punch port and agrees on the roles while waiting for the other side. If the wait was long the port is
 * prepared again, because its mapping may have expired.
 *
 * @returns `undefined` if the other side has not come in time
 */
async function prepareWhileWaiting(
  channel: WebSocketChannel,
  options: PreparePunchOptions,
  timeoutMs: number | undefined,
): Promise<{ base: BaseSocket; role: PunchRole } | undefined> {
  const timeout = timeoutMs === undefined ? undefined : AbortSignal.timeout(timeoutMs);
  const signals = [options.signal, timeout].filter((each) => each !== undefined);
  const preparedAtMs = performance.now();
  let base: BaseSocket | undefined;
  try {
    const [, role] = await runAll([
      async (signal) => base = await preparePunch({ ...options, signal }),
      async (signal) => {
        await channel.peerPresent({ signal });
        return await agreeOnRole(channel, { signal });
      },
    ], AbortSignal.any(signals));
    if (performance.now() - preparedAtMs < MAPPING_MS) return { base: base!, role };
    await base![Symbol.asyncDispose]();
    return { base: await preparePunch(options), role };
  } catch (error) {
    await base?.[Symbol.asyncDispose]();
    if (error === timeout?.reason) return undefined;
    throw error;
  }
}

function reportOf({ punch, local, remote }: PunchedConn): ConnectedReport {
  return {
    strategy: punch.kind,
    method: punch.method,
    transport: punch.transport,
    local: formatTransportAddress(local),
    remote: formatTransportAddress(remote),
    relayed: false,
    elapsedMs: punch.elapsedMs,
    punchMs: punch.punchMs,
    attempts: punch.attempts,
    reason: punch.plan.reason,
  };
}

/** Chosen by us: some NATs drop an idle TCP mapping after one or two minutes. */
const MAPPING_MS = 30_000;
