/**
 * A connection to a TURN server over UDP, TCP or TLS. It carries requests, indications and ChannelData, tells them
 * apart, and delivers responses to the requests that wait for them.
 *
 * @module
 */

import { toHex } from "../base/bytes.ts";
import { MalformedMessageError, NetworkError } from "../base/errors.ts";
import { writeAll } from "../base/reader.ts";
import { optionalResolvers } from "../base/tasks.ts";
import { WaitQueue } from "../base/wait_queue.ts";
import {
  formatTransportAddress,
  ipFamily,
  sameTransportAddress,
  type TransportAddress,
} from "../net/address.ts";
import type { Datagram, Network, TcpConnection, UdpSocket } from "../net/network.ts";
import { HEADER_LENGTH } from "../stun/codec.ts";
import { StunMessageReader } from "../stun/framing.ts";
import { decodeMessage, type StunMessage } from "../stun/message.ts";
import {
  connectStream,
  exchangeMessages,
  type StunChannel,
  type StunTimeouts,
  type StunTransport,
} from "../stun/transport.ts";
import { type ChannelData, decodeChannelData, startsChannelData } from "./protocol.ts";

/** How to reach the server. */
export interface TurnConnectionOptions extends StunTimeouts {
  readonly network: Network;
  readonly transport: StunTransport;
  /** The local address to connect from. Default: chosen by the system. Not for TLS. */
  readonly local?: TransportAddress;
  /** Certificate authorities to trust in addition to the platform's, PEM; for TLS. */
  readonly caCerts?: readonly string[];
}

/** Receives what no request waits for. Neither function may throw. */
export interface TurnConnectionHandlers {
  onChannelData(message: ChannelData): void;
  onIndication(message: StunMessage): void;
}

/** A connection to a server, shared by concurrent requests. */
export class TurnConnection {
  /** Rejects when the transport fails; resolves when the connection is closed. */
  readonly finished: Promise<void>;
  readonly #transport: MessageTransport;
  #handlers: TurnConnectionHandlers = NO_HANDLERS;
  /** By the transaction IDs of their requests. */
  readonly #responses = new Map<string, WaitQueue<Datagram>>();
  #isClosed = false;

  /**
   * Connects to a server.
   *
   * @param hostname the name in the server's certificate, for TLS
   * @throws {NetworkError} if the socket cannot be opened, or the connection cannot be made
   * @throws {NoResponseError} if the connection is not made in time
   */
  static async open(
    server: TransportAddress,
    hostname: string,
    options: TurnConnectionOptions,
  ): Promise<TurnConnection> {
    return new TurnConnection(await openTransport(server, hostname, options));
  }

  private constructor(transport: MessageTransport) {
    this.#transport = transport;
    const { promise, resolve, reject } = optionalResolvers<void>();
    this.finished = promise;
    this.#receive().then(resolve, reject);
  }

  /** The local address; over UDP its IP may be the wildcard. */
  get local(): TransportAddress {
    return this.#transport.local;
  }

  /** Sets the handlers for what arrives from now on. Until then it is dropped. */
  deliverTo(handlers: TurnConnectionHandlers): void {
    this.#handlers = handlers;
  }

  /** A channel for requests with these timeouts. */
  channel(timeouts: StunTimeouts): StunChannel {
    return {
      local: this.local,
      transact: (request, accept) => this.#transact(request, accept, timeouts),
    };
  }

  /**
   * Sends an indication, ChannelData, or a request whose response does not matter.
   *
   * @throws {NetworkError} if the network does not accept it
   */
  send(message: Uint8Array): Promise<void> {
    return this.#transport.send(message);
  }

  /** Sets whether the connection keeps the program running. It does by default, and over UDP always. */
  refer(isReferenced: boolean): void {
    this.#transport.refer(isReferenced);
  }

  /** Closes the connection and ends pending requests; idempotent. */
  close(): void {
    const server = formatTransportAddress(this.#transport.remote);
    this.#end(new NetworkError(`Cannot talk to ${server}: the relay is closed`, "closed"));
  }

  async #transact<T>(
    request: Uint8Array,
    accept: (message: Uint8Array) => T | undefined,
    { waitsMs, signal }: StunTimeouts,
  ) {
    const { remote, isReliable } = this.#transport;
    const responses = new WaitQueue<Datagram>(MAX_RESPONSES);
    const socket = {
      // Not awaited: a server that does not read must not delay the timeout.
      send: (message: Uint8Array) => {
        this.#transport.send(message).catch((error) => responses.close(error));
        return Promise.resolve();
      },
      receive: (options?: { signal?: AbortSignal }) => responses.next(options?.signal),
    };
    const id = transactionKey(request);
    this.#responses.set(id, responses);
    try {
      return await exchangeMessages(socket, {
        server: remote,
        request,
        accept: (message) => {
          try {
            return accept(message);
          } catch (error) {
            // Over UDP anyone may have sent it; in a stream it is the server's answer, and no other follows.
            if (isReliable) responses.close(error);
            throw error;
          }
        },
        // RFC 8489 §6.2.2: over a stream a request is sent once, and may take as long as all retransmissions.
        waitsMs: isReliable ? [waitsMs.reduce((sum, waitMs) => sum + waitMs, 0)] : waitsMs,
        signal,
      });
    } finally {
      this.#responses.delete(id);
    }
  }

  async #receive(): Promise<void> {
    try {
      while (true) this.#dispatch(await this.#transport.receive());
    } catch (error) {
      if (this.#isClosed) return;
      this.#end(error);
      throw error;
    }
  }

  /** Malformed messages are dropped: over UDP anyone may have sent them, and in a stream the next one is still found. */
  #dispatch(message: Uint8Array): void {
    try {
      if (startsChannelData(message)) this.#handlers.onChannelData(decodeChannelData(message));
      else if (message.length < HEADER_LENGTH) return;
      else if (isResponse(message)) {
        const from = this.#transport.remote;
        this.#responses.get(transactionKey(message))?.push({ data: message, from });
      } else this.#handlers.onIndication(decodeMessage(message));
    } catch (error) {
      if (!(error instanceof MalformedMessageError)) throw error;
    }
  }

  #end(reason: unknown): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#transport.close();
    for (const responses of this.#responses.values()) responses.close(reason);
  }
}

/** Carries whole messages to the server and back. */
interface MessageTransport {
  /** The server. */
  readonly remote: TransportAddress;
  /** The local address; over UDP its IP may be the wildcard. */
  readonly local: TransportAddress;
  /** Whether messages are never lost, so that requests need no retransmission. */
  readonly isReliable: boolean;
  /** @throws {NetworkError} if the network does not accept it */
  send(message: Uint8Array): Promise<void>;
  /**
   * The next message; over UDP it may be anything.
   *
   * @throws {NetworkError} if the connection fails, ends, or has been closed
   * @throws {MalformedMessageError} if the stream is not TURN
   */
  receive(): Promise<Uint8Array>;
  /** As {@linkcode TurnConnection.refer}. */
  refer(isReferenced: boolean): void;
  /** Idempotent. */
  close(): void;
}

async function openTransport(
  server: TransportAddress,
  hostname: string,
  options: TurnConnectionOptions,
): Promise<MessageTransport> {
  const { network, transport, local } = options;
  if (transport !== "udp") {
    return new StreamTransport(
      await connectStream(server, { ...options, transport, hostname }),
      server,
    );
  }
  const wildcard = ipFamily(server.ip) === 4 ? "0.0.0.0" : "::";
  return new UdpTransport(await network.bindUdp(local ?? { ip: wildcard, port: 0 }), server);
}

class UdpTransport implements MessageTransport {
  readonly remote: TransportAddress;
  readonly isReliable = false;
  readonly #socket: UdpSocket;

  constructor(socket: UdpSocket, server: TransportAddress) {
    this.#socket = socket;
    this.remote = server;
  }

  get local(): TransportAddress {
    return this.#socket.local;
  }

  send(message: Uint8Array): Promise<void> {
    return this.#socket.send(message, this.remote);
  }

  async receive(): Promise<Uint8Array> {
    while (true) {
      const { data, from } = await this.#socket.receive();
      if (sameTransportAddress(from, this.remote)) return data;
    }
  }

  refer(): void {}

  close(): void {
    this.#socket.close();
  }
}

class StreamTransport implements MessageTransport {
  readonly remote: TransportAddress;
  readonly isReliable = true;
  readonly #connection: TcpConnection;
  readonly #messages: StunMessageReader;
  #written: Promise<void> = Promise.resolve();

  constructor(connection: TcpConnection, server: TransportAddress) {
    this.#connection = connection;
    this.#messages = new StunMessageReader(connection, {
      maxLength: MAX_MESSAGE_LENGTH,
      channelData: true,
    });
    this.remote = server;
  }

  get local(): TransportAddress {
    return this.#connection.local;
  }

  /** Messages are written one at a time, because a single write may take only part of one. */
  send(message: Uint8Array): Promise<void> {
    const write = () => writeAll(this.#connection, message);
    return this.#written = this.#written.then(write, write);
  }

  async receive(): Promise<Uint8Array> {
    const message = await this.#messages.next();
    if (message !== undefined) return message;
    const server = formatTransportAddress(this.remote);
    throw new NetworkError(`Cannot read from ${server}: it closed the connection`, "reset");
  }

  refer(isReferenced: boolean): void {
    if (isReferenced) this.#connection.ref?.();
    else this.#connection.unref?.();
  }

  close(): void {
    this.#connection.close();
  }
}

/** RFC 8489 §5: the C1 bit of the class. */
function isResponse(message: Uint8Array): boolean {
  return (message[0]! & 0x01) !== 0;
}

function transactionKey(message: Uint8Array): string {
  return toHex(message.subarray(HEADER_LENGTH - 12, HEADER_LENGTH));
}

const NO_HANDLERS: TurnConnectionHandlers = { onChannelData() {}, onIndication() {} };

/** The longest ChannelData. A message with the longest DATA would be longer, but no datagram is that long. */
const MAX_MESSAGE_LENGTH = 4 + 0x1_0000;

/** Chosen by us: a request has one response; over UDP, one for each time it is sent. */
const MAX_RESPONSES = 16;
