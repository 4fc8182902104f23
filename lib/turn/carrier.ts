/**
 * What carries TURN between this host and a server: whole messages, both ways, over UDP, TCP or TLS.
 *
 * @module
 */

import { NetworkError } from "../base/errors.ts";
import {
  formatTransportAddress,
  ipFamily,
  sameTransportAddress,
  type TransportAddress,
} from "../net/address.ts";
import type { Network, TcpConnection, UdpSocket } from "../net/network.ts";
import { MessageReader, writeMessage } from "../stun/framing.ts";
import { connectStream, type StunPatience, type StunTransport } from "../stun/transport.ts";

/** A way to one server. */
export interface Carrier {
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
export interface CarrierOptions extends StunPatience {
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
export async function openCarrier(
  server: TransportAddress,
  hostname: string,
  options: CarrierOptions,
): Promise<Carrier> {
  const { network, transport, local } = options;
  if (transport !== "udp") {
    return new StreamCarrier(
      await connectStream(server, { ...options, transport, hostname }),
      server,
    );
  }
  const wildcard = ipFamily(server.ip) === 4 ? "0.0.0.0" : "::";
  return new UdpCarrier(await network.bindUdp(local ?? { ip: wildcard, port: 0 }), server);
}

class UdpCarrier implements Carrier {
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

class StreamCarrier implements Carrier {
  readonly remote: TransportAddress;
  readonly isReliable = true;
  readonly #connection: TcpConnection;
  readonly #messages: MessageReader;
  #written: Promise<void> = Promise.resolve();

  constructor(connection: TcpConnection, server: TransportAddress) {
    this.#connection = connection;
    this.#messages = new MessageReader(connection, { maxLength: MAX_LENGTH, channelData: true });
    this.remote = server;
  }

  get local(): TransportAddress {
    return this.#connection.local;
  }

  /** One message after another: a write may take a part of one. */
  send(message: Uint8Array): Promise<void> {
    const write = () => writeMessage(this.#connection, message);
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
