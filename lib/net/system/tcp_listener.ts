/**
 * TCP listeners of the system. They use `node:net`, whose connections can be closed with RST. A server of `node:net` that
 * has run out of file descriptors once never accepts again, and raises no event; so its handle is renewed from time to
 * time: see `accept_engine.ts`. `Deno.listen` recovers by itself, but its connections always send FIN first.
 *
 * @module
 */

import { NetworkError } from "../../base/errors.ts";
import { WaitQueue } from "../../base/wait_queue.ts";
import { ipFamily, parseIp, type TransportAddress } from "../address.ts";
import type { ListenTcpOptions, TcpConnection, TcpListener } from "../network.ts";
import { type AcceptEvent, IDLE_MS, NEW_ACCEPT_STATE, step } from "./accept_engine.ts";
import { action, requireNet, toNetworkError } from "./platform.ts";
import { canReusePort } from "./reuse_port.ts";
import { acceptedConnection, foreignAddress, isInvalidArgument } from "./tcp.ts";
import net from "node:net";

/** As {@linkcode Network.listenTcp}. */
export async function listenTcp(
  local: TransportAddress,
  options: ListenTcpOptions = {},
): Promise<TcpListener> {
  requireNet(action("listen on TCP", local), local.ip, local.port);
  try {
    const server = await listen({
      host: local.ip,
      port: local.port,
      ipv6Only: ipFamily(local.ip) === 6,
      reusePort: options.reusePort === true && canReusePort(),
    });
    return new SystemTcpListener(server, options.onShortage);
  } catch (error) {
    if (isInvalidArgument(error)) throw foreignAddress(action("listen on TCP", local), error);
    throw toNetworkError(action("listen on TCP", local), error);
  }
}

class SystemTcpListener implements TcpListener {
  readonly local: TransportAddress;
  readonly #accepted = new WaitQueue<TcpConnection>(MAX_BACKLOG);
  readonly #onShortage: ListenTcpOptions["onShortage"];
  #server: net.Server;
  #state = NEW_ACCEPT_STATE;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(server: net.Server, onShortage: ListenTcpOptions["onShortage"]) {
    const { address, port } = server.address() as net.AddressInfo;
    this.local = { ip: parseIp(address), port };
    this.#onShortage = onShortage;
    this.#server = server;
    this.#attend(server);
    if (canRenew(server)) this.#wait(IDLE_MS);
  }

  accept(options: { signal?: AbortSignal } = {}): Promise<TcpConnection> {
    return this.#accepted.next(options.signal);
  }

  close(): void {
    const reason = `${action("accept on", this.local)}: the listener is closed`;
    if (!this.#accepted.close(new NetworkError(reason, "closed"))) return;
    clearTimeout(this.#timer);
    for (const connection of this.#accepted.drain()) connection.reset();
    this.#server.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #attend(server: net.Server): void {
    server.on("connection", (socket) => {
      this.#handle({ kind: "accepted" });
      const connection = acceptedConnection(socket);
      if (connection !== undefined && !this.#accepted.push(connection)) connection.reset();
    });
  }

  #handle(event: AcceptEvent): void {
    const { state, actions } = step(this.#state, event);
    this.#state = state;
    for (const next of actions) {
      if (next.kind === "renew") this.#renew();
      if (next.kind === "wait") this.#wait(next.ms);
      if (next.kind === "report") this.#onShortage?.(next.shortage);
    }
  }

  #wait(ms: number): void {
    this.#timer = setTimeout(() => this.#handle({ kind: "due" }), ms);
    Deno.unrefTimer(this.#timer);
  }

  async #renew(): Promise<void> {
    const renewed = await renew(this.#server);
    if (this.#accepted.isClosed) return void renewed?.close();
    if (renewed === undefined) return this.#handle({ kind: "out-of-descriptors" });
    this.#attend(renewed);
    this.#server.close();
    this.#server = renewed;
    this.#handle({ kind: "renewed" });
  }
}

/** Listens, and throws the system's error. */
async function listen(where: net.ListenOptions | { fd: number }): Promise<net.Server> {
  const server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(where, () => {
      server.off("error", reject);
      resolve();
    });
  });
  return server;
}

/** Another server on the same socket; `undefined` if there is no file descriptor for it. */
async function renew(server: net.Server): Promise<net.Server | undefined> {
  const fd = handleOf(server)?.fdForIpc() ?? -1;
  try {
    return fd < 0 ? undefined : await listen({ fd });
  } catch {
    return undefined; // the next attempt tells whether it is more than a shortage
  }
}

/** Whether the platform can duplicate a listener. On Windows, it cannot. */
function canRenew(server: net.Server): boolean {
  return Deno.build.os !== "windows" && handleOf(server) !== undefined;
}

/** The internal handle beneath a server. Because it is not a public API, its shape is checked before every use. */
function handleOf(server: net.Server): ListeningHandle | undefined {
  const handle: unknown = "_handle" in server ? server._handle : undefined;
  return isListeningHandle(handle) ? handle : undefined;
}

interface ListeningHandle {
  /** A new file descriptor of the same socket; negative if there is none. */
  fdForIpc(): number;
}

function isListeningHandle(value: unknown): value is ListeningHandle {
  return typeof value === "object" && value !== null && "fdForIpc" in value &&
    typeof value.fdForIpc === "function";
}

/** Connections that wait for accept(); further ones are reset. Chosen by us: twice the old somaxconn of Linux. */
const MAX_BACKLOG = 256;
