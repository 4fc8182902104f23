/**
 * TCP connections and listeners of the system. They use `node:net`, which can dial from a given local port (with
 * SO_REUSEADDR, so that several connections share it) and close with RST; `Deno.connect` can do neither.
 *
 * @module
 */

import { NetworkError } from "../../base/errors.ts";
import { WaitQueue } from "../../base/wait_queue.ts";
import { ipFamily, parseIp, type TransportAddress } from "../address.ts";
import type {
  ConnectTcpOptions,
  DetachedConnection,
  ListenTcpOptions,
  TcpConnection,
  TcpListener,
} from "../network.ts";
import { isShortage } from "../shortage.ts";
import { type AcceptEvent, INITIAL_ACCEPT_STATE, stepAccept } from "./accept_engine.ts";
import { action, canReusePort, openReusingPort, requireNet, toNetworkError } from "./platform.ts";
import { SocketReader, withReader } from "./socket_reader.ts";
import net from "node:net";

/** As {@linkcode Network.connectTcp}. */
export async function connectTcp(
  remote: TransportAddress,
  options: ConnectTcpOptions = {},
): Promise<TcpConnection> {
  const { signal } = options;
  const family = ipFamily(remote.ip);
  const reusePort = options.reusePort === true && canReusePort();
  const local = options.local ?? (reusePort ? { ip: WILDCARD[family], port: 0 } : undefined);
  requireNet(action("connect to", remote), remote.ip, remote.port);
  if (local !== undefined) requireNet(action("connect from", local), local.ip, local.port);
  signal?.throwIfAborted();
  const reader = new SocketReader(options.firstReadBytes);
  const { promise: connected, resolve, reject } = Promise.withResolvers<void>();
  const onAbort = () => reject(signal?.reason);
  let socket: net.Socket | undefined;
  try {
    socket = openSocket(reader, reusePort ? local : undefined);
    socket.once("error", reject).once("connect", resolve);
    signal?.addEventListener("abort", onAbort, { once: true });
    const bound = reusePort ? undefined : local; // a shared port is bound already
    socket.connect({
      host: remote.ip,
      port: remote.port,
      family,
      localAddress: bound?.ip,
      localPort: bound?.port,
    });
    await connected;
    const ends = endsOf(socket);
    if (ends === undefined) { // the peer has accepted the connection and already reset it
      throw new NetworkError(`${action("connect to", remote)}: connection reset`, "reset");
    }
    return new SystemTcpConnection(socket, reader, ends);
  } catch (error) {
    socket?.on("error", () => {}); // a late ICMP error after the dial was cancelled
    socket?.destroy();
    signal?.throwIfAborted();
    throw dialError(remote, local, error);
  } finally {
    socket?.off("error", reject);
    signal?.removeEventListener("abort", onAbort);
  }
}

/** As {@linkcode Network.listenTcp}. */
export async function listenTcp(
  local: TransportAddress,
  options: ListenTcpOptions = {},
): Promise<TcpListener> {
  requireNet(action("listen on TCP", local), local.ip, local.port);
  try {
    const where = {
      host: local.ip,
      port: local.port,
      ipv6Only: ipFamily(local.ip) === 6,
      reusePort: options.reusePort === true && canReusePort(),
    };
    return new SystemTcpListener(await listen(where, options.admits), options);
  } catch (error) {
    if (isInvalidArgument(error)) throw foreignAddress(action("listen on TCP", local), error);
    throw toNetworkError(action("listen on TCP", local), error);
  }
}

/**
 * A connection that a server has accepted; `undefined` if the peer has already reset it.
 *
 * @param socket must not have started to read; taken over
 */
function acceptedConnection(
  socket: net.Socket,
  { firstReadBytes }: ListenTcpOptions,
): TcpConnection | undefined {
  const ends = endsOf(socket); // read at once: the peer may reset the connection at any moment
  if (ends === undefined) return void socket.destroy();
  const reader = new SocketReader(firstReadBytes);
  return new SystemTcpConnection(withReader(socket, reader), reader, ends);
}

/** Takes over a connection that another thread has given up, by its file descriptor; `undefined` if the peer has already reset it. */
export function attachTcp(fd: number): TcpConnection | undefined {
  const reader = new SocketReader();
  const socket = new net.Socket({ fd, allowHalfOpen: true, onread: reader.onread });
  const ends = endsOf(socket);
  if (ends === undefined) return void socket.destroy();
  return new SystemTcpConnection(socket, reader, ends);
}

/** Whether `node:net` refuses the arguments of a call, which it does for a local address that is not ours. */
function isInvalidArgument(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "EINVAL";
}

/** The error for a local address that is not one of this machine. */
function foreignAddress(cannot: string, cause: unknown): NetworkError {
  return new NetworkError(`${cannot}: not an address of this machine`, "address-not-available", {
    cause,
  });
}

/** The two addresses of a connection. */
interface ConnectionEnds {
  readonly local: TransportAddress;
  readonly remote: TransportAddress;
}

/** The addresses of a connected socket, or `undefined` if the peer has already reset it: then it has none. */
function endsOf(socket: net.Socket): ConnectionEnds | undefined {
  const { localAddress, localPort, remoteAddress, remotePort } = socket;
  if (localAddress === undefined || localPort === undefined) return undefined;
  if (remoteAddress === undefined || remotePort === undefined) return undefined;
  return {
    local: { ip: parseIp(localAddress), port: localPort },
    remote: { ip: parseIp(remoteAddress), port: remotePort },
  };
}

/** A TCP connection of the system. */
class SystemTcpConnection implements TcpConnection {
  readonly local: TransportAddress;
  readonly remote: TransportAddress;
  readonly #socket: net.Socket;
  readonly #reader: SocketReader;
  #isClosed = false;

  /**
   * @param socket a connected socket, owned by this object
   * @param reader the reader that the socket reads into
   */
  constructor(socket: net.Socket, reader: SocketReader, { local, remote }: ConnectionEnds) {
    this.#socket = socket;
    this.#reader = reader;
    this.local = local;
    this.remote = remote;
    // Two small messages in a row are common here, and Nagle's algorithm would delay the second by a round trip.
    socket.setNoDelay(true);
    reader.attach(socket, (error) => this.#failure("read from", error));
  }

  read(buffer: Uint8Array): Promise<number | null> {
    return this.#reader.read(buffer);
  }

  write(data: Uint8Array): Promise<number> {
    const socket = this.#socket;
    if (socket.destroyed) return Promise.reject(this.#failure("write to", socket.errored));
    // Usually the system accepts everything at once; a callback would cost as much as a small write.
    socket.write(data);
    if (socket.writableLength === 0 && socket.errored === null) return Promise.resolve(data.length);
    return new Promise((resolve, reject) => {
      socket.write(NOTHING, (error) => { // after the data
        error ? reject(this.#failure("write to", error)) : resolve(data.length);
      });
    });
  }

  async closeWrite(): Promise<void> {
    const socket = this.#socket;
    if (socket.writableFinished) return;
    if (socket.destroyed) throw this.#failure("close", socket.errored);
    await new Promise<void>((resolve, reject) => {
      socket.end((error?: Error | null) => {
        error ? reject(this.#failure("close", error)) : resolve();
      });
    });
  }

  close(): void {
    this.#end(() => this.#socket.destroy());
  }

  reset(): void {
    this.#end(() => this.#socket.resetAndDestroy());
  }

  ref(): void {
    this.#socket.ref();
  }

  unref(): void {
    this.#socket.unref();
  }

  detach(): DetachedConnection | undefined {
    if (this.#isClosed || this.#socket.writableLength > 0 || this.#socket.writableEnded) return;
    const unread = this.#reader.detach();
    const fd = unread && descriptorOf(this.#socket);
    if (fd === undefined) return undefined;
    this.close(); // the descriptor is a duplicate
    return { fd, unread: unread! };
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #end(end: () => void): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#reader.close(() => this.#failure("read from"));
    end();
  }

  #failure(verb: string, error?: Error | null): NetworkError {
    const cannot = action(verb, this.remote);
    const own = this.#socket.errored ?? error; // the original error, not the one of the streams
    if (!this.#isClosed && own) return toNetworkError(cannot, own);
    return new NetworkError(`${cannot}: the connection is closed`, "closed");
  }
}

/** @param shared the address to bind immediately, with a shared port */
function openSocket(reader: SocketReader, shared?: TransportAddress): net.Socket {
  const options = { allowHalfOpen: true, onread: reader.onread };
  if (shared === undefined) return new net.Socket(options);
  const withHandle = { ...options, handle: openReusingPort(shared), manualStart: true };
  return new net.Socket(withHandle);
}

/** `node:net` reports EINVAL both for a local address that is not ours and for a 4-tuple that is in use. */
function dialError(
  remote: TransportAddress,
  local: TransportAddress | undefined,
  error: unknown,
): NetworkError {
  const cannot = action("connect to", remote);
  if (local === undefined || !isInvalidArgument(error)) return toNetworkError(cannot, error);
  if (!isBindable(local.ip)) return foreignAddress(`${cannot} from ${local.ip}`, error);
  const message = `${cannot} from port ${local.port}: it is already connected there`;
  return new NetworkError(message, "address-in-use", { cause: error });
}

/** Listeners can be opened only on the addresses of this system. */
function isBindable(ip: string): boolean {
  try {
    Deno.listen({ hostname: ip, port: 0 }).close();
    return true;
  } catch {
    return false;
  }
}

class SystemTcpListener implements TcpListener {
  readonly local: TransportAddress;
  readonly #accepted = new WaitQueue<TcpConnection>(MAX_BACKLOG);
  readonly #options: ListenTcpOptions;
  #server: net.Server;
  #state = INITIAL_ACCEPT_STATE;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(server: net.Server, options: ListenTcpOptions) {
    const { address, port } = server.address() as net.AddressInfo;
    this.local = { ip: parseIp(address), port };
    this.#options = options;
    this.#server = server;
    this.#attend(server);
    if (canRenew(server)) this.#wait(INITIAL_ACCEPT_STATE.waitMs);
  }

  accept(options: { signal?: AbortSignal } = {}): Promise<TcpConnection> {
    return this.#accepted.next(options.signal);
  }

  close(): void {
    const reason = `${action("accept on", this.local)}: the listener is closed`;
    this.#end(new NetworkError(reason, "closed"));
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #end(error: NetworkError): void {
    if (!this.#accepted.close(error)) return;
    clearTimeout(this.#timer);
    for (const connection of this.#accepted.drain()) connection.reset();
    this.#server.close();
  }

  #attend(server: net.Server): void {
    server.on("connection", (socket) => {
      this.#handle({ kind: "accepted" });
      const connection = acceptedConnection(socket, this.#options);
      if (connection !== undefined && !this.#accepted.push(connection)) connection.reset();
    });
  }

  #handle(event: AcceptEvent): void {
    const { state, actions } = stepAccept(this.#state, event);
    this.#state = state;
    for (const next of actions) {
      if (next.kind === "renew") this.#renew();
      if (next.kind === "wait") this.#wait(next.ms);
      if (next.kind === "report") this.#options.onShortage?.(next.shortage);
    }
  }

  #wait(ms: number): void {
    this.#timer = setTimeout(() => this.#handle({ kind: "time" }), ms);
    Deno.unrefTimer(this.#timer);
  }

  async #renew(): Promise<void> {
    let renewed: net.Server | undefined;
    try {
      renewed = await renew(this.#server, this.#options.admits);
    } catch (error) {
      return this.#end(toNetworkError(action("accept on", this.local), error));
    }
    if (this.#accepted.isClosed) return void renewed?.close();
    if (renewed === undefined) return this.#handle({ kind: "out-of-descriptors" });
    this.#attend(renewed);
    this.#server.close();
    this.#server = renewed;
    this.#handle({ kind: "renewed" });
  }
}

/**
 * Asks before `node:net` makes a socket for a connection, which takes several times as long as to close it. To a flood,
 * most of a server's work would be such sockets.
 */
class AdmissionList extends net.BlockList {
  readonly #admits: (ip: string) => boolean;

  constructor(admits: (ip: string) => boolean) {
    super();
    this.#admits = admits;
  }

  override check(address: unknown): boolean {
    return typeof address === "string" && !this.#admits(parseIp(address));
  }
}

/** Listens, and throws the system's error. */
async function listen(
  where: net.ListenOptions | { fd: number },
  admits: ListenTcpOptions["admits"],
): Promise<net.Server> {
  const blockList = admits && new AdmissionList(admits);
  const server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true, blockList });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(where, () => {
      server.off("error", reject);
      resolve();
    });
  });
  return server;
}

/** A new file descriptor of a socket; `undefined` if the platform has none to give. */
function descriptorOf(socket: net.Socket | net.Server): number | undefined {
  const fd = Deno.build.os === "windows" ? -1 : handleOf(socket)?.fdForIpc() ?? -1;
  return fd < 0 ? undefined : fd;
}

/** Another server on the same socket; `undefined` if there is no file descriptor for it. Throws other errors as they are. */
async function renew(
  server: net.Server,
  admits: ListenTcpOptions["admits"],
): Promise<net.Server | undefined> {
  const fd = descriptorOf(server);
  try {
    return fd === undefined ? undefined : await listen({ fd }, admits);
  } catch (error) {
    if (isShortage(error)) return undefined;
    throw error;
  }
}

/** Whether the platform can duplicate a listener. On Windows, it cannot. */
function canRenew(server: net.Server): boolean {
  return Deno.build.os !== "windows" && handleOf(server) !== undefined;
}

/** The internal handle beneath a socket. Because it is not a public API, its shape is checked before every use. */
function handleOf(socket: net.Socket | net.Server): SocketHandle | undefined {
  const handle: unknown = "_handle" in socket ? socket._handle : undefined;
  return isSocketHandle(handle) ? handle : undefined;
}

interface SocketHandle {
  /** A new file descriptor of the same socket; negative on failure. */
  fdForIpc(): number;
}

function isSocketHandle(value: unknown): value is SocketHandle {
  return typeof value === "object" && value !== null && "fdForIpc" in value &&
    typeof value.fdForIpc === "function";
}

const NOTHING = new Uint8Array(0);

const WILDCARD = { 4: "0.0.0.0", 6: "::" };

/** Connections that wait for accept(); further ones are reset. Chosen by us: twice the old somaxconn of Linux. */
const MAX_BACKLOG = 256;
