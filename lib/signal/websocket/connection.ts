/**
 * Either side of a WebSocket (RFC 6455) over a connection of the seam. Not the platform's own: that takes messages of
 * 64 MiB before it asks anybody, hides why a dial failed, and cannot be simulated.
 *
 * @module
 */

import { writeAll } from "../../base/reader.ts";
import { concat } from "../../base/bytes.ts";
import { MalformedMessageError, NetworkError, RefusedError } from "../../base/errors.ts";
import { Deadline } from "../../base/timers.ts";
import { formatTransportAddress, isIp, parseIp, type TransportAddress } from "../../net/address.ts";
import type { Network, TcpConnection } from "../../net/network.ts";
import {
  decodeClose,
  decodeText,
  decodeWebSocketFrame,
  encodeClose,
  encodeWebSocketFrame,
  isControl,
  type Opcode,
  type WebSocketFrame,
} from "./frame.ts";
import {
  decodeHead,
  encodeUpgradeRequest,
  endOfHead,
  type HttpHead,
  judgeUpgradeResponse,
} from "./handshake.ts";

/** Something that arrived whole. */
export type WebSocketMessage =
  | { readonly kind: "binary"; readonly data: Uint8Array<ArrayBuffer> }
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "ping" | "pong"; readonly data: Uint8Array<ArrayBuffer> }
  | { readonly kind: "close"; readonly code: number; readonly reason: string };

/** What a socket takes and keeps. */
export interface WebSocketLimits {
  /** Longer messages are not read, and end the connection. */
  readonly maxMessageBytes: number;
  /** What may wait to be sent while the other side reads slowly; what is beyond that is not sent. */
  readonly maxQueuedBytes: number;
}

/** One side of a WebSocket. */
export class WebSocketConnection {
  readonly #connection: TcpConnection;
  readonly #role: "client" | "server";
  readonly #limits: WebSocketLimits;
  readonly #queue: Uint8Array[] = [];
  #queuedBytes = 0;
  #writing: Promise<void> = Promise.resolve();
  #isWriting = false;
  #isClosing = false;
  #tooLate: ReturnType<typeof setTimeout> | undefined;
  /** What was read of the connection, and not yet as a frame. */
  #unread: Uint8Array;
  /** The parts of a message that has begun. */
  #begun: BegunMessage | undefined;

  /** @param connection taken over */
  constructor(connection: TcpConnection, options: {
    role: "client" | "server";
    /** What goes out before all messages. */
    handshake?: Uint8Array;
    /** What came after the other side's handshake. */
    first: Uint8Array;
    limits: WebSocketLimits;
  }) {
    this.#connection = connection;
    this.#role = options.role;
    this.#limits = options.limits;
    this.#unread = options.first;
    if (options.handshake !== undefined) this.#enqueue(options.handshake);
  }

  /** What waits to be sent. */
  get queuedBytes(): number {
    return this.#queuedBytes;
  }

  /** Sends a message, in the end; `false` if too much waits already, or the socket is closing. */
  send(kind: "binary" | "text" | "ping" | "pong", data: Uint8Array): boolean {
    return !this.#isClosing && this.#enqueue(this.#encode(kind, data));
  }

  /**
   * The next message. After one of kind `close` there is none.
   *
   * @throws {MalformedMessageError} if the other side does not keep to the protocol
   * @throws {RefusedError} 1009 if a message is too long
   * @throws {NetworkError} as {@linkcode TcpConnection.read}, and `reset` if the stream just ends
   */
  async receive(): Promise<WebSocketMessage> {
    while (true) {
      const message = this.#accept(await this.#nextFrame());
      if (message !== undefined) return message;
    }
  }

  /** Says why this side has enough. The other side answers with a message of kind `close`, or is cut off soon. */
  close(code: number, reason: string): void {
    if (this.#isClosing) return;
    this.#isClosing = true;
    this.#enqueue(this.#encode("close", encodeClose(code, reason)));
    this.#tooLate = setTimeout(() => this.#connection.reset(), CLOSE_MS);
  }

  /** Closes the connection, after {@linkcode WebSocketConnection.close} so that the other side learns why. */
  async finish(): Promise<void> {
    try {
      if (!this.#isClosing) return;
      await this.#writing;
      await this.#connection.closeWrite();
      // What is unread when a connection is closed makes a RST of the FIN, and that may overtake the reason.
      const buffer = new Uint8Array(READ_BYTES);
      for (let left = MAX_DRAINED_BYTES; left > 0;) {
        const length = await this.#connection.read(buffer);
        if (length === null) return;
        left -= length;
      }
    } catch (error) {
      if (!(error instanceof NetworkError)) throw error; // the other side has gone
    } finally {
      clearTimeout(this.#tooLate);
      this.#connection.close();
    }
  }

  /** Closes the connection without a word. */
  abort(): void {
    this.#isClosing = true;
    this.#connection.reset();
  }

  #encode(opcode: Opcode, payload: Uint8Array): Uint8Array {
    const mask = this.#role === "client" ? crypto.getRandomValues(new Uint8Array(4)) : undefined;
    return encodeWebSocketFrame(opcode, payload, mask);
  }

  #enqueue(bytes: Uint8Array): boolean {
    if (this.#queuedBytes + bytes.length > this.#limits.maxQueuedBytes) return false;
    this.#queue.push(bytes);
    this.#queuedBytes += bytes.length;
    if (!this.#isWriting) this.#writing = this.#writeQueue();
    return true;
  }

  /** Never rejects: a connection that cannot be written to cannot be read from either, and that tells. */
  async #writeQueue(): Promise<void> {
    this.#isWriting = true;
    try {
      for (let bytes = this.#queue.shift(); bytes !== undefined; bytes = this.#queue.shift()) {
        await writeAll(this.#connection, bytes);
        this.#queuedBytes -= bytes.length;
      }
    } catch (error) {
      if (!(error instanceof NetworkError)) throw error;
      this.#isClosing = true;
    }
    this.#isWriting = false;
  }

  async #nextFrame(): Promise<WebSocketFrame> {
    const { maxMessageBytes } = this.#limits;
    while (true) {
      const decoded = decodeWebSocketFrame(this.#unread, maxMessageBytes);
      if (decoded.kind === "too-long") throw this.#tooLong(decoded.payloadLength);
      if (decoded.kind === "frame") {
        this.#unread = this.#unread.subarray(decoded.byteLength);
        return decoded.frame;
      }
      this.#unread = await readMore(this.#connection, this.#unread);
    }
  }

  /** The message that a frame ends, if it does. */
  #accept({ opcode, isFinal, isMasked, payload }: WebSocketFrame): WebSocketMessage | undefined {
    if (isMasked !== (this.#role === "server")) {
      throw malformed("a client's frames are masked, and no others");
    }
    if (isControl(opcode)) return toControlMessage(opcode, payload);
    if ((opcode === "continuation") !== (this.#begun !== undefined)) {
      throw malformed("a message begins with its kind, and ends before the next");
    }
    const data = concat(this.#begun?.data ?? new Uint8Array(), payload);
    if (data.length > this.#limits.maxMessageBytes) throw this.#tooLong(data.length);
    const kind = this.#begun?.kind ?? (opcode === "text" ? "text" : "binary");
    const frames = (this.#begun?.frames ?? 0) + 1;
    if (frames > MAX_FRAMES) throw malformed(`at most ${MAX_FRAMES} frames make a message`);
    this.#begun = isFinal ? undefined : { kind, data, frames };
    if (!isFinal) return undefined;
    return kind === "text" ? { kind, text: decodeText(data) } : { kind, data };
  }

  #tooLong(length: number): RefusedError {
    const limit = this.#limits.maxMessageBytes;
    return new RefusedError(
      `Cannot read WebSocket message: at most ${limit} bytes, not ${length}`,
      CLOSE.tooLong,
    );
  }
}

/**
 * Reads the head of an HTTP message.
 *
 * @returns the head, and what came after it
 * @throws {MalformedMessageError} if it is none
 * @throws {RefusedError} 431 if it is too long
 * @throws {NetworkError} as {@linkcode TcpConnection.read}, and `reset` if the stream just ends
 */
export async function readHead(
  connection: TcpConnection,
): Promise<{ head: HttpHead; rest: Uint8Array }> {
  let bytes: Uint8Array = new Uint8Array();
  while (bytes.length <= MAX_HEAD_BYTES) {
    bytes = await readMore(connection, bytes);
    const end = endOfHead(bytes);
    if (end !== undefined && end <= MAX_HEAD_BYTES) {
      return { head: decodeHead(bytes.subarray(0, end)), rest: bytes.subarray(end) };
    }
  }
  throw new RefusedError(`Cannot read HTTP head: at most ${MAX_HEAD_BYTES} bytes`, 431);
}

/** Close codes of RFC 6455 §7.4.1. */
export const CLOSE = {
  normal: 1000,
  goingAway: 1001,
  malformed: 1002,
  policy: 1008,
  tooLong: 1009,
} as const;

function toControlMessage(opcode: Opcode, payload: Uint8Array<ArrayBuffer>): WebSocketMessage {
  return opcode === "close"
    ? { kind: "close", ...decodeClose(payload) }
    : { kind: opcode === "ping" ? "ping" : "pong", data: payload };
}

async function readMore(connection: TcpConnection, before: Uint8Array): Promise<Uint8Array> {
  const buffer = new Uint8Array(READ_BYTES);
  const length = await connection.read(buffer);
  if (length === null) {
    const from = formatTransportAddress(connection.remote);
    throw new NetworkError(`Cannot read from ${from}: the connection was cut`, "reset");
  }
  const more = buffer.subarray(0, length);
  return before.length === 0 ? more : concat(before, more);
}

function malformed(rule: string): MalformedMessageError {
  return new MalformedMessageError(`Cannot read WebSocket message: ${rule}`);
}

interface BegunMessage {
  readonly kind: "binary" | "text";
  readonly data: Uint8Array<ArrayBuffer>;
  readonly frames: number;
}

/** Ours: an endless message of empty frames would be an endless loop. */
const MAX_FRAMES = 16;

/** Ours: how long the other side may take to answer that it closes as well. */
const CLOSE_MS = 2000;

/** Ours: what somebody who is cut off may still send. */
const MAX_DRAINED_BYTES = 65_536;

/** Ours: browsers' requests, cookies aside, take less than 1 KiB. */
const MAX_HEAD_BYTES = 4096;

/** Ours: a message of the longest kind, and some. */
const READ_BYTES = 4608;

/** How to open a WebSocket. */
export interface DialWebSocketOptions {
  /** Whose sockets to use. */
  readonly network: Network;
  /** What the socket takes and keeps. */
  readonly limits: WebSocketLimits;
  /** What is to be spoken, if that has a name (RFC 6455 §1.9). */
  readonly subprotocol?: string;
  /** Certificate authorities to trust beside the platform's, PEM; for `wss:`. */
  readonly caCerts?: readonly string[];
  /** Gives it up. */
  readonly signal?: AbortSignal;
}

/**
 * Opens a WebSocket.
 *
 * @throws {TypeError} if the URL is not of the scheme `ws` or `wss`
 * @throws {RefusedError} with the HTTP status if the server does not upgrade
 * @throws {MalformedMessageError} if it is no HTTP server
 * @throws {NetworkError} if it cannot be reached
 * @throws the signal's reason on abort
 */
export async function dialWebSocket(
  url: URL,
  options: DialWebSocketOptions,
): Promise<WebSocketConnection> {
  const { signal } = options;
  const connection = await connect(url, options);
  const onAbort = () => connection.reset();
  signal?.addEventListener("abort", onAbort, { once: true });
  try {
    signal?.throwIfAborted();
    const first = await shakeHands(connection, url, options.subprotocol);
    return new WebSocketConnection(connection, { role: "client", first, limits: options.limits });
  } catch (error) {
    connection.reset();
    signal?.throwIfAborted();
    throw error;
  } finally {
    signal?.removeEventListener("abort", onAbort);
  }
}

/** What came after the handshake. */
async function shakeHands(
  connection: TcpConnection,
  url: URL,
  subprotocol: string | undefined,
): Promise<Uint8Array> {
  const key = btoa(String.fromCharCode(...crypto.getRandomValues(new Uint8Array(16))));
  const target = url.pathname + url.search;
  await writeAll(connection, encodeUpgradeRequest(url.host, target, key, subprotocol));
  const { head, rest } = await readHead(connection);
  const response = judgeUpgradeResponse(head, key, subprotocol);
  if (response.kind === "upgraded") return rest;
  const { status, reason } = response;
  throw new RefusedError(`Cannot open ${url}: the server says ${status} ${reason}`, status);
}

/** The addresses of a name are tried in turn; one that says nothing does not hold up the next for long. */
async function connect(
  url: URL,
  { network, caCerts, signal }: DialWebSocketOptions,
): Promise<TcpConnection> {
  const hostname = url.hostname.replace(/^\[(.*)\]$/, "$1");
  const port = url.port === "" ? DEFAULT_PORTS[url.protocol] : Number(url.port);
  if (port === undefined) throw new TypeError(`Cannot open ${url}: a WebSocket is ws: or wss:`);
  const isSecure = url.protocol === "wss:";
  const addresses = await addressesOf(hostname, { network, signal });
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

async function addressesOf(
  hostname: string,
  { network, signal }: Pick<DialWebSocketOptions, "network" | "signal">,
): Promise<string[]> {
  if (isIp(hostname)) return [parseIp(hostname)];
  const found = await Promise.allSettled(
    ([4, 6] as const).map((family) => network.resolve(hostname, family, { signal })),
  );
  signal?.throwIfAborted();
  const addresses = found.flatMap((each) => each.status === "fulfilled" ? each.value : []);
  if (addresses.length > 0) return addresses;
  throw found[0]!.status === "rejected" ? found[0]!.reason : new Error("no address");
}

/** Ours: two lost SYNs. One of several addresses may be dead, and the next alive. */
const NEXT_ADDRESS_MS = 4000;

const DEFAULT_PORTS: Readonly<Record<string, number>> = { "ws:": 80, "wss:": 443 };
