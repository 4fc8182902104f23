/**
 * A signal channel through a room of a rendezvous server.
 *
 * @module
 */

import { MalformedMessageError, NetworkError, RefusedError } from "../../base/errors.ts";
import { TokenBucket, waitForTokens } from "../../base/rate_limiter.ts";
import { WaitQueue } from "../../base/wait_queue.ts";
import type { Network } from "../../net/network.ts";
import { systemNetwork } from "../../net/system.ts";
import { MAX_SIGNAL_BYTES, MESSAGE_RATE, type SignalChannel } from "../channel.ts";
import {
  CLOSE_CODES,
  dialWebSocket,
  type WebSocketConnection,
  type WebSocketMessage,
} from "../websocket/connection.ts";
import { decodeNotice, encodeNotice, isRoomName } from "./message.ts";
import { abortable } from "@std/async/abortable";

/** How to open a channel. */
export interface WebSocketChannelOptions {
  /** The sockets to use; the system's by default. */
  readonly network?: Network;
  /** Aborts the opening. It has no effect on a channel that is open. */
  readonly signal?: AbortSignal;
}

/**
 * Enters a room of a rendezvous server. Anyone else who knows the server and the room's name can enter it too, before
 * or instead of the intended peer: nothing that is received proves who sent it.
 *
 * @example
 * ```ts
 * import { openWebSocketChannel } from "./channel.ts";
 * import { serveRendezvous } from "./server.ts";
 * import { systemNetwork } from "../../net/system.ts";
 * import { assertEquals } from "@std/assert";
 *
 * await using server = await serveRendezvous({
 *   network: systemNetwork,
 *   local: { ip: "127.0.0.1", port: 0 },
 * });
 * await using a = await openWebSocketChannel(server.url, "kitchen");
 * await a.send(new TextEncoder().encode("hello")); // kept until the peer is there
 * await using b = await openWebSocketChannel(server.url, "kitchen");
 * assertEquals(new TextDecoder().decode(await b.receive()), "hello");
 * ```
 *
 * @param url the server's: `ws://HOST:PORT` or `wss://HOST`, with a path if a proxy in front of it needs one
 * @param room 1 to 64 letters, digits and `-._~`
 * @throws {TypeError} if the URL or the room's name is invalid
 * @throws {RefusedError} 409 if the room is full, 503 if the server has no free room, or another HTTP status
 * @throws {MalformedMessageError} if the server is not a WebSocket server
 * @throws {NetworkError} if the server cannot be reached
 * @throws the signal's reason on abort
 */
export async function openWebSocketChannel(
  url: string | URL,
  room: string,
  options: WebSocketChannelOptions = {},
): Promise<WebSocketChannel> {
  const { network = systemNetwork, signal } = options;
  if (!isRoomName(room)) {
    throw new TypeError(
      `Cannot enter room ${JSON.stringify(room)}: use 1 to 64 letters, digits and -._~`,
    );
  }
  const target = new URL(url);
  target.pathname = `${target.pathname.replace(/\/$/, "")}/${room}`;
  const limits = { maxMessageBytes: MAX_SIGNAL_BYTES, maxQueuedBytes: MAX_QUEUED_BYTES };
  const channel = new WebSocketChannel(await dialWebSocket(target, { network, signal, limits }));
  try {
    await channel.entered(signal);
    return channel;
  } catch (error) {
    channel.close();
    throw error;
  }
}

/**
 * One side's view of a room. The server stores nothing: if the peer is not there, the channel keeps the newest message
 * and sends it once the peer is.
 */
export class WebSocketChannel implements SignalChannel, AsyncDisposable {
  readonly #socket: WebSocketConnection;
  readonly #arrived = new WaitQueue<Uint8Array>(MAX_WAITING);
  readonly #finished: Promise<void>;
  #ping = { id: 0, sentMs: 0, left: 0 };
  /** The newest message that was sent while the peer was not there. */
  #kept: Uint8Array | undefined;
  #presence: "unknown" | "present" | "absent" = "unknown";
  #changed = Promise.withResolvers<void>();
  #rttMs: number | undefined;
  #failure: NetworkError | undefined;

  /** @ignore use {@linkcode openWebSocketChannel} */
  constructor(socket: WebSocketConnection) {
    this.#socket = socket;
    this.#finished = this.#receiveAll();
  }

  /**
   * The shortest round trip to the peer that was measured since it arrived, in milliseconds. The peer answers the
   * pings, so it can pretend to be closer than it is, or not answer.
   */
  get rttMs(): number | undefined {
    return this.#rttMs;
  }

  /** Whether the peer is there, according to the server. */
  get isPeerPresent(): boolean {
    return this.#presence === "present";
  }

  /**
   * Resolves when the peer is there, at once if it is already.
   *
   * @throws {NetworkError} if the channel is closed or broken
   * @throws the signal's reason on abort
   */
  async peerPresent(options: { signal?: AbortSignal } = {}): Promise<void> {
    await this.#until(() => this.#presence === "present", options.signal);
  }

  /**
   * Resolves when the peer is not there, at once if it is not.
   *
   * @throws {NetworkError} if the channel is closed or broken
   * @throws the signal's reason on abort
   */
  async peerAbsent(options: { signal?: AbortSignal } = {}): Promise<void> {
    await this.#until(() => this.#presence === "absent", options.signal);
  }

  /** @ignore resolves with the server's first notice, which reports whether the peer is there */
  async entered(signal?: AbortSignal): Promise<void> {
    await this.#until(() => this.#presence !== "unknown", signal);
  }

  /** As {@linkcode SignalChannel.send}. @throws {RangeError} if the message is too long */
  // deno-lint-ignore require-await -- a promise that rejects, where the plain call throws
  async send(message: Uint8Array): Promise<void> {
    if (message.length > MAX_SIGNAL_BYTES) {
      throw new RangeError(
        `Cannot send: a message has at most ${MAX_SIGNAL_BYTES} bytes, not ${message.length}`,
      );
    }
    if (this.#failure !== undefined) throw this.#failure;
    if (this.isPeerPresent) this.#socket.send("binary", message);
    else this.#kept = message.slice();
  }

  /** As {@linkcode SignalChannel.receive}. */
  receive(options: { signal?: AbortSignal } = {}): Promise<Uint8Array> {
    return this.#arrived.next(options.signal);
  }

  /** Leaves the room; idempotent. */
  close(): void {
    this.#fail(new NetworkError("Cannot use the signal channel: it is closed", "closed"));
    this.#socket.close(CLOSE_CODES.normal, "");
  }

  /** Leaves the room, and waits until the connection is closed. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
    await this.#finished;
  }

  /** Never rejects: `send()` and `receive()` do. */
  async #receiveAll(): Promise<void> {
    const turns = new TokenBucket(MESSAGE_RATE, performance.now());
    try {
      let message = await this.#socket.receive();
      for (; message.kind !== "close"; message = await this.#socket.receive()) {
        await waitForTokens(turns);
        this.#accept(message);
      }
      this.#socket.close(CLOSE_CODES.normal, "");
      const { code, reason } = message;
      this.#fail(broken(`the server closed it: ${code} ${reason}`.trimEnd()));
    } catch (error) {
      if (error instanceof MalformedMessageError) this.#socket.close(CLOSE_CODES.malformed, "");
      else if (error instanceof RefusedError) this.#socket.close(error.code, "");
      else if (!(error instanceof NetworkError)) throw error;
      this.#fail(broken(error.message, error));
    }
    await this.#socket.finish();
  }

  #accept(message: Exclude<WebSocketMessage, { kind: "close" }>): void {
    if (message.kind === "binary") this.#arrived.push(message.data);
    else if (message.kind === "ping") this.#socket.send("pong", message.data);
    else if (message.kind === "text") this.#acceptNotice(message.text);
  }

  #acceptNotice(text: string): void {
    const notice = decodeNotice(text);
    if (notice.kind === "peer") this.#setPresence(notice.isPresent ? "present" : "absent");
    if (notice.kind === "ping") this.#sendText(encodeNotice({ kind: "pong", id: notice.id }));
    if (notice.kind === "pong") this.#acceptPong(notice.id);
  }

  #setPresence(presence: "present" | "absent"): void {
    this.#presence = presence;
    const changed = this.#changed;
    this.#changed = Promise.withResolvers();
    changed.resolve();
    if (presence === "absent") return;
    const kept = this.#kept;
    this.#kept = undefined;
    if (kept !== undefined) this.#socket.send("binary", kept);
    this.#rttMs = undefined; // it may be another peer
    this.#sendPing(RTT_SAMPLES);
  }

  #sendPing(left: number): void {
    const id = this.#ping.id + 1;
    this.#ping = { id, sentMs: performance.now(), left: left - 1 };
    this.#sendText(encodeNotice({ kind: "ping", id }));
  }

  #acceptPong(id: number): void {
    if (id !== this.#ping.id || this.#ping.left < 0) return;
    this.#rttMs = Math.min(this.#rttMs ?? Infinity, performance.now() - this.#ping.sentMs);
    if (this.#ping.left > 0) this.#sendPing(this.#ping.left);
    else this.#ping.left = -1; // measured: further pongs are ignored
  }

  #sendText(text: string): void {
    this.#socket.send("text", new TextEncoder().encode(text));
  }

  async #until(isSo: () => boolean, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    while (!isSo()) {
      if (this.#failure !== undefined) throw this.#failure;
      const changed = this.#changed.promise;
      await (signal === undefined ? changed : abortable(changed, signal));
    }
  }

  #fail(failure: NetworkError): void {
    this.#failure ??= failure;
    this.#arrived.close(this.#failure);
    this.#presence = "unknown";
    this.#changed.resolve();
  }
}

function broken(why: string, cause?: unknown): NetworkError {
  return new NetworkError(`Cannot use the signal channel: ${why}`, "reset", { cause });
}

/** Chosen by us: messages that the application has not received; more are lost. */
const MAX_WAITING = 256;

/** Chosen by us: eight of the longest messages that wait for the server; more are lost. */
const MAX_QUEUED_BYTES = 8 * (MAX_SIGNAL_BYTES + 14);

/** Chosen by us: the shortest of three counts, because a single one may have waited for a lost segment. */
const RTT_SAMPLES = 3;
