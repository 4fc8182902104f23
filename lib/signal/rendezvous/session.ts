/**
 * One client of a rendezvous server, from its first byte to its last.
 *
 * @module
 */

import { MalformedMessageError, NetworkError, RefusedError } from "../../base/errors.ts";
import { sourceKey } from "../../net/address.ts";
import type { TcpConnection } from "../../net/network.ts";
import { writeAll } from "../../base/reader.ts";
import {
  CLOSE,
  readHead,
  WebSocketConnection,
  type WebSocketMessage,
} from "../websocket/connection.ts";
import {
  encodeRefusal,
  encodeUpgradeResponse,
  judgeUpgradeRequest,
  type RefusalStatus,
} from "../websocket/handshake.ts";

/** What one client may cost. */
export interface SessionLimits {
  /** A connection that has not become a WebSocket in this time is closed. */
  readonly upgradeMs: number;
  /** How often a client is asked whether it is there; one that is silent twice in a row is gone. */
  readonly pingMs: number;
  /** How long anybody may stay. */
  readonly maxLifetimeMs: number;
  /** What may wait for a client that reads slowly; messages beyond that are lost. */
  readonly maxQueuedBytes: number;
}

/** What a client has come for. */
export interface MessageHandler {
  /** The longest message that it may send. */
  readonly maxMessageBytes: number;
  /** The client has a socket now. */
  enter(): void;
  /** Takes a message; `"end"` if that was one too many. */
  accept(message: Exclude<WebSocketMessage, { kind: "close" }>): "go-on" | "end";
  /** The client has gone. */
  leave(): void;
}

/** Lets a client in, who is upgraded to the socket then, or says why not. */
export type RequestHandler = (
  target: string,
  client: ClientSocket,
) => MessageHandler | RefusalStatus;

/** A client's socket; what is sent before the client is let in is lost. */
export interface ClientSocket {
  /** What an IPv4 address or an IPv6 /64 has in common. */
  readonly source: string;
  /** Sends something, unless too much waits already. */
  send(kind: "binary" | "text" | "pong", data: Uint8Array): void;
}

/** One client. */
export class RendezvousSession implements ClientSocket {
  readonly source: string;
  readonly #connection: TcpConnection;
  readonly #receive: RequestHandler;
  readonly #limits: SessionLimits;
  readonly #bornMs = performance.now();
  #socket: WebSocketConnection | undefined;
  #silentTurns = 0;

  constructor(connection: TcpConnection, receive: RequestHandler, limits: SessionLimits) {
    this.source = sourceKey(connection.remote.ip);
    this.#connection = connection;
    this.#receive = receive;
    this.#limits = limits;
  }

  /** Talks until either side has enough. */
  async run(): Promise<void> {
    try {
      const visit = await this.#upgrade();
      if (visit !== undefined) await this.#converse(this.#socket!, visit);
    } catch (error) {
      if (!(error instanceof NetworkError)) throw error; // the client has gone
    } finally {
      this.#connection.close();
    }
  }

  /** Ends it, as the server ends. */
  end(): void {
    if (this.#socket === undefined) this.#connection.reset();
    else this.#socket.close(CLOSE.goingAway, "the server ends");
  }

  send(kind: "binary" | "text" | "pong", data: Uint8Array): void {
    this.#socket?.send(kind, data);
  }

  /** What somebody does who is let in; others are told why they are not. */
  async #upgrade(): Promise<MessageHandler | undefined> {
    const tooLate = setTimeout(() => this.#connection.reset(), this.#limits.upgradeMs);
    try {
      const { head, rest } = await readHead(this.#connection);
      const request = judgeUpgradeRequest(head);
      if (request.kind === "refused") return await this.#refuse(request.status);
      const visit = this.#receive(request.target, this);
      if (typeof visit === "number") return await this.#refuse(visit);
      this.#socket = new WebSocketConnection(this.#connection, {
        role: "server",
        handshake: encodeUpgradeResponse(request.key),
        first: rest,
        limits: {
          maxMessageBytes: visit.maxMessageBytes,
          maxQueuedBytes: this.#limits.maxQueuedBytes,
        },
      });
      visit.enter(); // at once: whatever others say when they hear of this client finds a socket
      return visit;
    } catch (error) {
      if (error instanceof MalformedMessageError) return await this.#refuse(400);
      if (error instanceof RefusedError) return await this.#refuse(431);
      throw error;
    } finally {
      clearTimeout(tooLate);
    }
  }

  async #refuse(status: RefusalStatus): Promise<undefined> {
    await writeAll(this.#connection, encodeRefusal(status));
    await this.#connection.closeWrite();
  }

  async #converse(socket: WebSocketConnection, visit: MessageHandler): Promise<void> {
    const asking = setInterval(() => this.#checkAlive(socket), this.#limits.pingMs);
    try {
      while (this.#accept(socket, visit, await socket.receive()) === "go-on");
    } catch (error) {
      if (error instanceof MalformedMessageError) socket.close(CLOSE.malformed, "malformed");
      else if (error instanceof RefusedError) socket.close(error.code, "message too long");
      else throw error;
    } finally {
      clearInterval(asking);
      visit.leave();
      await socket.finish();
    }
  }

  /** Every message counts, those of the protocol too: a flood of pings is a flood. */
  #accept(
    socket: WebSocketConnection,
    visit: MessageHandler,
    message: WebSocketMessage,
  ): "go-on" | "end" {
    this.#silentTurns = 0;
    if (message.kind === "close") {
      socket.close(CLOSE.normal, "");
      return "end";
    }
    if (visit.accept(message) === "end") {
      socket.close(CLOSE.policy, "too many messages");
      return "end";
    }
    if (message.kind === "ping") socket.send("pong", message.data);
    return "go-on";
  }

  #checkAlive(socket: WebSocketConnection): void {
    if (performance.now() - this.#bornMs > this.#limits.maxLifetimeMs) {
      socket.close(CLOSE.policy, "long enough");
    } else if (++this.#silentTurns > 2) {
      socket.abort();
    } else {
      socket.send("ping", new Uint8Array());
    }
  }
}
