/**
 * A signal channel by way of a rendezvous server.
 *
 * @module
 */

import { MalformedMessageError, NetworkError, RefusedError } from "../../base/errors.ts";
import { WaitQueue } from "../../base/wait_queue.ts";
import type { Network } from "../../net/network.ts";
import { systemNetwork } from "../../net/system.ts";
import { MAX_SIGNAL_BYTES, type SignalChannel } from "../channel.ts";
import {
  CLOSE,
  dialWebSocket,
  type WebSocketConnection,
  type WebSocketMessage,
} from "../websocket/connection.ts";
import { decodeNotice, encodeNotice } from "./message.ts";
import { isRoomName } from "./rooms.ts";

/** How to open a channel. */
export interface WebSocketChannelOptions {
  /** Whose sockets to use; the system's unless told. */
  readonly network?: Network;
  /** Gives the opening up. The channel that is open then is closed by its owner. */
  readonly signal?: AbortSignal;
}

/**
 * Enters a room of a rendezvous server. Whoever else knows the server and the room's name can enter as well, before
 * or instead of the peer that is meant: what comes out of the channel proves nothing.
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
 * await a.send(new TextEncoder().encode("hello")); // nobody is there yet: kept until somebody is
 * await using b = await openWebSocketChannel(server.url, "kitchen");
 * assertEquals(new TextDecoder().decode(await b.receive()), "hello");
 * ```
 *
 * @param url of the server: `ws://HOST:PORT` or `wss://HOST`, with a path if a proxy in front of it wants one
 * @param room 1 to 64 letters, digits and `-._~`
 * @throws {TypeError} if the URL or the name of the room is none
 * @throws {RefusedError} 409 if two are in the room, 503 if the server has no room, or another HTTP status
 * @throws {MalformedMessageError} if there is no WebSocket server at the URL
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
      `Cannot enter room ${JSON.stringify(room)}: a name has 1 to 64 letters, digits and -._~`,
    );
  }
  const target = new URL(url);
  target.pathname = `${target.pathname.replace(/\/$/, "")}/${room}`;
  const limits = { maxMessageBytes: MAX_SIGNAL_BYTES, maxQueuedBytes: MAX_QUEUED_BYTES };
  const channel = new WebSocketChannel(await dialWebSocket(target, { network, signal, limits }));
  try {
    await channel.entered(signal); // the server says at once who is there
    return channel;
  } catch (error) {
    channel.close();
    throw error;
  }
}

/**
 * A room as this side sees it. A message that is sent while nobody else is there is kept, the newest alone, and sent
 * once somebody is: the server keeps none.
 */
export class WebSocketChannel implements SignalChannel, AsyncDisposable {
  readonly #socket: WebSocketConnection;
  readonly #arrived = new WaitQueue<Uint8Array>(MAX_WAITING);
  readonly #finished: Promise<void>;
  #ping = { id: 0, sentMs: 0, left: 0 };
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
   * The shortest measured time for a message to the other side and back; it is asked when it comes, and answers by
   * itself. The other side could say less than the truth, or nothing.
   */
  get rttMs(): number | undefined {
    return this.#rttMs;
  }

  /** Whether the other side is there, as the server says. */
  get isPeerPresent(): boolean {
    return this.#presence === "present";
  }

  /**
   * Resolves when the other side is there, at once if it is.
   *
   * @throws {NetworkError} if the channel is closed or broken
   * @throws the signal's reason on abort
   */
  async peerPresent(options: { signal?: AbortSignal } = {}): Promise<void> {
    await this.#until(() => this.#presence === "present", options.signal);
  }

  /** Resolves when the other side is not there, or has left; as {@linkcode WebSocketChannel.peerPresent}. */
  async peerAbsent(options: { signal?: AbortSignal } = {}): Promise<void> {
    await this.#until(() => this.#presence === "absent", options.signal);
  }

  /** @ignore resolves when the server has said who is there */
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
    this.#socket.close(CLOSE.normal, "");
  }

  /** Leaves the room, and waits until the connection is closed. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
    await this.#finished;
  }

  /** Never rejects: whoever uses the channel is told. */
  async #receiveAll(): Promise<void> {
    try {
      let message = await this.#socket.receive();
      for (; message.kind !== "close"; message = await this.#socket.receive()) {
        this.#accept(message);
      }
      this.#socket.close(CLOSE.normal, "");
      const { code, reason } = message;
      this.#fail(broken(`the server has closed it: ${code} ${reason}`.trimEnd()));
    } catch (error) {
      if (error instanceof MalformedMessageError) this.#socket.close(CLOSE.malformed, "");
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
    else this.#ping.left = -1; // answered
  }

  #sendText(text: string): void {
    this.#socket.send("text", new TextEncoder().encode(text));
  }

  async #until(isSo: () => boolean, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    const { promise: aborted, reject } = Promise.withResolvers<never>();
    const onAbort = () => reject(signal?.reason);
    signal?.addEventListener("abort", onAbort, { once: true });
    try {
      while (!isSo()) {
        if (this.#failure !== undefined) throw this.#failure;
        await Promise.race([this.#changed.promise, aborted]);
      }
    } finally {
      signal?.removeEventListener("abort", onAbort);
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

/** Messages that nobody has received; more are lost. */
const MAX_WAITING = 256;

/** Ours: eight of the longest messages that the server has not taken yet; more are lost. */
const MAX_QUEUED_BYTES = 8 * (MAX_SIGNAL_BYTES + 14);

/** Ours: the shortest of three, because a single one may have waited for a lost segment. */
const RTT_SAMPLES = 3;
