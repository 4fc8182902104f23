/**
 * Requests, indications and ChannelData on one way to a server: tells them apart, and brings responses to
 * who waits for them.
 *
 * @module
 */

import { toHex } from "../base/bytes.ts";
import { MalformedMessageError, NetworkError } from "../base/errors.ts";
import { WaitQueue } from "../base/wait_queue.ts";
import {
  formatTransportAddress,
  ipFamily,
  sameTransportAddress,
  type TransportAddress,
} from "../net/address.ts";
import type { Datagram, Network, TcpConnection, UdpSocket } from "../net/network.ts";
import { HEADER_LENGTH } from "../stun/codec.ts";
import { decodeMessage, type StunMessage } from "../stun/message.ts";
import { writeAll } from "../base/reader.ts";
import { StunMessageReader } from "../stun/framing.ts";
import {
  connectStream,
  exchangeMessages,
  type StunChannel,
  type StunTimeouts,
  type StunTransport,
} from "../stun/transport.ts";
import { type ChannelData, decodeChannelData, startsChannelData } from "./protocol.ts";

/** A way to one server. */
export interface TurnTransport {
  /** The server. */
  readonly remote: TransportAddress;
  /** Where it leaves from; over UDP the IP may be the wildcard. */
  readonly local: TransportAddress;
  /** Whether what is sent arrives, so that requests need not be repeated. */
  readonly isReliable: boolean;
  /** @throws {NetworkError} if the network does not take it */
  send(message: Uint8Array): Promise<void>;
  /**
   * The next message, which may be anything over UDP.
   *
   * @throws {NetworkError} if the connection fails or ends, or was closed
   * @throws {MalformedMessageError} if the stream is not TURN
   */
  receive(): Promise<Uint8Array>;
  /** Whether it keeps the program running, which is so by default; over UDP always. */
  refer(isReferenced: boolean): void;
  /** Idempotent. */
  close(): void;
}

/** How to reach the server. */
export interface TurnTransportOptions extends StunTimeouts {
  readonly network: Network;
  readonly transport: StunTransport;
  /** Where to leave from; the system's choice unless given. Not for TLS. */
  readonly local?: TransportAddress;
  /** Certificate authorities to trust beside the platform's, PEM; for TLS. */
  readonly caCerts?: readonly string[];
}

/**
 * Opens one.
 *
 * @param hostname the name in the server's certificate, for TLS
 * @throws {NetworkError} if the socket or the connection cannot be made
 * @throws {NoResponseError} if the connection is not made in time
 */
export async function openTurnTransport(
  server: TransportAddress,
  hostname: string,
  options: TurnTransportOptions,
): Promise<TurnTransport> {
  const { network, transport, local } = options;
  if (transport !== "udp") {
    return new StreamTurnTransport(
      await connectStream(server, { ...options, transport, hostname }),
      server,
    );
  }
  const wildcard = ipFamily(server.ip) === 4 ? "0.0.0.0" : "::";
  return new UdpTurnTransport(await network.bindUdp(local ?? { ip: wildcard, port: 0 }), server);
}

class UdpTurnTransport implements TurnTransport {
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

class StreamTurnTransport implements TurnTransport {
  readonly remote: TransportAddress;
  readonly isReliable = true;
  readonly #connection: TcpConnection;
  readonly #messages: StunMessageReader;
  #written: Promise<void> = Promise.resolve();

  constructor(connection: TcpConnection, server: TransportAddress) {
    this.#connection = connection;
    this.#messages = new StunMessageReader(connection, {
      maxLength: MAX_LENGTH,
      channelData: true,
    });
    this.remote = server;
  }

  get local(): TransportAddress {
    return this.#connection.local;
  }

  /** One message after another: a write may take a part of one. */
  send(message: Uint8Array): Promise<void> {
    const write = () => writeAll(this.#connection, message);
    return this.#written = this.#written.then(write, write);
  }

  async receive(): Promise<Uint8Array> {
    const message = await this.#messages.next();
    if (message !== undefined) return message;
    throw new NetworkError(
      `Cannot hear ${formatTransportAddress(this.remote)}: it closed the connection`,
      "reset",
    );
  }

  refer(isReferenced: boolean): void {
    if (isReferenced) this.#connection.ref?.();
    else this.#connection.unref?.();
  }

  close(): void {
    this.#connection.close();
  }
}

/** The longest ChannelData; a message with the longest DATA is longer, but no datagram is. */
const MAX_LENGTH = 4 + 0x1_0000;

/** What takes that for which nobody asked. Neither may throw. */
export interface TurnConnectionHandlers {
  onChannelData(message: ChannelData): void;
  onIndication(message: StunMessage): void;
}

/** A way to a server, shared by requests. */
export class TurnConnection {
  /** Rejects when the carrier fails; resolves when the link is closed. */
  readonly finished: Promise<void>;
  readonly #carrier: TurnTransport;
  #handlers: TurnConnectionHandlers = NOBODY;
  /** By the transaction ids of their requests. */
  readonly #responses = new Map<string, WaitQueue<Datagram>>();
  #isClosed = false;

  constructor(carrier: TurnTransport) {
    this.#carrier = carrier;
    this.finished = this.#listen();
    this.finished.catch(() => {}); // for those to see who wait for it
  }

  /** Where it leaves from; over UDP the IP may be the wildcard. */
  get local(): TransportAddress {
    return this.#carrier.local;
  }

  /** Says who takes what comes from now on; until then it is dropped. */
  deliverTo(handlers: TurnConnectionHandlers): void {
    this.#handlers = handlers;
  }

  /** A channel for requests that are waited for so patiently. */
  channel(timeouts: StunTimeouts): StunChannel {
    return {
      local: this.local,
      transact: (request, accept) => this.#transact(request, accept, timeouts),
    };
  }

  /** @throws {NetworkError} if the network does not take it */
  send(message: Uint8Array): Promise<void> {
    return this.#carrier.send(message);
  }

  /** As {@linkcode TurnTransport.refer}. */
  refer(isReferenced: boolean): void {
    this.#carrier.refer(isReferenced);
  }

  /** Ends the requests that wait; idempotent. */
  close(): void {
    this.#end(
      new NetworkError(
        `Cannot talk to ${formatTransportAddress(this.#carrier.remote)}: the relay is closed`,
        "closed",
      ),
    );
  }

  async #transact<T>(
    request: Uint8Array,
    accept: (message: Uint8Array) => T | undefined,
    { waitsMs, signal }: StunTimeouts,
  ) {
    const { remote, isReliable } = this.#carrier;
    const responses = new WaitQueue<Datagram>(MAX_RESPONSES);
    const socket = {
      // Not waited for: a peer that reads nothing must not hold back the end of the wait.
      send: (message: Uint8Array) => {
        this.#carrier.send(message).catch((error) => responses.close(error));
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
        accept,
        // RFC 8489 §6.2.2: over a stream a request is sent once, and waited for as long as over UDP.
        waitsMs: isReliable ? [waitsMs.reduce((sum, waitMs) => sum + waitMs, 0)] : waitsMs,
        signal,
      });
    } finally {
      this.#responses.delete(id);
    }
  }

  async #listen(): Promise<void> {
    try {
      while (true) this.#dispatch(await this.#carrier.receive());
    } catch (error) {
      if (this.#isClosed) return;
      this.#end(error);
      throw error;
    }
  }

  /** What is malformed is dropped: over UDP anybody may have sent it, and in a stream the next one is not lost. */
  #dispatch(message: Uint8Array): void {
    try {
      if (startsChannelData(message)) this.#handlers.onChannelData(decodeChannelData(message));
      else if (message.length < HEADER_LENGTH) return;
      else if (isResponse(message)) {
        const from = this.#carrier.remote;
        this.#responses.get(transactionKey(message))?.push({ data: message, from });
      } else this.#handlers.onIndication(decodeMessage(message));
    } catch (error) {
      if (!(error instanceof MalformedMessageError)) throw error;
    }
  }

  #end(reason: unknown): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#carrier.close();
    for (const responses of this.#responses.values()) responses.close(reason);
  }
}

/** RFC 8489 §5: the C1 bit of the class. */
function isResponse(message: Uint8Array): boolean {
  return (message[0]! & 0x01) !== 0;
}

function transactionKey(message: Uint8Array): string {
  return toHex(message.subarray(HEADER_LENGTH - 12, HEADER_LENGTH));
}

const NOBODY: TurnConnectionHandlers = { onChannelData() {}, onIndication() {} };

/** Ours: a request has one response, and over UDP one for each time it was sent. */
const MAX_RESPONSES = 16;
