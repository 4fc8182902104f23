/**
 * The rooms of a rendezvous server: who is in which, and how much each member may send.
 *
 * @module
 */

import { TokenBucket } from "../../base/rate_limiter.ts";
import { MAX_SIGNAL_BYTES } from "../channel.ts";
import type { WebSocketMessage } from "../websocket/connection.ts";
import type { RefusalStatus } from "../websocket/handshake.ts";
import { decodeNotice, encodeNotice, roomOfPath } from "./message.ts";
import type { ClientSocket, MessageHandler } from "./session.ts";

/** Limits of rooms and their members; see {@linkcode DEFAULT_RENDEZVOUS_LIMITS}. */
export interface RoomLimits {
  /** Rooms with a member. */
  readonly maxRooms: number;
  /** Messages that one member may send at once, notices included. */
  readonly messageBurst: number;
  /** Messages that one member may send per second in the long run. */
  readonly messagesPerSecond: number;
}

/** One of two members of a room. */
export class RoomMember implements MessageHandler {
  readonly maxMessageBytes = MAX_SIGNAL_BYTES;
  readonly #client: ClientSocket;
  readonly #rooms: RendezvousRooms<RoomMember>;
  /** The member that was there first. */
  #first: RoomMember | undefined;

  private constructor(client: ClientSocket, rooms: RendezvousRooms<RoomMember>) {
    this.#client = client;
    this.#rooms = rooms;
  }

  /** Lets a client into the room that the path names, or refuses it. */
  static join(
    path: string,
    client: ClientSocket,
    rooms: RendezvousRooms<RoomMember>,
  ): RoomMember | RefusalStatus {
    const room = roomOfPath(path);
    if (room === undefined) return 404;
    const member = new RoomMember(client, rooms);
    const joined = rooms.join(room, member, performance.now());
    if (joined.kind === "refused") return joined.why === "room-full" ? 409 : 503;
    member.#first = joined.peer;
    return member;
  }

  enter(): void {
    this.notify({ kind: "peer", isPresent: this.#first !== undefined });
    this.#first?.notify({ kind: "peer", isPresent: true });
  }

  accept(message: Exclude<WebSocketMessage, { kind: "close" }>): number | "end" {
    const route = this.#rooms.route(this, performance.now());
    if (route.kind === "too-many") return "end";
    if (route.kind !== "to") return 0;
    if (message.kind === "binary") route.peer.#client.send("binary", message.data);
    if (message.kind === "text") {
      const notice = decodeNotice(message.text);
      if (notice.kind === "ping" || notice.kind === "pong") route.peer.notify(notice);
    }
    return 1;
  }

  leave(): void {
    this.#rooms.leave(this)?.notify({ kind: "peer", isPresent: false });
  }

  /** Sends the client a notice. */
  notify(notice: Parameters<typeof encodeNotice>[0]): void {
    this.#client.send("text", new TextEncoder().encode(encodeNotice(notice)));
  }
}

/** Whether a member was let into a room, and whom it met there. */
export type JoinResult<M> =
  | { readonly kind: "joined"; readonly peer: M | undefined }
  | { readonly kind: "refused"; readonly why: "room-full" | "no-room-free" };

/** Where a message goes. */
export type MessageRoute<M> =
  | { readonly kind: "to"; readonly peer: M }
  | { readonly kind: "no-peer" }
  | { readonly kind: "too-many" };

/** Rooms of two. A room exists while it has a member, and stores nothing. */
export class RendezvousRooms<M> {
  readonly #limits: RoomLimits;
  readonly #rooms = new Map<string, M[]>();
  readonly #memberships = new Map<M, RoomMembership>();

  constructor(limits: RoomLimits) {
    this.#limits = limits;
  }

  /** How many rooms have a member. */
  get size(): number {
    return this.#rooms.size;
  }

  /** Lets in a member that is in no room yet, if there is space. */
  join(room: string, member: M, nowMs: number): JoinResult<M> {
    const members = this.#rooms.get(room) ?? [];
    if (members.length === 2) return { kind: "refused", why: "room-full" };
    if (members.length === 0 && this.#rooms.size >= this.#limits.maxRooms) {
      return { kind: "refused", why: "no-room-free" };
    }
    const [peer] = members;
    members.push(member);
    this.#rooms.set(room, members);
    const { messageBurst: burst, messagesPerSecond: perSecond } = this.#limits;
    this.#memberships.set(member, { room, bucket: new TokenBucket({ burst, perSecond }, nowMs) });
    return { kind: "joined", peer };
  }

  /** Removes a member; returns the one that stays, if any. */
  leave(member: M): M | undefined {
    const room = this.#memberships.get(member)?.room;
    if (room === undefined) return undefined;
    this.#memberships.delete(member);
    const others = this.#rooms.get(room)!.filter((other) => other !== member);
    if (others.length > 0) this.#rooms.set(room, others);
    else this.#rooms.delete(room);
    return others[0];
  }

  /** Where a member's message goes; counts it. */
  route(member: M, nowMs: number): MessageRoute<M> {
    const membership = this.#memberships.get(member);
    if (membership === undefined) return { kind: "no-peer" };
    if (!membership.bucket.take(nowMs)) return { kind: "too-many" };
    const peer = this.#rooms.get(membership.room)!.find((other) => other !== member);
    return peer === undefined ? { kind: "no-peer" } : { kind: "to", peer };
  }
}

interface RoomMembership {
  readonly room: string;
  readonly bucket: TokenBucket;
}
