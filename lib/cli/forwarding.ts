/**
 * Forwarding by the commands: `listen` offers ports of this machine, `connect` forwards local ports to them. All
 * connections to a peer share one, each over a stream of its own.
 *
 * @module
 */

import { messageOf, RefusedError } from "../base/errors.ts";
import { TaskGroup } from "../base/tasks.ts";
import { formatTransportAddress, isIp, parseIp } from "../net/address.ts";
import type { Shortage, TcpConnection, TcpListener } from "../net/network.ts";
import { shortageLogger } from "../net/shortage.ts";
import { systemNetwork } from "../net/system.ts";
import type { PeerConnection } from "../peer/connection.ts";
import { forward, FORWARD_CODES, type ForwardEvent, serveForwards } from "../peer/forward.ts";
import { loadLateModules } from "../peer/late_modules.ts";
import type { Peer } from "../peer/peer.ts";
import { REJECTION_CODES } from "../peer/rejection.ts";
import type { Arguments } from "./arguments.ts";
import { readInteger } from "./arguments.ts";
import { type CliIo, EXIT, printError, UsageError } from "./io.ts";
import { loadExaminers } from "./network_watch.ts";
import { type ConnectionEvents, reportConnected, reportFailure } from "./peer_events.ts";
import { readSocksRequest, replyToSocks, SOCKS_REPLIES } from "./socks.ts";
import { isNotAllowed } from "./ticket_urls.ts";
import { ReadAhead, WaitingConnections } from "./waiting_connections.ts";
import { abortable } from "@std/async/abortable";

/** The protocol that `connect` asks for if it forwards. */
export const FORWARD_PROTOCOL = "forward";

/** What `listen` offers. */
export interface Offers {
  readonly ports: readonly number[];
  readonly allow: readonly string[];
}

/** A local port of `connect`. */
export interface LocalPort {
  /** The address to listen on. */
  readonly ip: string;
  readonly port: number;
  /** What the other side calls the target; `undefined` for its first. */
  readonly target: string | undefined;
  readonly isSocks: boolean;
}

/**
 * What `listen` offers, as the command line says.
 *
 * @throws {UsageError} if a port or a host is invalid
 */
export function readOffers({ lists }: Pick<Arguments, "lists">): Offers | undefined {
  const ports = lists.get("tcp")!.map((text) => readInteger("tcp", text, PORTS)!);
  const allow = lists.get("allow-to")!;
  for (const text of allow) {
    if (/^(?:\*|[\w.-]+|\[[\da-f:.]+\]):[1-9]\d{0,4}$/i.test(text)) continue;
    throw new UsageError(`--allow-to takes HOST:PORT or *:PORT, not ${text}`);
  }
  return ports.length + allow.length === 0 ? undefined : { ports, allow };
}

/**
 * The local ports of `connect`, as the command line says.
 *
 * @throws {UsageError} if one is invalid, or named twice
 */
export function readLocalPorts(
  { lists, values }: Pick<Arguments, "lists" | "values">,
): LocalPort[] {
  const bind = values.get("bind") ?? LOOPBACK;
  if (!isIp(bind)) throw new UsageError(`--bind takes an IP address, not ${bind}`);
  const ip = parseIp(bind);
  const forwarded = lists.get("tcp")!.map((text): LocalPort => {
    const [local, ...rest] = text.split(":");
    const port = readInteger("tcp", local!, PORTS)!;
    const target = rest.length === 0 ? undefined : rest.join(":");
    if (target === "") throw new UsageError(`--tcp takes LOCAL[:REMOTE], not ${text}`);
    return { ip, port, target, isSocks: false };
  });
  const socks = readInteger("socks", values.get("socks"), PORTS);
  const ports = socks === undefined
    ? forwarded
    : [...forwarded, { ip, port: socks, target: undefined, isSocks: true }];
  const twice = ports.find(({ port }, index) =>
    ports.findIndex((each) => each.port === port) < index
  );
  if (values.has("bind") && ports.length === 0) {
    throw new UsageError("--bind needs --tcp or --socks");
  }
  if (twice !== undefined) throw new UsageError(`port ${twice.port} is named twice`);
  return ports;
}

/** Serves one connection of a peer that forwards, until it ends. */
export async function serveForwardsOf(
  connection: PeerConnection,
  { ports, allow }: Offers,
  { events, isVerbose, signal }: {
    readonly events: ConnectionEvents;
    readonly isVerbose: boolean;
    readonly signal: AbortSignal;
  },
): Promise<void> {
  using _hold = connection.hold();
  const onEvent = (event: ForwardEvent) => report(event, events, { isVerbose, isService: true });
  await serveForwards(connection, { targets: ports, allow, signal, onEvent });
}

/** Forwards each connection to the local ports over a stream of its own, until it is interrupted. */
export async function forwardPorts(
  peer: Peer,
  ticket: string,
  ports: readonly LocalPort[],
  { events, isVerbose, io }: {
    readonly events: ConnectionEvents;
    readonly isVerbose: boolean;
    readonly io: CliIo;
  },
): Promise<number> {
  await using stack = new AsyncDisposableStack();
  const waiting = new WaitingConnections(MAX_AT_ONCE);
  const idle = `Waiting for connections to ${ports.map(formatTransportAddress).join(", ")}`;
  const listeners: TcpListener[] = [];
  for (const address of ports) {
    const note = shortageLogger(address, { warn: (text) => io.err(`punchline: ${text}`) });
    const onShortage = (shortage: Shortage) => {
      note(shortage);
      waiting.note(shortage);
    };
    listeners.push(stack.use(await systemNetwork.listenTcp(address, { onShortage })));
  }
  for (const address of ports) {
    const local = formatTransportAddress(address);
    events.emit({ event: "listening", local });
    events.print(`Forwarding ${local}${address.isSocks ? " (SOCKS5)" : ""} to the peer`);
  }
  if (ports[0]!.ip !== LOOPBACK) {
    events.print(
      `Warning: anyone who can connect to ${ports[0]!.ip} uses your connection to the peer`,
    );
  }
  const ended = Promise.withResolvers<never>();
  const tasks = stack.use(new TaskGroup((error) => printError(error, io)));
  // A flood of the port may leave no file descriptor to load them with.
  tasks.run(() => Promise.all([loadLateModules(), loadExaminers()]));
  const shared = new SharedConnection((signal) => peer.connect(ticket, { signal }), tasks, {
    onConnected: (connection) => {
      reportConnected(connection, events);
      events.waitFor(idle);
    },
    onFailed: (error) => {
      if (isNotAllowed(error)) ended.reject(error); // nor will it be for the next connection
      else reportFailure(withRemedy(error), events, io, { demandsDirect: false });
    },
    onEnded: (reason) => {
      events.closed(reason);
      events.waitFor(idle);
    },
  });
  shared.get().catch(() => {}); // what connects first then need not wait; it is reported
  for (const [index, listener] of listeners.entries()) {
    tasks.run(async (signal) => {
      for (;;) {
        const local = await listener.accept({ signal });
        tasks.run((signal) =>
          forwardOne(local, ports[index]!, { shared, waiting, events, isVerbose, signal })
        );
      }
    });
  }
  try {
    await abortable(ended.promise, io.signal);
  } catch (error) {
    if (!io.signal.aborted) throw error;
  }
  shared.reset();
  return EXIT.interrupted;
}

async function forwardOne(
  accepted: TcpConnection,
  { port, target, isSocks }: LocalPort,
  { shared, waiting, events, isVerbose, signal }: {
    readonly shared: SharedConnection;
    readonly waiting: WaitingConnections;
    readonly events: ConnectionEvents;
    readonly isVerbose: boolean;
    readonly signal: AbortSignal;
  },
): Promise<void> {
  const name = target ?? `${port}`;
  let [local, connection] = [accepted, shared.connection];
  try {
    if (connection === undefined) {
      const reading = new ReadAhead(accepted);
      local = reading;
      connection = await waiting.through(
        reading,
        (givenUp) => abortable(shared.get(), AbortSignal.any([signal, givenUp])),
      );
    }
    if (isVerbose) {
      report({ event: "opened", target: name }, events, { isVerbose, isService: false });
    }
    if (isSocks) await forwardSocks(local, connection, signal);
    else await forward(connection, local, { target, signal });
    report({ event: "closed", target: name }, events, { isVerbose, isService: false });
  } catch (error) {
    local.reset();
    if (signal.aborted || shared.hasFailedWith(error)) return;
    report({ event: "failed", target: name, error }, events, { isVerbose, isService: false });
  }
}

async function forwardSocks(
  local: TcpConnection,
  connection: PeerConnection,
  signal: AbortSignal,
): Promise<void> {
  const dial = await readSocksRequest(local);
  let isDialled = false;
  const onDialled = () => {
    isDialled = true;
    return replyToSocks(local, SOCKS_REPLIES.succeeded);
  };
  const kept = new KeptOpen(local);
  try {
    await forward(connection, kept, { dial, onDialled, signal });
  } catch (error) {
    if (!isDialled && !signal.aborted) {
      const isRefused = error instanceof RefusedError && error.code === FORWARD_CODES.notOffered;
      await replyToSocks(local, isRefused ? SOCKS_REPLIES.notAllowed : SOCKS_REPLIES.refused);
      await local.closeWrite();
    }
    throw error;
  }
}

/** One connection to the peer for all who ask, made again for the next one after it has ended. */
class SharedConnection {
  readonly #connect: (signal: AbortSignal) => Promise<PeerConnection>;
  readonly #tasks: TaskGroup;
  readonly #on: SharedConnectionEvents;
  #current: Promise<PeerConnection> | undefined;
  #connection: PeerConnection | undefined;
  #lastFailure: unknown;

  constructor(
    connect: (signal: AbortSignal) => Promise<PeerConnection>,
    tasks: TaskGroup,
    on: SharedConnectionEvents,
  ) {
    this.#connect = connect;
    this.#tasks = tasks;
    this.#on = on;
  }

  /** The connection, if there is one already. */
  get connection(): PeerConnection | undefined {
    return this.#connection;
  }

  get(): Promise<PeerConnection> {
    return this.#current ??= this.#open();
  }

  /** Whether this was reported already, as why there is no connection. */
  hasFailedWith(error: unknown): boolean {
    return error === this.#lastFailure;
  }

  reset(): void {
    this.#connection?.reset();
  }

  #open(): Promise<PeerConnection> {
    const { promise, resolve, reject } = Promise.withResolvers<PeerConnection>();
    this.#tasks.run(async (signal) => {
      try {
        const connection = await this.#connect(signal);
        const hold = connection.hold();
        this.#connection = connection;
        this.#on.onConnected(connection);
        resolve(connection);
        const reason = await connection.finished.then(() => undefined, messageOf);
        hold[Symbol.dispose]();
        this.#current = this.#connection = undefined;
        if (!signal.aborted) this.#on.onEnded(reason);
      } catch (error) {
        this.#current = undefined;
        this.#lastFailure = error;
        reject(error);
        if (!signal.aborted) this.#on.onFailed(error);
      }
    });
    return promise;
  }
}

interface SharedConnectionEvents {
  readonly onConnected: (connection: PeerConnection) => void;
  readonly onFailed: (error: unknown) => void;
  /** With the reason, unless both sides have ended it. */
  readonly onEnded: (reason: string | undefined) => void;
}

/** A client that is answered before its connection is closed. */
class KeptOpen implements TcpConnection {
  readonly #inner: TcpConnection;
  readonly local;
  readonly remote;
  #isUsed = false;

  constructor(inner: TcpConnection) {
    this.#inner = inner;
    this.local = inner.local;
    this.remote = inner.remote;
  }

  read(buffer: Uint8Array): Promise<number | null> {
    this.#isUsed = true;
    return this.#inner.read(buffer);
  }

  write(data: Uint8Array): Promise<number> {
    return this.#inner.write(data);
  }

  closeWrite(): Promise<void> {
    return this.#inner.closeWrite();
  }

  close(): void {
    this.#inner.close();
  }

  reset(): void {
    if (this.#isUsed) this.#inner.reset();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function report(
  { event, target, error, broken }: ForwardEvent,
  events: ConnectionEvents,
  { isVerbose, isService }: { readonly isVerbose: boolean; readonly isService: boolean },
): void {
  const name = target === "" ? "the first port" : target;
  if (event !== "failed") {
    if (isVerbose) events.print(event === "opened" ? `Opened ${name}` : `Closed ${name}`);
    return;
  }
  if (isService) {
    if (broken === undefined) events.print(messageOf(error));
    else if (broken === "peer") {
      events.print("Closed: the client at the other side broke the connection off");
    }
  } else if (error instanceof RefusedError) {
    const hint = error.code === FORWARD_CODES.unreachable ? "; check that it runs" : "";
    events.print(`Closed: ${error.message.replace("Cannot forward: ", "")}${hint}`);
  } else if (isVerbose) events.print(`Closed: ${messageOf(error)}`);
}

function withRemedy(error: unknown): unknown {
  if (!(error instanceof RefusedError) || error.code !== REJECTION_CODES.protocol) return error;
  return new RefusedError("Cannot forward: the peer offers no port", error.code, {
    cause: error,
    remedy: "Start `punchline listen --tcp PORT` at the other side",
  });
}

const LOOPBACK = "127.0.0.1";

const PORTS = { min: 1, max: 65_535 };

/** Chosen by us: as many as the peer accepts streams. */
const MAX_AT_ONCE = 1024;
