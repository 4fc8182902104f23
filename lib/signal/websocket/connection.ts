/**
 * A WebSocket (RFC 6455) over a connection of the network seam: either side of it, and how a client dials one. The
 * platform's own `WebSocket` accepts messages of 64 MiB, hides why a dial failed, and cannot be simulated.
 *
 * @module
 */

import { NetworkError, RefusedError } from "../../base/errors.ts";
import { withoutLogin } from "../../base/login.ts";
import { type Rate, TokenBucket, waitForTokens } from "../../base/rate_limiter.ts";
import { BufferedReader, writeAll } from "../../base/reader.ts";
import { Deadline } from "../../base/timers.ts";
import { formatTransportAddress, isIp, parseIp, type TransportAddress } from "../../net/address.ts";
import type { Network, ReleasedConnection, TcpConnection } from "../../net/network.ts";
import {
  CLOSE_CODES,
  type DecodedWebSocketFrame,
  decodeWebSocketFrame,
  encodeClose,
  encodeWebSocketFrame,
  frameLength,
  isControl,
  MessageAssembler,
  type WebSocketFrame,
  type WebSocketMessage,
  type WebSocketOpcode,
  writeTogether,
} from "./frame.ts";
import {
  CHECK_URL,
  decodeHead,
  encodeUpgradeRequest,
  endOfHead,
  type HttpHead,
  judgeUpgradeResponse,
  upgradeRefusal,
} from "./handshake.ts";

export { CLOSE_CODES, type WebSocketMessage } from "./frame.ts";

/** How much memory a socket may take. */
export interface WebSocketLimits {
  /** A longer message is not read, and ends the connection. */
  readonly maxMessageBytes: number;
  /** How much may wait to be sent while the other side reads slowly; a message beyond that is not sent. */
  readonly maxQueuedBytes: number;
}

/** What a {@linkcode WebSocketConnection} is made of. */
export interface WebSocketConnectionOptions {
  /** A client masks its frames. */
  readonly role: "client" | "server";
  /** The reader that has read the other side's handshake. */
  readonly reader: BufferedReader;
  /** Sent before all messages. */
  readonly handshake?: Uint8Array;
  /** As {@linkcode DialWebSocketOptions.isEncrypted}. */
  readonly isEncrypted?: boolean;
  /** How much memory it may take. */
  readonly limits: WebSocketLimits;
}

/** How to open a WebSocket. */
export interface DialWebSocketOptions {
  /** The sockets to use. */
  readonly network: Network;
  /** How much memory the socket may take. */
  readonly limits: WebSocketLimits;
  /** The name of the protocol on top, if it has one (RFC 6455 §1.9). */
  readonly subprotocol?: string;
  /** Certificate authorities to trust in addition to the platform's, PEM; for `wss:`. */
  readonly caCerts?: readonly string[];
  /**
   * Whether binary messages are encrypted by whoever sends them. Their masks are then zero, which spares both ends the work:
   * what a mask is for (RFC 6455 §10.3) is that no one can choose the bytes that proxies on the way see.
   */
  readonly isEncrypted?: boolean;
  /** Aborts the opening. */
  readonly signal?: AbortSignal;
}

/**
 * Opens a WebSocket.
 *
 * @throws {TypeError} if the URL's scheme is not `ws` or `wss`
 * @throws {RefusedError} with the HTTP status if the server does not upgrade
 * @throws {MalformedMessageError} if the server does not speak HTTP
 * @throws {NetworkError} if the server cannot be reached
 * @throws the signal's reason on abort
 */
export async function dialWebSocket(
  url: URL,
  options: DialWebSocketOptions,
): Promise<WebSocketConnection> {
  const { signal, limits, isEncrypted } = options;
  const connection = await connect(url, options);
  const onAbort = () => connection.reset();
  signal?.addEventListener("abort", onAbort, { once: true });
  try {
    signal?.throwIfAborted();
    const reader = await upgrade(connection, url, options.subprotocol);
    reader.enlarge(limits.maxMessageBytes);
    return new WebSocketConnection(connection, { role: "client", reader, limits, isEncrypted });
  } catch (error) {
    connection.reset();
    signal?.throwIfAborted();
    throw error;
  } finally {
    signal?.removeEventListener("abort", onAbort);
  }
}

/**
 * All addresses of a host, given by name or IP address; IPv4 first. Also for those who judge where a URL leads: they judge
 * what is dialled.
 *
 * @throws {NetworkError} if it has none
 */
export async function hostAddresses(
  network: Network,
  host: string,
  { signal }: { signal?: AbortSignal } = {},
): Promise<string[]> {
  if (isIp(host)) return [parseIp(host)];
  const found = await Promise.allSettled(
    ([4, 6] as const).map((family) => network.resolve(host, family, { signal })),
  );
  signal?.throwIfAborted();
  const addresses = found.flatMap((each) => each.status === "fulfilled" ? each.value : []);
  if (addresses.length === 0 && found[0]!.status === "rejected") throw found[0]!.reason;
  return addresses.map(parseIp);
}

/** One side of a WebSocket. */
export class WebSocketConnection {
  readonly #connection: TcpConnection;
  readonly #reader: BufferedReader;
  readonly #role: "client" | "server";
  readonly #isEncrypted: boolean;
  #limits: WebSocketLimits;
  /** Limits the control frames that a client handles. A server decides itself when it reads on. */
  readonly #controls: TokenBucket | undefined;
  readonly #queue: Uint8Array[] = [];
  #queuedBytes = 0;
  #writing: Promise<void> = Promise.resolve();
  #isWriting = false;
  #isClosing = false;
  #tooLate: ReturnType<typeof setTimeout> | undefined;
  /** Waits until less is queued. */
  #drain: { readonly maxBytes: number; readonly resolve: () => void } | undefined;
  readonly #assembler: MessageAssembler;

  /** @param connection taken over */
  constructor(connection: TcpConnection, options: WebSocketConnectionOptions) {
    this.#connection = connection;
    this.#reader = options.reader;
    this.#role = options.role;
    this.#isEncrypted = options.isEncrypted ?? false;
    this.#limits = options.limits;
    this.#assembler = new MessageAssembler(options.role === "server");
    if (options.role === "client") {
      this.#controls = new TokenBucket(CONTROL_FRAME_RATE, performance.now());
    }
    if (options.handshake !== undefined) this.#enqueue(options.handshake);
  }

  /** The addresses of both ends. */
  get ends(): { readonly local: TransportAddress; readonly remote: TransportAddress } {
    const { local, remote } = this.#connection;
    return { local, remote };
  }

  /** Whether the connection keeps the program running. */
  refer(isReferenced: boolean): void {
    if (isReferenced) this.#connection.ref?.();
    else this.#connection.unref?.();
  }

  /** How many bytes wait to be sent. */
  get queuedBytes(): number {
    return this.#queuedBytes;
  }

  /** Queues a message; `false` if too much waits already, or the socket is closing. */
  send(kind: "binary" | "text" | "ping" | "pong", data: Uint8Array): boolean {
    return !this.#isClosing && this.#enqueue(this.#encode(kind, data));
  }

  /** Queues an encoded frame of a server, so that many clients can be sent the same bytes; otherwise as `send()`. */
  sendFrame(frame: Uint8Array): boolean {
    return !this.#isClosing && this.#enqueue(frame);
  }

  /**
   * Resolves once at most so many bytes are queued, or the socket is closing. For one caller at a time.
   */
  async drained(maxBytes: number): Promise<void> {
    if (this.#isClosing || this.#queuedBytes <= maxBytes) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#drain = { maxBytes, resolve };
    await promise;
  }

  /**
   * The next message. None follows one of kind `close`.
   *
   * @throws {MalformedMessageError} if the other side breaks the protocol
   * @throws {RefusedError} 1009 if a message is too long
   * @throws {NetworkError} as {@linkcode TcpConnection.read}, and `reset` if the stream ends without a close frame
   */
  async receive(): Promise<WebSocketMessage> {
    while (true) {
      const frame = await this.#nextFrame();
      if (this.#controls !== undefined && isControl(frame.opcode)) {
        await waitForTokens(this.#controls);
      }
      const message = this.#assemble(frame);
      if (message !== undefined) return message;
    }
  }

  /**
   * The next message if it has arrived already, as {@linkcode WebSocketConnection.receive} otherwise. For servers: the
   * control frames of a client wait.
   */
  receiveNow(): WebSocketMessage | undefined {
    while (true) {
      const decoded = this.#decode();
      if (decoded.kind === "incomplete") return undefined;
      const message = this.#assemble(decoded.frame);
      if (message !== undefined) return message;
    }
  }

  /** Waits until the next frame has arrived as a whole, or is known to be wrong. */
  async arrived(): Promise<void> {
    for (;;) {
      const length = frameLength(this.#reader.unread, this.#limits.maxMessageBytes);
      if (this.#reader.buffered >= length) return;
      await fill(this.#reader, this.#connection, length);
    }
  }

  /**
   * Takes what has arrived, between two messages, as it is.
   *
   * @param take may change the bytes until the next call of another method, and returns how many it has taken
   */
  takeBytes(take: (arrived: Uint8Array<ArrayBuffer>) => number): void {
    if (!this.#assembler.isWithin) this.#reader.take(take(this.#reader.unread));
  }

  /** From now on, messages may be so long. */
  allow(maxMessageBytes: number): void {
    this.#limits = { ...this.#limits, maxMessageBytes };
  }

  /** Reads in larger pieces. Not while `receive()` waits. */
  enlarge(readBytes: number): void {
    this.#reader.enlarge(readBytes);
  }

  /** Sends a close frame. The other side answers with a message of kind `close`, or is cut off soon. */
  close(code: number, reason: string): void {
    if (this.#isClosing) return;
    this.#isClosing = true;
    this.#endDrain();
    this.#enqueue(this.#encode("close", encodeClose(code, reason)));
    this.#tooLate = setTimeout(() => this.#connection.reset(), CLOSE_MS);
  }

  /** Closes the connection; after {@linkcode WebSocketConnection.close}, once the other side has the close frame. */
  async finish(): Promise<void> {
    try {
      if (!this.#isClosing) return;
      await this.#writing;
      await this.#connection.closeWrite();
      // Closing with unread data sends a RST instead of a FIN, and that may overtake the close frame.
      const buffer = new Uint8Array(READ_BYTES);
      for (let left = MAX_DRAINED_BYTES; left > 0;) {
        const length = await this.#connection.read(buffer);
        if (length === null) return;
        left -= length;
      }
    } catch (error) {
      if (!(error instanceof NetworkError)) throw error; // the other side has gone
    } finally {
      this.#isClosing = true; // from now on, close() does nothing
      clearTimeout(this.#tooLate);
      this.#connection.close();
    }
  }

  /** Sends a close frame, and closes the connection once all is sent: for a caller who expects nothing more. */
  closeAndLeave(code: number): void {
    this.close(code, "");
    this.#writing.then(() => {
      clearTimeout(this.#tooLate);
      this.#connection.close();
    });
  }

  /**
   * Gives up the socket once all is sent, for a caller who goes on with the frames that follow. Not while `receive()`
   * waits.
   */
  async release(): Promise<ReleasedConnection> {
    this.#isClosing = true;
    this.#endDrain();
    await this.#writing;
    const unread = this.#reader.take(this.#reader.buffered).slice();
    return { connection: this.#connection, unread };
  }

  /** Resets the connection. */
  abort(): void {
    this.#isClosing = true;
    this.#endDrain();
    this.#connection.reset();
  }

  #encode(opcode: WebSocketOpcode, payload: Uint8Array): Uint8Array {
    if (this.#role === "server") return encodeWebSocketFrame(opcode, payload);
    const mask = new Uint8Array(4);
    const isPlain = !this.#isEncrypted || opcode !== "binary";
    return encodeWebSocketFrame(opcode, payload, isPlain ? crypto.getRandomValues(mask) : mask);
  }

  #enqueue(bytes: Uint8Array): boolean {
    if (this.#queuedBytes + bytes.length > this.#limits.maxQueuedBytes) return false;
    this.#queue.push(bytes);
    this.#queuedBytes += bytes.length;
    if (!this.#isWriting) this.#writing = this.#writeQueue();
    return true;
  }

  /** Never rejects: if the connection has failed, `receive()` does. */
  async #writeQueue(): Promise<void> {
    this.#isWriting = true;
    await undefined; // what is sent at once goes out at once
    try {
      while (this.#queue.length > 0) {
        const written = await writeTogether(this.#connection, this.#queue);
        this.#queuedBytes -= written; // in a step of its own: more may have been queued meanwhile
        if (this.#queuedBytes <= (this.#drain?.maxBytes ?? -1)) this.#endDrain();
      }
    } catch (error) {
      if (!(error instanceof NetworkError)) throw error;
      this.#isClosing = true;
      this.#endDrain();
    }
    this.#isWriting = false;
  }

  #endDrain(): void {
    this.#drain?.resolve();
    this.#drain = undefined;
  }

  async #nextFrame(): Promise<WebSocketFrame> {
    while (true) {
      const decoded = this.#decode();
      if (decoded.kind === "frame") return decoded.frame;
      await this.arrived();
    }
  }

  /** Takes the next frame out of the reader, if it is there. */
  #decode(): Exclude<DecodedWebSocketFrame, { kind: "too-long" }> {
    const decoded = decodeWebSocketFrame(this.#reader.unread, this.#limits.maxMessageBytes);
    if (decoded.kind === "too-long") throw this.#tooLong(decoded.payloadLength);
    if (decoded.kind === "frame") this.#reader.take(decoded.byteLength);
    return decoded;
  }

  /** The message that a frame completes, if it does. */
  #assemble(frame: WebSocketFrame): WebSocketMessage | undefined {
    const length = this.#assembler.lengthWith(frame);
    if (length > this.#limits.maxMessageBytes) throw this.#tooLong(length);
    return this.#assembler.accept(frame);
  }

  #tooLong(length: number): RefusedError {
    const limit = this.#limits.maxMessageBytes;
    return new RefusedError(
      `Cannot read WebSocket message: at most ${limit} bytes, not ${length}`,
      CLOSE_CODES.tooLong,
      { remedy: "Use another server" },
    );
  }
}

/** A reader for {@linkcode readHead}, and for the WebSocket after it. */
export function newHandshakeReader(connection: TcpConnection): BufferedReader {
  return new BufferedReader(connection, { initialLength: SHORT_BYTES, fullLength: READ_BYTES });
}

/**
 * Reads the head of an HTTP message, and leaves what follows it in the reader.
 *
 * @param reader reads the connection
 * @throws {MalformedMessageError} if it is not HTTP
 * @throws {RefusedError} 431 if it is too long
 * @throws {NetworkError} as {@linkcode TcpConnection.read}, and `reset` if the stream ends first
 */
export async function readHead(
  connection: TcpConnection,
  reader: BufferedReader,
): Promise<HttpHead> {
  for (let searched = 0; searched <= MAX_HEAD_BYTES; searched = reader.buffered) {
    await fill(reader, connection);
    const end = endOfHead(reader.unread, searched);
    if (end !== undefined && end <= MAX_HEAD_BYTES) return decodeHead(reader.take(end));
  }
  throw new RefusedError(`Cannot read HTTP head: at most ${MAX_HEAD_BYTES} bytes`, 431, {
    remedy: CHECK_URL,
  });
}

async function fill(
  reader: BufferedReader,
  connection: TcpConnection,
  needed?: number,
): Promise<void> {
  if (await reader.fill(needed)) return;
  const from = formatTransportAddress(connection.remote);
  throw new NetworkError(`Cannot read from ${from}: the connection was cut`, "reset");
}

/** The reader that has read the handshake. */
async function upgrade(
  connection: TcpConnection,
  url: URL,
  subprotocol: string | undefined,
): Promise<BufferedReader> {
  const key = btoa(String.fromCharCode(...crypto.getRandomValues(new Uint8Array(16))));
  const target = url.pathname + url.search;
  await writeAll(connection, encodeUpgradeRequest(url.host, target, key, subprotocol));
  const reader = newHandshakeReader(connection);
  const response = judgeUpgradeResponse(await readHead(connection, reader), key, subprotocol);
  if (response.kind === "upgraded") return reader;
  throw upgradeRefusal(url, response);
}

/** Tries the addresses of the name in turn. One that does not answer does not hold up the next for long. */
async function connect(
  url: URL,
  { network, caCerts, signal }: DialWebSocketOptions,
): Promise<TcpConnection> {
  const hostname = url.hostname.replace(/^\[(.*)\]$/, "$1");
  const port = url.port === "" ? DEFAULT_PORTS[url.protocol] : Number(url.port);
  if (port === undefined) {
    throw new TypeError(`Cannot open ${withoutLogin(url.href)}: a WebSocket is ws: or wss:`);
  }
  const isSecure = url.protocol === "wss:";
  const addresses = await hostAddresses(network, hostname, { signal });
  let failure: unknown;
  for (const [index, ip] of addresses.entries()) {
    const remote: TransportAddress = { ip, port };
    const isLast = index === addresses.length - 1;
    using deadline = new Deadline(NEXT_ADDRESS_MS, signal);
    const options = { signal: isLast ? signal : deadline.signal };
    try {
      return await (isSecure
        ? network.connectTls(remote, { hostname, caCerts, ...options })
        : network.connectTcp(remote, options));
    } catch (error) {
      signal?.throwIfAborted();
      failure = error;
    }
  }
  throw failure;
}

/**
 * Chosen by us: a server sends one every few seconds. Each ping is answered with a write of its own, so that a server that
 * sends pings without a pause would keep the program from everything else, other servers included.
 */
const CONTROL_FRAME_RATE: Rate = { burst: 1024, perSecond: 512 };

/** Chosen by us: how long the other side may take to answer a close frame. */
const CLOSE_MS = 2000;

/** Chosen by us: what a client that is being cut off may still send. */
const MAX_DRAINED_BYTES = 65_536;

/** Chosen by us: requests of browsers take less than 1 KiB without cookies. */
const MAX_HEAD_BYTES = 4096;

/** Chosen by us: most clients of a server wait, and have sent a request of 200 bytes and one short message. */
const SHORT_BYTES = 512;

/** Chosen by us: the longest message of peers, its frame, and room for what follows. */
const READ_BYTES = 4608;

/** Chosen by us: two lost SYNs. One of several addresses may be dead, and the next one alive. */
const NEXT_ADDRESS_MS = 4000;

const DEFAULT_PORTS: Readonly<Record<string, number>> = { "ws:": 80, "wss:": 443 };
