/**
 * The rooms of a rendezvous server: who is in which, and how much each member may send.
 *
 * @module
 */

import { TokenBucket } from "../../base/rate_limiter.ts";
import { MAX_SIGNAL_BYTES } from "../channel.ts";
import { CLOSE_CODES, type WebSocketMessage } from "../websocket/connection.ts";
import type { RefusalStatus } from "../websocket/handshake.ts";
import { decodeNotice, encodeNotice, roomOfPath } from "./message.ts";
import type { RemoteRooms, RoomGuest } from "./remote_rooms.ts";
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
export class RoomMember implements MessageHandler, RoomGuest {
  readonly maxMessageBytes = MAX_SIGNAL_BYTES;
  readonly #client: ClientSocket;
  readonly #rooms: RendezvousRooms<RoomMember>;
  readonly #remote: RemoteRooms | undefined;
  readonly #room: string;
  /** The member that was there first. */
  #first: RoomMember | undefined;

  private constructor(client: ClientSocket, room: string, place: RoomPlace) {
    this.#client = client;
    this.#room = room;
    this.#rooms = place.rooms;
    this.#remote = place.remote;
  }

  /** Lets a client into the room that the path names, or refuses it. */
  static join(path: string, client: ClientSocket, place: RoomPlace): RoomMember | RefusalStatus {
    const room = roomOfPath(path);
    if (room === undefined) return 404;
    const member = new RoomMember(client, room, place);
    const joined = place.rooms.join(room, member, performance.now());
    if (joined.kind === "refused") return joined.why === "room-full" ? 409 : 503;
    if (joined.peer !== undefined && place.remote?.hasPeer(joined.peer)) {
      place.rooms.leave(member);
      return 409;
    }
    member.#first = joined.peer;
    return member;
  }

  enter(): void {
    this.notifyPresence(this.#first !== undefined);
    this.#first?.notifyPresence(true);
    if (this.#first !== undefined) this.#remote?.setLocalPeer(this.#first, true);
    this.#remote?.enter(this, this.#room, this.#first !== undefined);
  }

  accept(message: Exclude<WebSocketMessage, { kind: "close" }>): number | "end" {
    const route = this.#rooms.route(this, performance.now());
    if (route.kind === "too-many") return "end";
    const notice = message.kind === "text" ? decodeNotice(message.text) : undefined;
    const isForPeer = notice?.kind === "ping" || notice?.kind === "pong";
    const text = isForPeer ? new TextEncoder().encode(encodeNotice(notice)) : undefined;
    const data = message.kind === "binary" ? message.data : text;
    if (data === undefined) return route.kind === "to" ? 1 : 0;
    const kind = message.kind === "binary" ? "binary" : "text";
    if (route.kind === "to") route.peer.deliver(kind, data);
    else if (!this.#remote?.send(this, kind, data)) return 0;
    return 1;
  }

  leave(): void {
    const other = this.#rooms.leave(this);
    other?.notifyPresence(false);
    this.#remote?.leave(this);
    if (other !== undefined) this.#remote?.setLocalPeer(other, false);
  }

  notifyPresence(isPresent: boolean): void {
    this.deliver("text", new TextEncoder().encode(encodeNotice({ kind: "peer", isPresent })));
  }

  deliver(kind: "text" | "binary", data: Uint8Array): void {
    this.#client.send(kind, data);
  }

  end(): void {
    this.#client.close(CLOSE_CODES.policy, "two are in this room");
  }
}

/** All rooms of one server, and what leads to those of others. */
export interface RoomPlace {
  readonly rooms: RendezvousRooms<RoomMember>;
  readonly remote: RemoteRooms | undefined;
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
