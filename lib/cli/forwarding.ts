/**
 * Forwarding by the commands: `listen` offers ports of this machine, `connect` forwards local ports to them. All
 * connections to a peer share one, each over a stream of its own.
 *
 * @module
 */

import { messageOf, RefusedError } from "../base/errors.ts";
import { TokenBucket } from "../base/rate_limiter.ts";
import { TaskGroup } from "../base/tasks.ts";
import { formatTransportAddress } from "../net/address.ts";
import type { Shortage, TcpConnection, UdpSocket } from "../net/network.ts";
import { shortageLogger } from "../net/shortage.ts";
import { systemNetwork } from "../net/system.ts";
import { connectUnix, listenUnix } from "../net/system/unix.ts";
import type { PeerConnection } from "../peer/connection.ts";
import { FIRST_COPY_BYTES, forward, serveForwards } from "../peer/forward.ts";
import { FORWARD_CODES, type ForwardEvent } from "../peer/forward_outcome.ts";
import type { UdpForwarder, UdpFront } from "../peer/forward_udp.ts";
import { loadLateModules } from "../peer/late_modules.ts";
import type { Peer } from "../peer/peer.ts";
import { REJECTION_CODES } from "../peer/rejection.ts";
import { type Front, frontName, type Offers } from "./forward_options.ts";
import { type CliIo, EXIT, printError } from "./io.ts";
import { loadExaminers } from "./network_watch.ts";
import { type ConnectionEvents, reportConnected, reportFailure } from "./peer_events.ts";
import { SharedConnection } from "./shared_connection.ts";
import { isNotAllowed } from "./ticket_urls.ts";
import { ReadAhead, WaitingConnections } from "./waiting_connections.ts";
import { abortable } from "@std/async/abortable";

/** Serves one connection of a peer that forwards, until it ends. */
export async function serveForwardsOf(
  connection: PeerConnection,
  { tcp, unix, udp, allow }: Offers,
  options: Omit<ForwardingOptions, "io"> & { readonly signal: AbortSignal },
): Promise<void> {
  const { signal } = options;
  using _hold = connection.hold();
  const lines = new TokenBucket(FAILURE_LINES, performance.now());
  let untold = 0;
  const onEvent = (event: ForwardEvent) => {
    if (event.event === "failed" && !lines.take(performance.now())) return void untold++;
    if (untold > 0) options.events.print(`${untold} more could not be forwarded`);
    untold = 0;
    report(event, options, "service");
  };
  const paths = unix.map((path) => ({
    name: path,
    connect: (signal: AbortSignal) => connectUnix(path, signal),
  }));
  await serveForwards(connection, { targets: [...tcp, ...paths], udp, allow, signal, onEvent });
}

/** Connects to the first target that `listen` offers, for a peer that asks for no forwarding; `undefined` without any. */
export function connectDefault(
  { tcp: [port], unix: [path] }: Offers,
  signal: AbortSignal,
): Promise<TcpConnection> | undefined {
  if (port !== undefined) return systemNetwork.connectTcp({ ip: LOOPBACK, port }, { signal });
  return path === undefined ? undefined : connectUnix(path, signal);
}

/** Forwards each connection to the fronts over a stream of its own, and each UDP flow, until it is interrupted. */
export async function forwardFronts(
  peer: Peer,
  ticket: string,
  fronts: readonly Front[],
  options: ForwardingOptions,
): Promise<number> {
  const { events, io } = options;
  await using stack = new AsyncDisposableStack();
  const waiting = new WaitingConnections(MAX_AT_ONCE);
  const idle = `Waiting for connections to ${fronts.map(frontName).join(", ")}`;
  const opened: OpenFront[] = [];
  for (const front of fronts) opened.push(stack.use(await openFront(front, waiting, io)));
  for (const front of fronts) {
    events.emit({
      event: "listening",
      local: front.kind === "unix" ? front.path : formatTransportAddress(front),
    });
    events.print(`Forwarding ${frontName(front)} to the peer`);
  }
  const exposed = fronts.find((front) => front.kind !== "unix" && front.ip !== LOOPBACK);
  if (exposed?.kind !== "unix" && exposed !== undefined) {
    events.print(
      `Warning: anyone who can connect to ${exposed.ip} uses your connection to the peer`,
    );
  }
  const ended = Promise.withResolvers<never>();
  const tasks = stack.use(new TaskGroup((error) => printError(error, io)));
  // A flood of the port may leave no file descriptor to load them with.
  tasks.run(() => Promise.all([loadLateModules(), loadExaminers(), loadSocks()]));
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
  const datagrams = fronts.some(({ kind }) => kind === "udp")
    ? new UdpFronts((await import("../peer/forward_udp.ts")).UdpForwarder, shared, options)
    : undefined;
  for (const { front, accept, socket } of opened) {
    const { target = "" } = front;
    tasks.run(async (signal) => {
      if (socket !== undefined) return await datagrams!.forward({ socket, target }, signal);
      for (;;) {
        const local = await accept!(signal);
        tasks.run((signal) => forwardOne(local, front, { shared, waiting, signal }, options));
      }
    });
  }
  try {
    await abortable(ended.promise, io.signal);
  } catch (error) {
    if (!io.signal.aborted) throw error;
  }
  await datagrams?.[Symbol.asyncDispose]();
  shared.reset(); // last: waiting after it would report that the connection has ended
  return EXIT.interrupted;
}

async function loadSocks() {
  return await import("./socks.ts");
}

interface ForwardingOptions {
  readonly events: ConnectionEvents;
  readonly isVerbose: boolean;
  readonly io: CliIo;
}

/** A front that is open: it accepts connections, or receives datagrams. */
interface OpenFront extends Disposable {
  readonly front: Front;
  readonly accept?: (signal: AbortSignal) => Promise<TcpConnection>;
  readonly socket?: UdpSocket;
}

async function openFront(front: Front, waiting: WaitingConnections, io: CliIo): Promise<OpenFront> {
  if (front.kind === "udp") {
    const socket = await systemNetwork.bindUdp(front);
    return { front, socket, [Symbol.dispose]: () => socket.close() };
  }
  if (front.kind === "unix") {
    const listener = await listenUnix(front.path);
    const accept = async (signal: AbortSignal) => {
      const onAbort = () => listener.close();
      signal.addEventListener("abort", onAbort, { once: true });
      try {
        return await listener.accept();
      } finally {
        signal.removeEventListener("abort", onAbort);
      }
    };
    return { front, accept, [Symbol.dispose]: () => listener.close() };
  }
  const note = shortageLogger(front, { warn: (text) => io.err(`punchline: ${text}`) });
  const onShortage = (shortage: Shortage) => {
    note(shortage);
    waiting.note(shortage);
  };
  const listener = await systemNetwork.listenTcp(front, {
    onShortage,
    firstReadBytes: FIRST_COPY_BYTES,
  });
  return {
    front,
    accept: (signal) => listener.accept({ signal }),
    [Symbol.dispose]: () => listener.close(),
  };
}

async function forwardOne(
  accepted: TcpConnection,
  front: Front,
  { shared, waiting, signal }: {
    readonly shared: SharedConnection;
    readonly waiting: WaitingConnections;
    readonly signal: AbortSignal;
  },
  options: ForwardingOptions,
): Promise<void> {
  let target = front.target ?? (front.kind === "unix" ? front.path : `${front.port}`);
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
    const onRequest = (host: string) => {
      target = host;
      report({ event: "opened", target }, options, "client");
    };
    if (front.kind === "socks") {
      await (await loadSocks()).forwardSocks(local, connection, { signal, onRequest });
    } else {
      report({ event: "opened", target }, options, "client");
      await forward(connection, local, { target: front.target, signal });
    }
    report({ event: "closed", target }, options, "client");
  } catch (error) {
    local.reset();
    if (signal.aborted || shared.hasFailedWith(error)) return;
    report({ event: "failed", target, error }, options, "client");
  }
}

/** The datagrams of all fronts, over whatever connection there is. */
class UdpFronts {
  readonly #Forwarder: typeof UdpForwarder;
  readonly #shared: SharedConnection;
  readonly #options: ForwardingOptions;
  #connection: PeerConnection | undefined;
  #forwarder: UdpForwarder | undefined;

  constructor(
    Forwarder: typeof UdpForwarder,
    shared: SharedConnection,
    options: ForwardingOptions,
  ) {
    this.#Forwarder = Forwarder;
    this.#shared = shared;
    this.#options = options;
  }

  /** Forwards what arrives at a front until the signal is aborted. */
  async forward(front: UdpFront, signal: AbortSignal): Promise<void> {
    for (;;) {
      const datagram = await front.socket.receive({ signal });
      try {
        const connection = this.#shared.connection ?? await abortable(this.#shared.get(), signal);
        this.#over(connection).forward(front, datagram);
      } catch (error) {
        if (!this.#shared.hasFailedWith(error)) throw error; // else it was reported: UDP may lose it
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#forwarder?.[Symbol.asyncDispose]();
  }

  #over(connection: PeerConnection): UdpForwarder {
    if (this.#forwarder !== undefined && this.#connection === connection) return this.#forwarder;
    this.#connection = connection; // the flows of another one have ended with it
    return this.#forwarder = new this.#Forwarder(
      connection,
      (event) => report(event, this.#options, "client"),
    );
  }
}

function report(
  { event, target, error, broken }: ForwardEvent,
  { events, isVerbose }: Omit<ForwardingOptions, "io">,
  side: "client" | "service",
): void {
  const name = target === "" ? "the first port" : target === "UDP" ? "the first UDP port" : target;
  if (event !== "failed") {
    if (isVerbose) events.print(event === "opened" ? `Opened ${name}` : `Closed ${name}`);
    return;
  }
  if (side === "service") {
    if (broken === undefined) events.print(messageOf(error));
    else if (broken === "peer") {
      events.print("Closed: the client at the other side broke the connection off");
    }
  } else if (error instanceof RefusedError) {
    events.print(`Closed: ${refusalText(error, target)}`);
  } else if (isVerbose) events.print(`Closed: ${messageOf(error)}`);
}

/** Why the peer refused, with what was asked for: one command may forward several ports. */
function refusalText({ message, code }: RefusedError, target: string): string {
  const why = message.replace("Cannot forward: ", "");
  if (code === FORWARD_CODES.unreachable) return `${why}; check that it runs`;
  if (code !== FORWARD_CODES.notOffered) return why;
  const asked = target === "" ? "a port" : target === "UDP" ? "a UDP port" : target;
  return `the peer does not offer ${asked}`;
}

function withRemedy(error: unknown): unknown {
  if (!(error instanceof RefusedError) || error.code !== REJECTION_CODES.protocol) return error;
  return new RefusedError("Cannot forward: the peer offers no port", error.code, {
    cause: error,
    remedy: "Start `punchline listen --tcp PORT` at the other side, of the same version",
  });
}

const LOOPBACK = "127.0.0.1";

/** Chosen by us: a peer that asks in vain, again and again, must not fill a log. */
const FAILURE_LINES = { burst: 20, perSecond: 1 };

/** Chosen by us: as many as the peer accepts streams. */
const MAX_AT_ONCE = 1024;
