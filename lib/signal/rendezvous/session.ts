/**
 * One client of a rendezvous server, from its first byte to its last.
 *
 * @module
 */

import { MalformedMessageError, NetworkError, RefusedError } from "../../base/errors.ts";
import { writeAll } from "../../base/reader.ts";
import type { SortedConnection } from "../../net/demultiplexer.ts";
import type { IpPrefix } from "../../net/ip_prefix.ts";
import type { TcpConnection } from "../../net/network.ts";
import {
  CLOSE_CODES,
  newHandshakeReader,
  readHead,
  WebSocketConnection,
  type WebSocketMessage,
} from "../websocket/connection.ts";
import {
  encodeHealthy,
  encodeRefusal,
  encodeUpgradeResponse,
  judgeUpgradeRequest,
  type RefusalStatus,
} from "../websocket/handshake.ts";
import { type ServerFrames, toServerFrames } from "../websocket/frame.ts";
import type { FairTurns } from "./fair_turns.ts";
import { clientAddress } from "./forwarded.ts";
import { MAX_RELAYED_BYTES } from "./message.ts";
import type { RelaySocket } from "./relay.ts";

/** What one client may cost. */
export interface SessionLimits {
  /** A connection that has not become a WebSocket in this time is closed. */
  readonly upgradeMs: number;
  /** How often a client is pinged; one that stays silent after two pings is dropped. */
  readonly pingMs: number;
  /** How long a client may stay connected. */
  readonly maxLifetimeMs: number;
  /** How long a client may go on sending while its messages wait for their turn, without a pause in which they catch up. */
  readonly maxBehindMs: number;
  /** How much may wait for a client that reads slowly; messages beyond that are lost. */
  readonly maxQueuedBytes: number;
}

/** Accepts an upgrade request, with a handler for the client's messages, or refuses it. */
export type RequestHandler = (
  request: ClientRequest,
  client: ClientSocket,
) => MessageHandler | StreamHandler | RefusalStatus;

/** What a client asks for. */
export interface ClientRequest {
  /** The path. */
  readonly target: string;
  /** The client's IP address, as far as the server knows. */
  readonly ip: string;
}

/** Handles the messages of one client. */
export interface MessageHandler {
  /** The longest message that the client may send. */
  readonly maxMessageBytes: number;
  /** Called when the client can be sent messages. */
  enter(): void;
  /** Handles a message; returns how many messages it has sent, or `"end"` if the message breaks the rules. */
  accept(message: Exclude<WebSocketMessage, { kind: "close" }>): number | "end";
  /** Called when the client has gone. */
  leave(): void;
}

/** Handles all that a client sends by itself, at its own pace and without turns. */
export interface StreamHandler {
  /** The longest message that the client may send at first. */
  readonly maxMessageBytes: number;
  /** How much may be queued for the client. */
  readonly maxQueuedBytes: number;
  /** Serves the client until it has gone. */
  serve(socket: RelaySocket): Promise<void>;
}

/** A client's socket; what is sent before the upgrade is lost. */
export interface ClientSocket {
  /** Sends a message, unless too much waits already. */
  send(kind: "binary" | "text" | "pong", data: Uint8Array): void;
  /** As `send()`, for a frame that is already encoded. */
  sendFrame(frame: Uint8Array): void;
  /** Starts to close. */
  close(code: number, reason: string): void;
}

/** What a {@linkcode RendezvousSession} is made of. */
export interface RendezvousSessionOptions {
  /** Decides on the client's request. */
  readonly handleRequest: RequestHandler;
  /** Proxies that are trusted to name the client's address. */
  readonly proxies: readonly IpPrefix[];
  /** Decides when each message is handled. */
  readonly turns: FairTurns;
  /** What the client may cost. */
  readonly limits: SessionLimits;
  /** Tells what the client speaks; `undefined` if it is of no use. Default: HTTP. */
  readonly sort?: (connection: TcpConnection) => Promise<SortedConnection | undefined>;
  /** Serves a client that speaks STUN, until it ends. */
  readonly serveStun?: (connection: TcpConnection) => Promise<void>;
  /** Whether a request has to come inside of TLS. */
  readonly needsTls?: boolean;
  /** Called with the HTTP status of each refusal. */
  readonly onRefused: (status: RefusalStatus) => void;
}

/** One client. */
export class RendezvousSession implements ClientSocket {
  #connection: TcpConnection;
  readonly #options: RendezvousSessionOptions;
  readonly #handleRequest: RequestHandler;
  readonly #proxies: readonly IpPrefix[];
  readonly #turns: FairTurns;
  readonly #limits: SessionLimits;
  #ip: string;
  readonly #startedMs = performance.now();
  #socket: WebSocketConnection | undefined;
  #unansweredPings = 0;
  #isStream = false;

  constructor(connection: TcpConnection, options: RendezvousSessionOptions) {
    this.#options = options;
    this.#connection = connection;
    this.#ip = connection.remote.ip;
    this.#handleRequest = options.handleRequest;
    this.#proxies = options.proxies;
    this.#turns = options.turns;
    this.#limits = options.limits;
  }

  /** Serves the client until either side ends the session. */
  async run(): Promise<void> {
    try {
      const handler = await this.#upgrade();
      if (handler !== undefined) await this.#serve(this.#socket!, handler);
    } catch (error) {
      if (!(error instanceof NetworkError)) throw error; // the client has gone
    } finally {
      this.#connection.close();
    }
  }

  /** Serves a client that another node has upgraded, until either side ends the session. */
  async runUpgraded(handler: StreamHandler): Promise<void> {
    try {
      this.#isStream = true;
      const reader = newHandshakeReader(this.#connection);
      const { maxMessageBytes, maxQueuedBytes } = handler;
      const limits = { maxMessageBytes, maxQueuedBytes };
      this.#socket = new WebSocketConnection(this.#connection, { role: "server", reader, limits });
      await this.#serve(this.#socket, handler);
    } catch (error) {
      if (!(error instanceof NetworkError)) throw error; // the client has gone
    } finally {
      this.#connection.close();
    }
  }

  /** Whether the client is at the relay, or on its way there. */
  get isStream(): boolean {
    return this.#isStream;
  }

  /** Ends the session because the server ends. */
  end(): void {
    if (this.#socket === undefined) this.#connection.reset();
    else this.#socket.close(CLOSE_CODES.goingAway, "the server ends");
  }

  send(kind: "binary" | "text" | "pong", data: Uint8Array): void {
    this.#socket?.send(kind, data);
  }

  sendFrame(frame: Uint8Array): void {
    this.#socket?.sendFrame(frame);
  }

  close(code: number, reason: string): void {
    this.#socket?.close(code, reason);
  }

  /** The handler of an accepted client; `undefined` after a refusal. */
  async #upgrade(): Promise<MessageHandler | StreamHandler | undefined> {
    const tooLate = setTimeout(() => this.#connection.reset(), this.#limits.upgradeMs);
    try {
      const sorted = await this.#options.sort?.(this.#connection);
      if (this.#options.sort !== undefined && sorted === undefined) return undefined;
      if (sorted !== undefined) this.#connection = sorted.connection;
      const { serveStun, needsTls } = this.#options;
      if (sorted?.protocol === "stun" && serveStun !== undefined) {
        clearTimeout(tooLate);
        await serveStun(this.#connection);
        return undefined;
      }
      const reader = newHandshakeReader(this.#connection);
      const request = judgeUpgradeRequest(await readHead(this.#connection, reader));
      if (request.kind === "health check") return await this.#answer(encodeHealthy(Date.now()));
      if (needsTls && !sorted?.isSecure) return await this.#refuse(421);
      if (request.kind === "refused") return await this.#refuse(request.status);
      const { target, forwardedFor } = request;
      this.#ip = clientAddress(this.#connection.remote.ip, forwardedFor, this.#proxies);
      const handler = this.#handleRequest({ target, ip: this.#ip }, this);
      if (typeof handler === "number") return await this.#refuse(handler);
      this.#socket = new WebSocketConnection(this.#connection, {
        role: "server",
        reader,
        handshake: encodeUpgradeResponse(request.key),
        limits: {
          maxMessageBytes: handler.maxMessageBytes,
          maxQueuedBytes: isStream(handler) ? handler.maxQueuedBytes : this.#limits.maxQueuedBytes,
        },
      });
      this.#isStream = isStream(handler);
      // At once: what others send to this client from now on finds a socket.
      if (!isStream(handler)) handler.enter();
      return handler;
    } catch (error) {
      if (error instanceof MalformedMessageError) return await this.#refuse(400);
      if (error instanceof RefusedError) return await this.#refuse(431);
      throw error;
    } finally {
      clearTimeout(tooLate);
    }
  }

  #refuse(status: RefusalStatus): Promise<undefined> {
    this.#options.onRefused(status);
    return this.#answer(encodeRefusal(status));
  }

  async #answer(response: Uint8Array): Promise<undefined> {
    await writeAll(this.#connection, response);
    await this.#connection.closeWrite();
  }

  async #serve(
    socket: WebSocketConnection,
    handler: MessageHandler | StreamHandler,
  ): Promise<void> {
    const pinging = setInterval(() => this.#checkAlive(socket), this.#limits.pingMs);
    try {
      if (isStream(handler)) await handler.serve(this.#streamOf(socket, pinging));
      else await this.#acceptAll(socket, handler);
    } catch (error) {
      if (error instanceof MalformedMessageError) socket.close(CLOSE_CODES.malformed, "malformed");
      else if (error instanceof RefusedError) socket.close(error.code, "message too long");
      else throw error;
    } finally {
      clearInterval(pinging);
      if (!isStream(handler)) handler.leave();
      await socket.finish();
    }
  }

  /** The socket for a handler that reads by itself; every message shows that the client is alive. */
  #streamOf(socket: WebSocketConnection, pinging: ReturnType<typeof setInterval>): RelaySocket {
    return {
      receive: async () => {
        const message = await socket.receive();
        this.#unansweredPings = 0;
        if (message.kind === "ping") socket.send("pong", message.data);
        return message;
      },
      receiveFrames: async (maxBytes) => {
        await socket.arrived();
        this.#unansweredPings = 0;
        let frames = NO_FRAMES;
        socket.takeBytes((arrived) => {
          frames = toServerFrames(arrived, { maxPayloadLength: MAX_RELAYED_BYTES, maxBytes });
          return frames.taken;
        });
        return frames;
      },
      sendFrame: (frame) => socket.sendFrame(frame),
      drained: (maxBytes) => socket.drained(maxBytes),
      close: (code, reason) => socket.close(code, reason),
      allow: (maxMessageBytes) => socket.allow(maxMessageBytes),
      enlarge: (readBytes) => socket.enlarge(readBytes),
      release: () => {
        clearInterval(pinging);
        return socket.release();
      },
    };
  }

  /** Also ends a client that stays behind, so that one that has gone does not leave minutes of work in its socket. */
  async #acceptAll(socket: WebSocketConnection, handler: MessageHandler): Promise<void> {
    let next: "go-on" | "end" = "go-on";
    let caughtUpMs = performance.now();
    while (next === "go-on") {
      const askedMs = performance.now();
      const message = await socket.receive();
      const receivedMs = performance.now();
      if (receivedMs - askedMs >= MOMENT_MS) caughtUpMs = receivedMs;
      const maxWaitMs = caughtUpMs + this.#limits.maxBehindMs - receivedMs;
      const hasRun = await this.#turns.run(this.#ip, () => {
        const { cost, isOver } = this.#acceptSome(socket, handler, message);
        if (isOver) next = "end";
        return cost;
      }, maxWaitMs);
      if (!hasRun) return socket.close(CLOSE_CODES.policy, "too many messages");
      if (performance.now() - receivedMs < MOMENT_MS) caughtUpMs = receivedMs;
    }
  }

  /** Handles a message, and those that have arrived with it. */
  #acceptSome(
    socket: WebSocketConnection,
    handler: MessageHandler,
    first: WebSocketMessage,
  ): { readonly cost: number; readonly isOver: boolean } {
    let cost = 0;
    for (let message: WebSocketMessage | undefined = first; message !== undefined;) {
      const sent = this.#accept(socket, handler, message);
      if (sent === "end") return { cost: cost + 1, isOver: true };
      cost += 1 + sent;
      message = cost < MAX_TURN_COST ? socket.receiveNow() : undefined;
    }
    return { cost, isOver: false };
  }

  /** Control frames count as messages too: a flood of pings is a flood. */
  #accept(
    socket: WebSocketConnection,
    handler: MessageHandler,
    message: WebSocketMessage,
  ): number | "end" {
    this.#unansweredPings = 0;
    if (message.kind === "close") {
      socket.close(CLOSE_CODES.normal, "");
      return "end";
    }
    const sent = handler.accept(message);
    if (sent === "end") {
      socket.close(CLOSE_CODES.policy, "too many messages");
      return "end";
    }
    if (message.kind === "ping") socket.send("pong", message.data);
    return sent;
  }

  #checkAlive(socket: WebSocketConnection): void {
    if (performance.now() - this.#startedMs > this.#limits.maxLifetimeMs) {
      socket.close(CLOSE_CODES.policy, "long enough");
    } else if (++this.#unansweredPings > 2) {
      socket.abort();
    } else {
      socket.send("ping", new Uint8Array());
    }
  }
}

function isStream(handler: MessageHandler | StreamHandler): handler is StreamHandler {
  return "serve" in handler;
}

const NO_FRAMES: ServerFrames = { frames: new Uint8Array(0), taken: 0, count: 0 };

/** Chosen by us: messages that wait less have not waited, and a client that sends nothing for so long pauses. */
const MOMENT_MS = 50;

/** Chosen by us: what one turn may cost, and the last message of it on top. A turn takes 0.2 ms. */
const MAX_TURN_COST = 32;
