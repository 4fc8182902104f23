/**
 * TCP of the system. `node:net`, because it dials from a chosen local port (with SO_REUSEADDR, so that several
 * connections share it) and closes with RST; `Deno.connect` does neither. TLS is Deno's.
 *
 * @module
 */

import net from "node:net";
import { NetworkError } from "../../errors.ts";
import { ipFamily, parseIp, type TransportAddress } from "../address.ts";
import type {
  ConnectTcpOptions,
  ConnectTlsOptions,
  TcpConnection,
  TcpListener,
} from "../network.ts";
import { WaitQueue } from "../wait_queue.ts";
import { action, requireNet, toNetworkError } from "./platform.ts";

/** As {@linkcode Network.connectTcp}. */
export async function connectTcp(
  remote: TransportAddress,
  options: ConnectTcpOptions = {},
): Promise<TcpConnection> {
  const { local, signal } = options;
  requireNet(action("connect to", remote), remote.ip, remote.port);
  if (local !== undefined) requireNet(action("connect from", local), local.ip, local.port);
  signal?.throwIfAborted();
  const socket = new net.Socket({ allowHalfOpen: true });
  const { promise: connected, resolve, reject } = Promise.withResolvers<void>();
  const onAbort = () => reject(signal?.reason);
  socket.once("error", reject).once("connect", resolve);
  signal?.addEventListener("abort", onAbort, { once: true });
  try {
    socket.connect({
      host: remote.ip,
      port: remote.port,
      family: ipFamily(remote.ip),
      ...(local && { localAddress: local.ip, localPort: local.port }),
    });
    await connected;
    if (socket.remoteAddress === undefined) { // the peer has accepted and reset it already
      throw new NetworkError(`${action("connect to", remote)}: connection reset`, "reset");
    }
    return new NodeTcpConnection(socket);
  } catch (error) {
    socket.on("error", () => {}); // a late ICMP error of a dial that was given up
    socket.destroy();
    signal?.throwIfAborted();
    throw dialError(remote, local, error);
  } finally {
    socket.off("error", reject);
    signal?.removeEventListener("abort", onAbort);
  }
}

/** As {@linkcode Network.listenTcp}. */
export async function listenTcp(local: TransportAddress): Promise<TcpListener> {
  requireNet(action("listen on TCP", local), local.ip, local.port);
  const server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true });
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(
        { host: local.ip, port: local.port, ipv6Only: ipFamily(local.ip) === 6 },
        () => {
          server.off("error", reject);
          resolve();
        },
      );
    });
  } catch (error) {
    if (isInvalidArgument(error)) throw foreignAddress(action("listen on TCP", local), error);
    throw toNetworkError(action("listen on TCP", local), error);
  }
  return new NodeTcpListener(server);
}

/** `node:net` says EINVAL both for a local address that is not ours and for a 4-tuple that is in use. */
function dialError(
  remote: TransportAddress,
  local: TransportAddress | undefined,
  error: unknown,
): NetworkError {
  const cannot = action("connect to", remote);
  if (local === undefined || !isInvalidArgument(error)) return toNetworkError(cannot, error);
  if (!isBindable(local.ip)) return foreignAddress(`${cannot} from ${local.ip}`, error);
  const message = `${cannot} from port ${local.port}: it is connected there already`;
  return new NetworkError(message, "address-in-use", { cause: error });
}

function isInvalidArgument(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "EINVAL";
}

function foreignAddress(cannot: string, cause: unknown): NetworkError {
  return new NetworkError(`${cannot}: not an address of this machine`, "address-not-available", {
    cause,
  });
}

/** The system lets a listener open on its own addresses only. */
function isBindable(ip: string): boolean {
  try {
    Deno.listen({ hostname: ip, port: 0 }).close();
    return true;
  } catch {
    return false;
  }
}

/** As {@linkcode Network.connectTls}. */
export async function connectTls(
  remote: TransportAddress,
  options: ConnectTlsOptions,
): Promise<TcpConnection> {
  const { hostname, caCerts, signal } = options;
  requireNet(action("connect to", remote), remote.ip, remote.port);
  requireNet(action("connect to", remote), hostname, remote.port);
  signal?.throwIfAborted();
  let conn: Deno.Conn | undefined;
  const onAbort = () => conn && closeQuietly(conn);
  signal?.addEventListener("abort", onAbort, { once: true });
  try {
    // Deno.connect takes no signal: an abort before it returns takes effect when it does.
    const tcp = conn = await Deno.connect({ hostname: remote.ip, port: remote.port });
    signal?.throwIfAborted();
    const tls = conn = await Deno.startTls(tcp, { hostname, caCerts: [...caCerts ?? []] });
    await tls.handshake();
    return new TlsConnection(tls, remote);
  } catch (error) {
    if (conn) closeQuietly(conn);
    signal?.throwIfAborted();
    throw toNetworkError(action("connect to", remote), error);
  } finally {
    signal?.removeEventListener("abort", onAbort);
  }
}

class NodeTcpConnection implements TcpConnection {
  readonly local: TransportAddress;
  readonly remote: TransportAddress;
  readonly #socket: net.Socket;
  #unread: Uint8Array | null = null;
  #error: Error | undefined;
  #ended = false;
  #wake = () => {};

  constructor(socket: net.Socket) {
    this.#socket = socket;
    this.local = { ip: parseIp(socket.localAddress!), port: socket.localPort! };
    this.remote = { ip: parseIp(socket.remoteAddress!), port: socket.remotePort! };
    socket.on("readable", () => this.#wake());
    socket.on("end", () => {
      this.#ended = true;
      this.#wake();
    });
    socket.on("error", (error) => this.#error ??= error);
    socket.on("close", () => this.#wake());
  }

  async read(buffer: Uint8Array): Promise<number | null> {
    if (buffer.length === 0) return 0;
    for (;;) {
      const chunk = this.#unread ?? this.#socket.read() as Uint8Array | null;
      if (chunk !== null) {
        const length = Math.min(chunk.length, buffer.length);
        buffer.set(chunk.subarray(0, length));
        this.#unread = length < chunk.length ? chunk.subarray(length) : null;
        return length;
      }
      if (this.#ended) return null;
      if (this.#error !== undefined) throw toNetworkError(this.#cannot("read from"), this.#error);
      if (this.#socket.destroyed) throw this.#closedError("read from");
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
  }

  async write(data: Uint8Array): Promise<number> {
    if (this.#socket.destroyed) throw this.#closedError("write to");
    await new Promise<void>((resolve, reject) => {
      this.#socket.write(data, (error) => {
        error ? reject(toNetworkError(this.#cannot("write to"), this.#error ?? error)) : resolve();
      });
    });
    return data.length;
  }

  async closeWrite(): Promise<void> {
    await new Promise<void>((resolve) => this.#socket.end(() => resolve()));
  }

  close(): void {
    this.#socket.destroy();
  }

  reset(): void {
    this.#socket.resetAndDestroy();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #cannot(verb: string): string {
    return action(verb, this.remote);
  }

  #closedError(verb: string): NetworkError {
    if (this.#error !== undefined) return toNetworkError(this.#cannot(verb), this.#error);
    return new NetworkError(`${this.#cannot(verb)}: the connection is closed`, "closed");
  }
}

class NodeTcpListener implements TcpListener {
  readonly local: TransportAddress;
  readonly #server: net.Server;
  readonly #accepted = new WaitQueue<TcpConnection>(MAX_BACKLOG);

  constructor(server: net.Server) {
    this.#server = server;
    const { address, port } = server.address() as net.AddressInfo;
    this.local = { ip: parseIp(address), port };
    server.on("connection", (socket) => {
      // The peer may have gone already; then the socket has no address any more.
      if (socket.remoteAddress === undefined) return void socket.destroy();
      const connection = new NodeTcpConnection(socket);
      if (!this.#accepted.push(connection)) connection.reset();
    });
  }

  accept(options: { signal?: AbortSignal } = {}): Promise<TcpConnection> {
    return this.#accepted.next(options.signal);
  }

  close(): void {
    const reason = `${action("accept on", this.local)}: the listener is closed`;
    if (!this.#accepted.close(new NetworkError(reason, "closed"))) return;
    for (const connection of this.#accepted.drain()) connection.reset();
    this.#server.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

class TlsConnection implements TcpConnection {
  readonly local: TransportAddress;
  readonly remote: TransportAddress;
  readonly #conn: Deno.TlsConn;
  #closed = false;

  constructor(conn: Deno.TlsConn, remote: TransportAddress) {
    this.#conn = conn;
    const { hostname, port } = conn.localAddr as Deno.NetAddr;
    this.local = { ip: parseIp(hostname), port };
    this.remote = remote;
  }

  async read(buffer: Uint8Array): Promise<number | null> {
    try {
      return await this.#conn.read(buffer);
    } catch (error) {
      throw toNetworkError(action("read from", this.remote), error);
    }
  }

  async write(data: Uint8Array): Promise<number> {
    try {
      return await this.#conn.write(data);
    } catch (error) {
      throw toNetworkError(action("write to", this.remote), error);
    }
  }

  async closeWrite(): Promise<void> {
    await this.#conn.closeWrite();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    closeQuietly(this.#conn);
  }

  reset(): void {
    this.close(); // Deno offers no RST under TLS
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Deno throws BadResource where the other side of a race has closed it already. */
function closeQuietly(conn: Deno.Conn): void {
  try {
    conn.close();
  } catch (error) {
    if (!(error instanceof Deno.errors.BadResource)) throw error;
  }
}

/** Accepted connections that wait for accept(); further ones are reset. Ours: twice Linux's old somaxconn. */
const MAX_BACKLOG = 256;
