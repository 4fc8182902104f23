/**
 * One client of a rendezvous server, from its first byte to its last.
 *
 * @module
 */

import { MalformedMessageError, NetworkError, RefusedError } from "../errors.ts";
import type { TcpConnection } from "../net/network.ts";
import { MAX_SIGNAL_BYTES } from "./channel.ts";
import { decodeNotice, encodeNotice } from "./rendezvous_notice.ts";
import { type RendezvousRooms, roomOfPath } from "./rendezvous_rooms.ts";
import {
  CLOSE,
  readHead,
  WebSocketConnection,
  type WebSocketMessage,
  writeAll,
} from "./websocket.ts";
import {
  encodeRefusal,
  encodeUpgradeResponse,
  judgeUpgradeRequest,
  type RefusalStatus,
} from "./websocket_upgrade.ts";

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

/** One client. */
export class RendezvousSession {
  readonly #connection: TcpConnection;
  readonly #rooms: RendezvousRooms<RendezvousSession>;
  readonly #limits: SessionLimits;
  readonly #bornMs = performance.now();
  #socket: WebSocketConnection | undefined;
  #silentTurns = 0;

  constructor(
    connection: TcpConnection,
    rooms: RendezvousRooms<RendezvousSession>,
    limits: SessionLimits,
  ) {
    this.#connection = connection;
    this.#rooms = rooms;
    this.#limits = limits;
  }

  /** Talks until either side has enough. */
  async run(): Promise<void> {
    try {
      const socket = await this.#upgrade();
      if (socket !== undefined) await this.#converse(socket);
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

  /** Tells the client something. */
  notify(notice: Parameters<typeof encodeNotice>[0]): void {
    this.#socket?.send("text", new TextEncoder().encode(encodeNotice(notice)));
  }

  /** The socket of somebody who is in a room now; others are told why they are not. */
  async #upgrade(): Promise<WebSocketConnection | undefined> {
    const tooLate = setTimeout(() => this.#connection.reset(), this.#limits.upgradeMs);
    try {
      const { head, rest } = await readHead(this.#connection);
      const request = judgeUpgradeRequest(head);
      if (request.kind === "refused") return await this.#refuse(request.status);
      const room = roomOfPath(request.target);
      if (room === undefined) return await this.#refuse(404);
      const joining = this.#rooms.join(room, this, performance.now());
      if (joining.kind === "refused") {
        return await this.#refuse(joining.why === "room-full" ? 409 : 503);
      }
      return this.#open(encodeUpgradeResponse(request.key), rest, joining.peer);
    } catch (error) {
      if (error instanceof MalformedMessageError) return await this.#refuse(400);
      if (error instanceof RefusedError) return await this.#refuse(431);
      throw error;
    } finally {
      clearTimeout(tooLate);
    }
  }

  /** At once, so that whatever the peer sends when it hears of this client finds a socket. */
  #open(
    handshake: Uint8Array,
    first: Uint8Array,
    peer: RendezvousSession | undefined,
  ): WebSocketConnection {
    const { maxQueuedBytes } = this.#limits;
    const limits = { maxMessageBytes: MAX_SIGNAL_BYTES, maxQueuedBytes };
    const options = { role: "server", handshake, first, limits } as const;
    this.#socket = new WebSocketConnection(this.#connection, options);
    this.notify({ kind: "peer", isPresent: peer !== undefined });
    peer?.notify({ kind: "peer", isPresent: true });
    return this.#socket;
  }

  async #refuse(status: RefusalStatus): Promise<undefined> {
    await writeAll(this.#connection, encodeRefusal(status));
    await this.#connection.closeWrite();
  }

  async #converse(socket: WebSocketConnection): Promise<void> {
    const asking = setInterval(() => this.#checkAlive(socket), this.#limits.pingMs);
    try {
      while (this.#accept(socket, await socket.receive()) === "go-on");
    } catch (error) {
      if (error instanceof MalformedMessageError) socket.close(CLOSE.malformed, "malformed");
      else if (error instanceof RefusedError) socket.close(error.code, "message too long");
      else throw error;
    } finally {
      clearInterval(asking);
      this.#rooms.leave(this)?.notify({ kind: "peer", isPresent: false });
      await socket.finish();
    }
  }

  /** Every message counts, those of the protocol too: a flood of pings is a flood. */
  #accept(socket: WebSocketConnection, message: WebSocketMessage): "go-on" | "end" {
    this.#silentTurns = 0;
    if (message.kind === "close") {
      socket.close(CLOSE.normal, "");
      return "end";
    }
    const passing = this.#rooms.pass(this, performance.now());
    if (passing.kind === "too-many") {
      socket.close(CLOSE.policy, "too many messages");
      return "end";
    }
    if (message.kind === "ping") socket.send("pong", message.data);
    if (passing.kind !== "to") return "go-on";
    if (message.kind === "binary") passing.peer.#socket?.send("binary", message.data);
    if (message.kind === "text") {
      const notice = decodeNotice(message.text);
      if (notice.kind === "ping" || notice.kind === "pong") passing.peer.notify(notice);
    }
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
