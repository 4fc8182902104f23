/**
 * What carries a client's requests: UDP, which loses them, or a TCP or TLS connection.
 *
 * @module
 */

import { writeAll } from "../base/reader.ts";
import { MalformedMessageError, NoResponseError } from "../base/errors.ts";
import { formatTransportAddress, type TransportAddress } from "../net/address.ts";
import type { Network, TcpConnection, UdpSocket } from "../net/network.ts";
import { type Exchanged, exchangeWithServer } from "../net/retransmit.ts";
import { HEADER_LENGTH, MAGIC_COOKIE, paddedLength, readUint16, readUint32 } from "./codec.ts";

/** What {@linkcode readMessages} puts up with. */
export interface ReadMessagesOptions {
  /** In bytes with the header; 4096 unless given. */
  readonly maxLength?: number;
}

/** What a {@linkcode MessageReader} puts up with. */
export interface MessageReaderOptions extends ReadMessagesOptions {
  /** Whether TURN's ChannelData (RFC 8656 §12.4) comes between the messages; not unless given. */
  readonly channelData?: boolean;
}

/**
 * The messages that arrive on a connection, each in bytes of its own, until the peer sends no more. Closing
 * the connection ends a wait.
 *
 * @throws {MalformedMessageError} as soon as what arrives cannot be the start of a message, is longer than
 * allowed, or ends in the middle of one; the stream cannot be read on after that
 * @throws {NetworkError} if the connection fails
 */
export async function* readMessages(
  connection: TcpConnection,
  options: ReadMessagesOptions = {},
): AsyncGenerator<Uint8Array<ArrayBuffer>, void> {
  const reader = new MessageReader(connection, options);
  while (true) {
    const message = await reader.next();
    if (message === undefined) return;
    yield message;
  }
}

/** Reads messages from a connection that may become another protocol's behind one of them. */
export class MessageReader {
  readonly #connection: TcpConnection;
  readonly #options: Required<MessageReaderOptions>;
  #buffer: Uint8Array<ArrayBuffer>;
  #start = 0;
  #end = 0;

  constructor(connection: TcpConnection, options: MessageReaderOptions = {}) {
    const { maxLength = DEFAULT_MAX_LENGTH, channelData = false } = options;
    this.#connection = connection;
    this.#options = { maxLength, channelData };
    this.#buffer = new Uint8Array(channelData ? DATA_BUFFER_LENGTH : INITIAL_BUFFER_LENGTH);
  }

  /**
   * The next message, in bytes of its own and with its padding; `undefined` at the end of the stream. One
   * call at a time.
   *
   * @throws {MalformedMessageError} as {@linkcode readMessages}
   * @throws {NetworkError} if the connection fails
   */
  async next(): Promise<Uint8Array<ArrayBuffer> | undefined> {
    while (true) {
      const length = announcedLength(this.#unread, this.#options);
      if (length <= this.#unread.length) {
        this.#start += length;
        return this.#buffer.slice(this.#start - length, this.#start);
      }
      this.#makeRoom(length);
      const count = await this.#connection.read(this.#buffer.subarray(this.#end));
      if (count === null) {
        if (this.#end === 0) return undefined;
        throw new MalformedMessageError(
          `Cannot read STUN stream: it ends ${this.#end} bytes into a message`,
        );
      }
      this.#end += count;
    }
  }

  /** What was read from the connection behind the last message: nobody else will get it. */
  takeRest(): Uint8Array<ArrayBuffer> {
    const rest = this.#buffer.slice(this.#start, this.#end);
    this.#start = this.#end;
    return rest;
  }

  get #unread(): Uint8Array {
    return this.#buffer.subarray(this.#start, this.#end);
  }

  #makeRoom(length: number): void {
    if (length > this.#buffer.length) {
      const larger = new Uint8Array(length);
      larger.set(this.#unread);
      this.#buffer = larger;
    } else {
      this.#buffer.copyWithin(0, this.#start, this.#end);
    }
    this.#end -= this.#start;
    this.#start = 0;
  }
}

/** How long the message is that starts here, with its padding; a header's length while that is not known. */
function announcedLength(
  received: Uint8Array,
  { maxLength, channelData }: Required<MessageReaderOptions>,
): number {
  const isChannelData = channelData && received.length >= 1 && isChannelDataByte(received[0]!);
  if (received.length >= 1 && received[0]! > 0x3f && !isChannelData) {
    throw new MalformedMessageError(
      `Cannot read STUN stream: a message starts with two zero bits, not with byte ${received[0]}`,
    );
  }
  if (isChannelData) return received.length < 4 ? 4 : channelDataLength(received, maxLength);
  if (received.length < 4) return HEADER_LENGTH;
  const length = HEADER_LENGTH + readUint16(received, 2);
  if (length > maxLength || length % 4 !== 0) {
    throw new MalformedMessageError(
      `Cannot read STUN stream: the length of a message is a multiple of 4 up to ${maxLength}, not ${length}`,
    );
  }
  // RFC 3489, which has no cookie, knows no Binding over a stream: this is another protocol.
  if (received.length >= 8 && readUint32(received, 4) !== MAGIC_COOKIE) {
    throw new MalformedMessageError("Cannot read STUN stream: a message has no magic cookie");
  }
  return length;
}

/** RFC 8656 §12: the first byte of a channel number, 0x4000 to 0x4fff. */
function isChannelDataByte(byte: number): boolean {
  return byte >= 0x40 && byte <= 0x4f;
}

/** RFC 8656 §12.5: over a stream, padded to a multiple of four that the length does not count. */
function channelDataLength(received: Uint8Array, maxLength: number): number {
  const length = paddedLength(4 + readUint16(received, 2));
  if (length <= maxLength) return length;
  throw new MalformedMessageError(
    `Cannot read STUN stream: ChannelData of ${length} bytes is longer than ${maxLength}`,
  );
}

/** Ours: a dozen times what Binding takes. Only a peer that announces a longer message makes it grow. */
const DEFAULT_MAX_LENGTH = 4096;
const INITIAL_BUFFER_LENGTH = 512;

/** Ours: ten or more datagrams with one read. */
const DATA_BUFFER_LENGTH = 16 * 1024;

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
export interface StunTimeouts {
  /** The waits of RFC 8489 §6.2.1; over TCP and TLS only their sum counts. */
  readonly waitsMs: readonly number[];
  readonly signal?: AbortSignal;
}

/** What {@linkcode StreamChannel.open} takes. */
export interface StreamChannelOptions extends StunTimeouts {
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

/** What {@linkcode exchangeMessages} takes. */
export interface ExchangeMessagesOptions<T> extends StunTimeouts {
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
  readonly #timeouts: StunTimeouts;

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

  private constructor(connection: TcpConnection, timeouts: StunTimeouts) {
    this.#connection = connection;
    this.#messages = new MessageReader(connection);
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
      // Nothing but its end wakes who waits for a connection.
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
