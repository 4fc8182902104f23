/**
 * `punch`: TCP through two NATs, between two runs of this command; then stdin and stdout are the connection.
 *
 * @module
 */

import { UnreachableError } from "../errors.ts";
import { parseHostPort } from "../net/address.ts";
import { preparePunch, type PreparePunchOptions, punch as punchOver } from "../punch/mod.ts";
import { openWebSocketChannel, type WebSocketChannel } from "../signal/websocket_channel.ts";
import { readArguments, readInteger, readWith } from "./arguments.ts";
import { type CliIo, EXIT, UsageError } from "./io.ts";
import { pipeThrough } from "./pipe.ts";
import { PunchEvents } from "./punch_events.ts";

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
  const events = new PunchEvents(io, { asJson: flags.has("json") });
  const options = { signal: io.signal, ...servers.length > 0 && { servers } };

  await using channel = await enter(url, room, io.signal);
  // Who comes second finds the other there: so the two agree on their roles.
  const role = channel.isPeerPresent ? "controlled" : "controlling";
  if (role === "controlling") events.say(`Waiting in room ${room} of ${url} for the other side`);
  const anchor = await prepareUntilThere(channel, options, timeoutMs);
  if (anchor === undefined) {
    io.err(`punchline: Cannot punch: nobody came into room ${room} within ${timeoutMs} ms`);
    return EXIT.peerNotFound;
  }
  try {
    const limit = timeoutMs === undefined ? {} : { timeoutMs };
    await using stack = new AsyncDisposableStack();
    const conn = stack.adopt(
      await punchOver({ ...options, ...limit, channel, role, anchor }),
      (conn) => conn.close(),
    );
    events.connected(conn);
    await pipeThrough(conn, io);
    events.closed();
    return EXIT.ok;
  } catch (error) {
    if (error instanceof UnreachableError) events.attempts(error.attempts);
    throw error;
  }
}

async function enter(url: string, room: string, signal: AbortSignal): Promise<WebSocketChannel> {
  try {
    return await openWebSocketChannel(url, room, { signal });
  } catch (error) {
    if (error instanceof TypeError) throw new UsageError(error.message, { cause: error });
    throw error;
  }
}

/** Gets the punch port ready while the other side is awaited, and anew if that takes long: mappings expire. */
async function prepareUntilThere(
  channel: WebSocketChannel,
  options: PreparePunchOptions,
  timeoutMs: number | undefined,
) {
  const timeout = timeoutMs === undefined ? [] : [AbortSignal.timeout(timeoutMs)];
  const signal = AbortSignal.any([...options.signal ? [options.signal] : [], ...timeout]);
  const preparedAtMs = performance.now();
  const anchor = await preparePunch(options);
  try {
    await channel.peerPresent({ signal });
  } catch (error) {
    await anchor[Symbol.asyncDispose]();
    if (error === timeout[0]?.reason) return undefined;
    throw error;
  }
  if (performance.now() - preparedAtMs < MAPPING_MS) return anchor;
  await anchor[Symbol.asyncDispose]();
  return await preparePunch(options);
}

/** Some NATs forget an idle TCP mapping after a minute or two; ours. */
const MAPPING_MS = 30_000;
