/**
 * `punch`: a TCP connection through two NATs, between two runs of this command that meet in a room. Stdin and stdout are
 * the connection.
 *
 * @module
 */

import { toBase64url } from "../base/bytes.ts";
import { MalformedMessageError, NetworkError, UnreachableError } from "../base/errors.ts";
import { shownUrl, withoutLogin } from "../base/login.ts";
import { runAll } from "../base/tasks.ts";
import { plainServer } from "../nat/servers.ts";
import { formatTransportAddress } from "../net/address.ts";
import {
  type BaseSocket,
  preparePunch,
  type PreparePunchOptions,
  punch,
  type PunchedConn,
  type PunchRole,
} from "../punch/mod.ts";
import type { ProxyOptions } from "../net/proxy/client.ts";
import { looksLikeCode } from "../peer/ticket.ts";
import { openWebSocketChannel, type WebSocketChannel } from "../signal/rendezvous/channel.ts";
import { agreeOnRole } from "../signal/role.ts";
import { type Arguments, readCommand, readTimeoutMs, readWith } from "./arguments.ts";
import { type CliIo, EXIT, failureOf, printFailure, UsageError } from "./io.ts";
import {
  type ConnectedReport,
  ConnectionEvents,
  pathInWords,
  reportFailure,
} from "./peer_events.ts";
import { openPeerInput, readSignalUrl } from "./peer_options.ts";
import { pipeThrough } from "./pipe.ts";
import { networkThrough, readProxy } from "./proxy.ts";
import { type CodeSource, ShownCode } from "./shown_code.ts";
import { readTypedAhead, showTypedBelow } from "./stdin_lines.ts";
import { openPool, sayLooking } from "./target.ts";
import { limitText, wayName } from "./status_engine.ts";

/** Runs the command; returns its exit code. */
export async function punchCommand(args: readonly string[], io: CliIo): Promise<number> {
  const commandLine = readCommand("punch", args);
  const { flags, values, lists, operands } = commandLine;
  const given = values.get("rendezvous");
  if (given === undefined) {
    throw new UsageError("--rendezvous is missing: name the server where the two sides meet");
  }
  const url = readSignalUrl("rendezvous", given);
  const { secrets, stdin } = openPeerInput(io);
  const proxy = await readProxy(commandLine, secrets);
  const servers = lists.get("server")!.map((server) =>
    readWith(() => plainServer(server), "--server")
  );
  const timeoutMs = readTimeoutMs(values.get("timeout"), MAX_TIMEOUT_MS);
  const events = new ConnectionEvents(io, { asJson: flags.has("json") });
  const options = { signal: io.signal, servers: servers.length > 0 ? servers : undefined };

  const named = await readRoom(operands, { url, proxy, timeoutMs, io, events });
  if (typeof named === "number") return named;
  const room = named ?? newRoom();
  await using code = named === undefined
    ? showCode(room, { url, proxy }, commandLine, { events, io })
    : undefined;
  readTypedAhead(io, stdin);
  events.signaling(withoutLogin(url), "opening");
  events.waitFor("Entering the room");
  await using channel = await enterRoom({ url, proxy }, room, events, io.signal);
  events.signaling(withoutLogin(url), "open");
  events.waitFor("Waiting for the other side", timeoutMs);
  showTypedBelow(io);
  if (!channel.isPeerPresent && named !== undefined) {
    events.print(`Waiting in room ${room} at ${shownUrl(url)} for the other side`);
  }
  const prepared = await prepareWhileWaiting(channel, options, timeoutMs);
  code?.hush();
  if (prepared === undefined) {
    events.waitOver();
    const where = named === undefined ? "" : ` room ${named}`;
    const message = `Cannot punch: the other side did not join${where} within ${
      limitText(timeoutMs!)
    }`;
    const remedy = "Start `punchline punch` on both sides, with the same rendezvous and room";
    printFailure({ message, remedy }, io);
    return EXIT.peerNotFound;
  }
  events.waitFor(`Found by ${wayName(url)}, connecting`, timeoutMs);
  try {
    await using stack = new AsyncDisposableStack();
    const conn = stack.adopt(
      await punch({ ...options, timeoutMs, channel, ...prepared }),
      (conn) => conn.close(),
    );
    events.connected(reportOf(conn));
    await pipeThrough(conn, io, stdin.rest()).catch(tellReset);
    events.closed();
    return EXIT.ok;
  } catch (error) {
    if (!(error instanceof UnreachableError)) throw error;
    events.waitOver();
    events.attempts(error.attempts);
    const failure = failureOf(error);
    const isRelay = error.remedy?.includes("`turn`") ?? false; // this command has none
    printFailure(isRelay ? { ...failure, remedy: WITHOUT_RELAY } : failure, io);
    return EXIT.failure;
  }
}

/** Where the two sides meet, and what reaches it. */
interface MeetingServer {
  readonly url: string;
  readonly proxy: ProxyOptions | undefined;
}

/**
 * The room that is named, or the one that is offered for a code.
 *
 * @returns `undefined` if there is no argument; an exit code if the code cannot be redeemed
 */
async function readRoom(
  operands: readonly string[],
  { url, proxy, timeoutMs = CODE_TIMEOUT_MS, io, events }: MeetingServer & {
    readonly timeoutMs: number | undefined;
    readonly io: CliIo;
    readonly events: ConnectionEvents;
  },
): Promise<string | number | undefined> {
  const text = operands.join(" ");
  if (operands.length === 0) return undefined;
  if (operands.length > 1 && !looksLikeCode(text)) {
    throw new UsageError(`too many arguments: ${operands.slice(1).join(" ")}`);
  }
  if (operands.length === 1 && !/^\d+(?:-[a-z]+){3}$/i.test(text)) return text;
  sayLooking(text, events);
  const { redeemText } = await import("../peer/codes.ts");
  await using pool = openPool(io, proxy);
  try {
    return await redeemText({ pool, urls: [url] }, text, { timeoutMs, signal: io.signal });
  } catch (error) {
    io.signal.throwIfAborted();
    if (error instanceof MalformedMessageError) {
      throw new UsageError(error.message, { cause: error });
    }
    return reportFailure(error, events, io, { demandsDirect: false });
  }
}

/** Offers the room for a code. */
function showCode(
  room: string,
  { url, proxy }: MeetingServer,
  given: Arguments,
  { events, io }: { readonly events: ConnectionEvents; readonly io: CliIo },
): ShownCode | undefined {
  if (given.flags.has("no-code")) {
    throw new UsageError("--no-code needs a room: name one, the same on both sides");
  }
  const peer: CodeSource = {
    ticket: room,
    offerCode: async (options) => {
      const { CodeOffer } = await import("../peer/codes.ts");
      const stack = new AsyncDisposableStack();
      const pool = stack.use(openPool(io, proxy));
      const offer = stack.use(
        new CodeOffer({ pool, urls: [url] }, { ...options, ticket: () => room }, () => {}),
      );
      try {
        await offer.ready(options.signal);
        return stack;
      } catch (error) {
        await stack[Symbol.asyncDispose]();
        throw error;
      }
    },
  };
  return ShownCode.start(given, { peer, events, io, command: "punch", signaling: [url] });
}

/** A random name, too long to guess. */
function newRoom(): string {
  return toBase64url(crypto.getRandomValues(new Uint8Array(16)));
}

async function enterRoom(
  { url, proxy }: MeetingServer,
  room: string,
  events: ConnectionEvents,
  signal: AbortSignal,
): Promise<WebSocketChannel> {
  try {
    const network = await networkThrough(proxy, url, signal);
    return await openWebSocketChannel(url, room, { network, signal });
  } catch (error) {
    if (!signal.aborted) events.signaling(withoutLogin(url), "failed", error);
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
    // The plan is about NATs: it may be impossible, and the two sides still be near each other.
    reason: punch.method === null ? pathInWords(punch) : punch.plan.reason,
  };
}

/** The connection is plain TCP: an interrupt at the other side looks as a failure of the network does. */
function tellReset(error: unknown): never {
  if (!(error instanceof NetworkError) || error.reason !== "reset") throw error;
  const remedy = "Run `punchline punch` on both sides again, unless the other side was interrupted";
  throw new NetworkError(error.message, error.reason, { cause: error, remedy });
}

/** How long to wait for the side that offers the code. Chosen by us: as for a peer. */
const CODE_TIMEOUT_MS = 30_000;

/** Chosen by us: some NATs drop an idle TCP mapping after one or two minutes. */
const MAPPING_MS = 30_000;

/** Chosen by us: an hour. */
const MAX_TIMEOUT_MS = 3_600_000;

const WITHOUT_RELAY =
  "Forward a port on one side's router, or connect by `punchline listen` and its ticket, which may use a relay";
