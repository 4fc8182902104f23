/**
 * `punch`: TCP through two NATs, between two runs of this command; then stdin and stdout are the connection.
 *
 * @module
 */

import { UnreachableError } from "../base/errors.ts";
import { runAll } from "../base/tasks.ts";
import { formatTransportAddress, parseHostPort } from "../net/address.ts";
import {
  type BaseSocket,
  preparePunch,
  type PreparePunchOptions,
  punch as punchOver,
  type PunchedConn,
  type PunchRole,
} from "../punch/mod.ts";
import { agreeOnRole } from "../signal/role.ts";
import { openWebSocketChannel, type WebSocketChannel } from "../signal/rendezvous/channel.ts";
import { readArguments, readInteger, readWith } from "./arguments.ts";
import { type CliIo, EXIT, UsageError } from "./io.ts";
import { type ConnectedReport, ConnectionEvents } from "./peer_events.ts";
import { pipeThrough } from "./pipe.ts";

/** One line of help. */
export const PUNCH_USAGE =
  "punch ROOM --rendezvous URL [--server HOST[:PORT]]... [--timeout MS] [--json]";

/** Runs the command; its exit code. */
export async function punch(args: readonly string[], io: CliIo): Promise<number> {
  const { flags, values, lists, operands } = readArguments(args, {
    flags: ["json"],
    values: ["rendezvous", "timeout"],
    lists: ["server"],
    operands: { min: 1, max: 1 },
  });
  const [room] = operands as [string];
  const url = values.get("rendezvous");
  if (url === undefined) {
    throw new UsageError("--rendezvous says where the two meet; it is missing");
  }
  const servers = lists.get("server")!;
  for (const server of servers) readWith(() => parseHostPort(server, 0));
  const timeoutMs = readInteger("timeout", values.get("timeout"), { min: 1, max: 3_600_000 });
  const events = new ConnectionEvents(io, { asJson: flags.has("json") });
  const options = { signal: io.signal, ...servers.length > 0 && { servers } };

  await using channel = await enter(url, room, io.signal);
  if (!channel.isPeerPresent) events.say(`Waiting in room ${room} of ${url} for the other side`);
  const ready = await prepareUntilThere(channel, options, timeoutMs);
  if (ready === undefined) {
    io.err(`punchline: Cannot punch: nobody came into room ${room} within ${timeoutMs} ms`);
    return EXIT.peerNotFound;
  }
  try {
    const limit = timeoutMs === undefined ? {} : { timeoutMs };
    await using stack = new AsyncDisposableStack();
    const conn = stack.adopt(
      await punchOver({ ...options, ...limit, channel, ...ready }),
      (conn) => conn.close(),
    );
    events.connected(reportOf(conn));
    await pipeThrough(conn, io);
    events.closed();
    return EXIT.ok;
  } catch (error) {
    if (!(error instanceof UnreachableError)) throw error;
    events.attempts(error.attempts);
    io.err(`punchline: ${error.message}`);
    return EXIT.failure;
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

async function enter(url: string, room: string, signal: AbortSignal): Promise<WebSocketChannel> {
  try {
    return await openWebSocketChannel(url, room, { signal });
  } catch (error) {
    if (error instanceof TypeError) throw new UsageError(error.message, { cause: error });
    throw error;
  }
}

/**
 * Gets the punch port ready while the other side is awaited, and anew if that takes long: mappings expire. Agrees with
 * it on the roles meanwhile.
 */
async function prepareUntilThere(
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

/** Some NATs forget an idle TCP mapping after a minute or two; ours. */
const MAPPING_MS = 30_000;
