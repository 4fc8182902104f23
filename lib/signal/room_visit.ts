/**
 * A client of a rendezvous server that has come for a room.
 *
 * @module
 */

import { MAX_SIGNAL_BYTES } from "./channel.ts";
import { decodeNotice, encodeNotice } from "./rendezvous/protocol.ts";
import { type RendezvousRooms, roomOfPath } from "./rendezvous/rooms.ts";
import type { ClientSocket, Visit } from "./rendezvous/session.ts";
import type { WebSocketMessage } from "./websocket/connection.ts";
import type { RefusalStatus } from "./websocket/handshake.ts";

/** One of two in a room. */
export class RoomVisit implements Visit {
  readonly maxMessageBytes = MAX_SIGNAL_BYTES;
  readonly #client: ClientSocket;
  readonly #rooms: RendezvousRooms<RoomVisit>;
  #first: RoomVisit | undefined;

  private constructor(client: ClientSocket, rooms: RendezvousRooms<RoomVisit>) {
    this.#client = client;
    this.#rooms = rooms;
  }

  /** Lets somebody into the room that the path names, or says why not. */
  static receive(
    path: string,
    client: ClientSocket,
    rooms: RendezvousRooms<RoomVisit>,
  ): RoomVisit | RefusalStatus {
    const room = roomOfPath(path);
    if (room === undefined) return 404;
    const visit = new RoomVisit(client, rooms);
    const joining = rooms.join(room, visit, performance.now());
    if (joining.kind === "refused") return joining.why === "room-full" ? 409 : 503;
    visit.#first = joining.peer;
    return visit;
  }

  enter(): void {
    this.notify({ kind: "peer", isPresent: this.#first !== undefined });
    this.#first?.notify({ kind: "peer", isPresent: true });
  }

  accept(message: Exclude<WebSocketMessage, { kind: "close" }>): "go-on" | "end" {
    const passing = this.#rooms.pass(this, performance.now());
    if (passing.kind === "too-many") return "end";
    if (passing.kind !== "to") return "go-on";
    if (message.kind === "binary") passing.peer.#client.send("binary", message.data);
    if (message.kind === "text") {
      const notice = decodeNotice(message.text);
      if (notice.kind === "ping" || notice.kind === "pong") passing.peer.notify(notice);
    }
    return "go-on";
  }

  leave(): void {
    this.#rooms.leave(this)?.notify({ kind: "peer", isPresent: false });
  }

  /** Tells the client something. */
  notify(notice: Parameters<typeof encodeNotice>[0]): void {
    this.#client.send("text", new TextEncoder().encode(encodeNotice(notice)));
  }
}
