/**
 * What carries a client's requests: UDP, which loses them, or a TCP or TLS connection.
 *
 * @module
 */

import { NoResponseError } from "../base/errors.ts";
import { writeAll } from "../base/reader.ts";
import { formatTransportAddress, type TransportAddress } from "../net/address.ts";
import type { Network, TcpConnection, UdpSocket } from "../net/network.ts";
import { type Exchanged, exchangeWithServer } from "../net/retransmit.ts";
import { StunMessageReader } from "./framing.ts";

/** What STUN runs over: RFC 8489 §6.2. */
export type StunTransport = "udp" | "tcp" | "tls";

/** Carries requests to one server, and its responses back. */
export interface StunChannel {
  /** The local address; over UDP its IP may be the wildcard. */
  readonly local: TransportAddress;
  /**
   * Sends a request and waits for its response. `accept` sees each message that comes from exactly the server's
   * address, and returns `undefined` for those that do not answer the request.
   *
   * @throws {NoResponseError} if there is no response in time
   * @throws {MalformedMessageError} if what arrived was not STUN
   */
  transact<T>(
    request: Uint8Array,
    accept: (message: Uint8Array) => T | undefined,
  ): Promise<Exchanged<T>>;
}

/** How long a channel waits for a response. */
export interface StunTimeouts {
  /** The retransmission schedule of RFC 8489 §6.2.1, in milliseconds; over TCP and TLS only the sum counts. */
  readonly waitsMs: readonly number[];
  /** Cancels the wait. */
  readonly signal?: AbortSignal;
}

/** A channel over UDP, which retransmits lost requests. The socket stays open; nothing else may receive from it. */
export class UdpChannel implements StunChannel {
  readonly #socket: UdpSocket;
  readonly #server: TransportAddress;
  readonly #timeouts: StunTimeouts;

  constructor(socket: UdpSocket, server: TransportAddress, timeouts: StunTimeouts) {
    this.#socket = socket;
    this.#server = server;
    this.#timeouts = timeouts;
  }

  get local(): TransportAddress {
    return this.#socket.local;
  }

  async transact<T>(
    request: Uint8Array,
    accept: (message: Uint8Array) => T | undefined,
  ): Promise<Exchanged<T>> {
    const options = { ...this.#timeouts, server: this.#server, request, accept };
    return await exchangeMessages(this.#socket, options);
  }
}

/** Options of {@linkcode exchangeMessages}. */
export interface ExchangeMessagesOptions<T> extends StunTimeouts {
  readonly server: TransportAddress;
  readonly request: Uint8Array;
  /** As in {@linkcode StunChannel.transact}. */
  readonly accept: (message: Uint8Array) => T | undefined;
}

/**
 * As `exchange()`, but accepts messages from the server only.
 *
 * @throws {NoResponseError} if there is no response in time
 * @throws {MalformedMessageError} if what arrived was not STUN
 */
export async function exchangeMessages<T>(
  socket: Pick<UdpSocket, "send" | "receive">,
  { server, ...options }: ExchangeMessagesOptions<T>,
): Promise<Exchanged<T>> {
  return await exchangeWithServer(socket, { ...options, to: server, protocol: "STUN" });
}

/** Options of {@linkcode connectStream} and {@linkcode StreamChannel.open}. */
export interface StreamChannelOptions extends StunTimeouts {
  readonly network: Network;
  readonly transport: "tcp" | "tls";
  /** The local address to connect from. Default: chosen by the system. Not for TLS. */
  readonly local?: TransportAddress;
  /** The name in the server's certificate; for TLS. */
  readonly hostname: string;
  /** Certificate authorities to trust in addition to the platform's, PEM; for TLS. */
  readonly caCerts?: readonly string[];
}

/** A channel over a TCP or TLS connection of its own. */
export class StreamChannel implements StunChannel, Disposable {
  readonly #connection: TcpConnection;
  readonly #messages: StunMessageReader;
  readonly #timeouts: StunTimeouts;

  /**
   * Connects to a server.
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

  private constructor(connection: TcpConnection, timeouts: StunTimeouts) {
    this.#connection = connection;
    this.#messages = new StunMessageReader(connection);
    this.#timeouts = timeouts;
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
    return await withinTime(remote, this.#timeouts, async (signal) => {
      // Reads and writes take no signal: closing the connection is what ends them.
      const close = () => this.#connection.close();
      signal.addEventListener("abort", close, { once: true });
      try {
        await writeAll(this.#connection, request);
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

  /** Hands over the connection, and the bytes read past the last message, for another protocol to continue with. */
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
        const server = formatTransportAddress(this.#connection.remote);
        throw new NoResponseError(
          `Cannot read from ${server}: it closed the connection without a response`,
        );
      }
      const answer = accept(message);
      if (answer !== undefined) return answer;
    }
  }
}

/**
 * Connects to a server, within the time that a request may take.
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

/** RFC 8489 §6.2.2: over a stream a request is sent once, and may take as long as all retransmissions over UDP. */
async function withinTime<T>(
  server: TransportAddress,
  { waitsMs, signal }: StunTimeouts,
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
