/**
 * What carries a client's requests: UDP, which loses them, or a TCP or TLS connection.
 *
 * @module
 */

import { NoResponseError } from "../base/errors.ts";
import { formatTransportAddress, type TransportAddress } from "../net/address.ts";
import type { Network, TcpConnection, UdpSocket } from "../net/network.ts";
import { type Exchanged, exchangeWithServer } from "../net/retransmit.ts";
import { MessageReader, writeMessage } from "./framing.ts";

/** What STUN runs over: RFC 8489 §6.2. */
export type StunTransport = "udp" | "tcp" | "tls";

/** A way to one server. */
export interface StunChannel {
  /** Where it leaves from; over UDP the IP may be the wildcard. */
  readonly local: TransportAddress;
  /**
   * Sends a request and waits for what `accept` takes as its answer. `accept` is called with messages that
   * came from the server's very address, and returns `undefined` for those that are not the answer.
   *
   * @throws {NoResponseError} if none came in time
   * @throws {MalformedMessageError} if something came, and none of it was STUN
   */
  transact<T>(
    request: Uint8Array,
    accept: (message: Uint8Array) => T | undefined,
  ): Promise<Exchanged<T>>;
}

/** How long a channel waits. */
export interface StunPatience {
  /** The waits of RFC 8489 §6.2.1; over TCP and TLS only their sum counts. */
  readonly waitsMs: readonly number[];
  readonly signal?: AbortSignal;
}

/** What {@linkcode StreamChannel.open} takes. */
export interface StreamChannelOptions extends StunPatience {
  readonly network: Network;
  readonly transport: "tcp" | "tls";
  /** Where to leave from; the system's choice unless given. Not for TLS. */
  readonly local?: TransportAddress;
  /** The name in the certificate; for TLS. */
  readonly hostname: string;
  /** Certificate authorities to trust beside the platform's, PEM; for TLS. */
  readonly caCerts?: readonly string[];
}

/** Over UDP, which loses requests: they are repeated. The socket stays open; nobody else may receive from it. */
export class UdpChannel implements StunChannel {
  readonly #socket: UdpSocket;
  readonly #server: TransportAddress;
  readonly #patience: StunPatience;

  constructor(socket: UdpSocket, server: TransportAddress, patience: StunPatience) {
    this.#socket = socket;
    this.#server = server;
    this.#patience = patience;
  }

  get local(): TransportAddress {
    return this.#socket.local;
  }

  async transact<T>(
    request: Uint8Array,
    accept: (message: Uint8Array) => T | undefined,
  ): Promise<Exchanged<T>> {
    const options = { ...this.#patience, server: this.#server, request, accept };
    return await exchangeMessages(this.#socket, options);
  }
}

/** What {@linkcode exchangeMessages} takes. */
export interface ExchangeMessagesOptions<T> extends StunPatience {
  readonly server: TransportAddress;
  readonly request: Uint8Array;
  readonly accept: (message: Uint8Array) => T | undefined;
}

/**
 * As `exchange()`, with messages that are taken from nobody but the server.
 *
 * @throws {NoResponseError} if no answer came in time
 * @throws {MalformedMessageError} if something came, and none of it was STUN
 */
export async function exchangeMessages<T>(
  socket: Pick<UdpSocket, "send" | "receive">,
  { server, ...options }: ExchangeMessagesOptions<T>,
): Promise<Exchanged<T>> {
  return await exchangeWithServer(socket, { ...options, to: server, protocol: "STUN" });
}

/**
 * Connects to a server, as patiently as requests are waited for.
 *
 * @throws {NetworkError} if the connection cannot be made
 * @throws {NoResponseError} if it is not made in time
 */
export async function connectStream(
  server: TransportAddress,
  options: StreamChannelOptions,
): Promise<TcpConnection> {
  const { network, transport, local, hostname, caCerts } = options;
  return await withinTime(
    server,
    options,
    (signal) =>
      transport === "tls"
        ? network.connectTls(server, { hostname, caCerts, signal })
        : network.connectTcp(server, { local, signal }),
  );
}

/** Over a TCP or TLS connection of its own. */
export class StreamChannel implements StunChannel, Disposable {
  readonly #connection: TcpConnection;
  readonly #messages: MessageReader;
  readonly #patience: StunPatience;

  /**
   * Connects.
   *
   * @throws {NetworkError} if the connection cannot be made
   * @throws {NoResponseError} if it is not made in time
   */
  static async open(
    server: TransportAddress,
    options: StreamChannelOptions,
  ): Promise<StreamChannel> {
    return new StreamChannel(await connectStream(server, options), options);
  }

  private constructor(connection: TcpConnection, patience: StunPatience) {
    this.#connection = connection;
    this.#messages = new MessageReader(connection);
    this.#patience = patience;
  }

  get local(): TransportAddress {
    return this.#connection.local;
  }

  async transact<T>(
    request: Uint8Array,
    accept: (message: Uint8Array) => T | undefined,
  ): Promise<Exchanged<T>> {
    const { remote } = this.#connection;
    const sentMs = performance.now();
    return await withinTime(remote, this.#patience, async (signal) => {
      // Nothing but its end wakes who waits for a connection.
      const close = () => this.#connection.close();
      signal.addEventListener("abort", close, { once: true });
      try {
        await writeMessage(this.#connection, request);
        const answer = await this.#nextAccepted(accept);
        return { answer, requests: 1, rttMs: performance.now() - sentMs };
      } catch (error) {
        signal.throwIfAborted();
        throw error;
      } finally {
        signal.removeEventListener("abort", close);
      }
    });
  }

  /** The connection, and what came on it behind the last message, for another protocol to go on with. */
  detach(): { readonly connection: TcpConnection; readonly rest: Uint8Array } {
    return { connection: this.#connection, rest: this.#messages.takeRest() };
  }

  [Symbol.dispose](): void {
    this.#connection.close();
  }

  async #nextAccepted<T>(accept: (message: Uint8Array) => T | undefined): Promise<T> {
    while (true) {
      const message = await this.#messages.next();
      if (message === undefined) {
        throw new NoResponseError(
          `Cannot hear ${
            formatTransportAddress(this.#connection.remote)
          }: it closed the connection without an answer`,
        );
      }
      const answer = accept(message);
      if (answer !== undefined) return answer;
    }
  }
}

/** RFC 8489 §6.2.2: over a stream a request is sent once, and waited for as long as over UDP. */
async function withinTime<T>(
  server: TransportAddress,
  { waitsMs, signal }: StunPatience,
  job: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const timeoutMs = waitsMs.reduce((sum, waitMs) => sum + waitMs, 0);
  const expiry = AbortSignal.timeout(timeoutMs);
  try {
    return await job(signal === undefined ? expiry : AbortSignal.any([signal, expiry]));
  } catch (error) {
    if (error !== expiry.reason) throw error;
    throw new NoResponseError(
      `Cannot reach ${formatTransportAddress(server)}: no answer in ${timeoutMs} ms`,
    );
  }
}
