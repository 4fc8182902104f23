/**
 * A connection over the relay of a rendezvous server, as one end sees it.
 *
 * @module
 */

import { NetworkError, RefusedError } from "../../base/errors.ts";
import { shownUrl, withoutLogin } from "../../base/login.ts";
import type { TransportAddress } from "../../net/address.ts";
import type { Network, TcpConnection } from "../../net/network.ts";
import {
  CLOSE_CODES,
  dialWebSocket,
  type WebSocketConnection,
  type WebSocketMessage,
} from "../websocket/connection.ts";
import {
  isRelayEnd,
  MAX_RELAYED_BYTES,
  RELAY_CLOSE_CODES,
  RELAY_END,
  RELAY_PATH,
  RELAY_TOKEN_BYTES,
} from "./message.ts";
import { urlOfNode } from "./relay_nodes.ts";

/** How to open a connection over a relay. */
export interface OpenRelayConnectionOptions {
  /** The sockets to use. */
  readonly network: Network;
  /** What both ends present, and nobody else knows: 32 bytes. */
  readonly token: Uint8Array;
  /** Aborts the opening. */
  readonly signal?: AbortSignal;
}

/**
 * Opens one end of a connection over the relay of a rendezvous server. What is written before the other end is there
 * waits at the
 * server, which gives up after ten seconds; a read then fails. The relay may read, change and drop what it carries, so
 * the two ends have to encrypt and authenticate it.
 *
 * @param url the server's: `ws://HOST:PORT` or `wss://HOST`, with a path if a proxy in front of it needs one
 * @throws {TypeError} if the URL or the token is invalid
 * @throws {RefusedError} 404 if the server has no relay, or another HTTP status
 * @throws {MalformedMessageError} if the server is not a WebSocket server
 * @throws {NetworkError} if the server cannot be reached
 * @throws the signal's reason on abort
 */
export async function openRelayConnection(
  url: string,
  { network, token, signal }: OpenRelayConnectionOptions,
): Promise<TcpConnection> {
  const target = URL.parse(url);
  if (target === null || !/^wss?:$/.test(target.protocol)) {
    throw new TypeError(`Cannot relay by ${shownUrl(url)}: it is not a ws: or wss: URL`);
  }
  if (token.length !== RELAY_TOKEN_BYTES) {
    throw new TypeError(`Cannot relay: a token has ${RELAY_TOKEN_BYTES} bytes`);
  }
  target.pathname = `${target.pathname.replace(/\/$/, "")}${RELAY_PATH}`;
  const dial = (to: URL, signal?: AbortSignal) =>
    dialWebSocket(to, { network, signal, limits: LIMITS, isEncrypted: true });
  const socket = await dial(target, signal).catch((error) => {
    if (!(error instanceof RefusedError) || error.code !== NOT_FOUND) throw error;
    throw new RefusedError(`Cannot relay by ${withoutLogin(url)}: it has no relay`, NOT_FOUND, {
      remedy:
        "Run a newer `punchline serve` there, without --no-relay, or name a TURN relay in `turn`",
    });
  });
  return new RelayConnection(url, socket, {
    token,
    moveTo: (host) => {
      const moved = urlOfNode(target.href, host);
      return moved && dial(moved, AbortSignal.timeout(MOVE_MS));
    },
  });
}

/** How to come to another node. */
interface Moving {
  readonly token: Uint8Array;
  /** Dials a node that the rendezvous has named; `undefined` if that may not be dialled. */
  moveTo(host: string): Promise<WebSocketConnection> | undefined;
}

class RelayConnection implements TcpConnection {
  readonly #url: string;
  readonly #moving: Moving;
  #socket: WebSocketConnection;
  /** What was sent before the other end was there, to be repeated at another node; `undefined` once it stays here. */
  #early: Uint8Array[] | undefined = [];
  /** What was received and not read yet. */
  #rest: Uint8Array = new Uint8Array(0);
  #end: "open" | "ended" | "closed" = "open";
  #hasClosedWrite = false;
  #isClosed = false;
  #moves = 0;

  constructor(url: string, socket: WebSocketConnection, moving: Moving) {
    this.#url = url;
    this.#socket = socket;
    this.#moving = moving;
    socket.send("binary", moving.token);
  }

  get local(): TransportAddress {
    return this.#socket.ends.local;
  }

  get remote(): TransportAddress {
    return this.#socket.ends.remote;
  }

  async read(buffer: Uint8Array): Promise<number | null> {
    while (this.#rest.length === 0) {
      if (this.#isClosed) throw this.#lost("it is closed", "closed");
      if (this.#end !== "open") return null;
      await this.#receive();
    }
    const length = Math.min(this.#rest.length, buffer.length);
    buffer.set(this.#rest.subarray(0, length));
    this.#rest = this.#rest.subarray(length);
    return length;
  }

  async write(data: Uint8Array): Promise<number> {
    if (this.#isClosed || this.#hasClosedWrite) throw this.#lost("it is closed", "closed");
    const part = data.subarray(0, MAX_RELAYED_BYTES);
    const socket = this.#socket;
    await socket.drained(MAX_QUEUED_BYTES - part.length);
    const isMoved = socket !== this.#socket;
    const isSent = this.#socket.send("binary", part);
    const isKept = this.#keep(part);
    if (!isSent && (isMoved || !isKept)) throw this.#lost("the connection was cut", "reset");
    return part.length;
  }

  async closeWrite(): Promise<void> {
    if (this.#hasClosedWrite) return;
    this.#hasClosedWrite = true;
    await this.#socket.drained(MAX_QUEUED_BYTES);
    this.#socket.send("text", new TextEncoder().encode(RELAY_END));
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#socket.closeAndLeave(CLOSE_CODES.normal);
  }

  reset(): void {
    this.#isClosed = true;
    this.#socket.abort();
  }

  ref(): void {
    this.#socket.refer(true);
  }

  unref(): void {
    this.#socket.refer(false);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Whether it will be sent again if the connection moves. */
  #keep(part: Uint8Array): boolean {
    if (this.#early === undefined) return false;
    const bytes = this.#early.reduce((sum, each) => sum + each.length, part.length);
    if (bytes > MAX_QUEUED_BYTES) this.#early = undefined;
    else this.#early.push(part.slice());
    return this.#early !== undefined;
  }

  /** Comes to another node, where the other end is. */
  async #move(host: string, early: readonly Uint8Array[]): Promise<void> {
    const moving = this.#moving.moveTo(host);
    if (moving === undefined) {
      throw this.#lost(`it names ${JSON.stringify(host)}, which is not below its name`, "reset");
    }
    this.#socket.closeAndLeave(CLOSE_CODES.normal);
    const socket = await moving;
    this.#socket = socket;
    if (this.#isClosed) return socket.abort();
    socket.send("binary", this.#moving.token);
    for (const part of early) socket.send("binary", part);
    if (this.#hasClosedWrite) socket.send("text", new TextEncoder().encode(RELAY_END));
  }

  async #receive(): Promise<void> {
    try {
      const message = await this.#socket.receive();
      const isMoved = message.kind === "close" && message.code === RELAY_CLOSE_CODES.moved;
      if (isMoved && this.#early !== undefined && this.#moves++ < MAX_MOVES) {
        return await this.#move(message.reason, this.#early);
      }
      if (message.kind === "text" || message.kind === "binary") this.#early = undefined;
      this.#accept(message);
    } catch (error) {
      if (this.#isClosed) throw this.#lost("it is closed", "closed");
      throw error;
    }
  }

  #accept(message: WebSocketMessage): void {
    switch (message.kind) {
      case "binary":
        if (this.#end === "open") this.#rest = message.data;
        return;
      case "text":
        if (isRelayEnd(message.text)) this.#end = "ended";
        return; // that the other end is there shows in its first bytes
      case "ping":
        return void this.#socket.send("pong", message.data);
      case "close":
        this.#end = "closed";
        this.#socket.closeAndLeave(CLOSE_CODES.normal);
        if (message.code !== RELAY_CLOSE_CODES["peer-gone"]) throw this.#refusal(message);
        throw this.#lost(message.reason, "reset");
    }
  }

  /** Why the relay has ended the connection before the other end did. */
  #refusal({ code, reason }: Extract<WebSocketMessage, { kind: "close" }>): Error {
    if (code < 4000) {
      return this.#lost(`the server closed it: ${code} ${reason}`.trimEnd(), "reset");
    }
    return new RefusedError(`Cannot relay by ${withoutLogin(this.#url)}: ${reason}`, code, {
      remedy: "Try later, or name a TURN relay in `turn`",
    });
  }

  #lost(why: string, reason: "closed" | "reset"): NetworkError {
    return new NetworkError(`Cannot use the relay at ${withoutLogin(this.#url)}: ${why}`, reason);
  }
}

/** Chosen by us: the node that a pair meets at is one that the other end has come to. */
const MAX_MOVES = 2;

/** Chosen by us: less than the other end waits. */
const MOVE_MS = 5000;

/** HTTP. */
const NOT_FOUND = 404;

/** Chosen by us: four of the longest messages that wait for the server. */
const MAX_QUEUED_BYTES = 4 * MAX_RELAYED_BYTES;

/** Half of the queue is for what a caller does not wait for. */
const LIMITS = { maxMessageBytes: MAX_RELAYED_BYTES, maxQueuedBytes: 2 * MAX_QUEUED_BYTES };
