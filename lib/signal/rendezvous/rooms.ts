/**
 * Who is in which room, and how much each may send: the judgement of a rendezvous server.
 *
 * @module
 */

import { TokenBucket } from "../../base/rate_limiter.ts";
import { MAX_SIGNAL_BYTES } from "../channel.ts";
import type { WebSocketMessage } from "../websocket/connection.ts";
import type { RefusalStatus } from "../websocket/handshake.ts";
import { decodeNotice, encodeNotice } from "./message.ts";
import type { ClientSocket, MessageHandler } from "./session.ts";

/** What members may do; see {@linkcode DEFAULT_RENDEZVOUS_LIMITS}. */
export interface RoomLimits {
  /** Rooms with somebody in them. */
  readonly maxRooms: number;
  /** Messages of one member at once, notices included. */
  readonly messageBurst: number;
  /** Messages of one member that come back a second. */
  readonly messagesPerSecond: number;
}

/** What becomes of somebody who comes. */
export type Joining<M> =
  | { readonly kind: "joined"; readonly peer: M | undefined }
  | { readonly kind: "refused"; readonly why: "room-full" | "no-room-free" };

/** What becomes of a message. */
export type Passing<M> =
  | { readonly kind: "to"; readonly peer: M }
  | { readonly kind: "nobody-there" }
  | { readonly kind: "too-many" };

/** Rooms of two. A room is there while somebody is in it, and keeps nothing. */
export class RendezvousRooms<M> {
  readonly #limits: RoomLimits;
  readonly #rooms = new Map<string, M[]>();
  readonly #members = new Map<M, Membership>();

  constructor(limits: RoomLimits) {
    this.#limits = limits;
  }

  /** How many rooms have somebody in them. */
  get size(): number {
    return this.#rooms.size;
  }

  /** Takes somebody in, who is in no room yet, if there is room. */
  join(room: string, member: M, nowMs: number): Joining<M> {
    const inside = this.#rooms.get(room) ?? [];
    if (inside.length === 2) return { kind: "refused", why: "room-full" };
    if (inside.length === 0 && this.#rooms.size >= this.#limits.maxRooms) {
      return { kind: "refused", why: "no-room-free" };
    }
    const [peer] = inside;
    inside.push(member);
    this.#rooms.set(room, inside);
    const { messageBurst: burst, messagesPerSecond: perSecond } = this.#limits;
    this.#members.set(member, { room, bucket: new TokenBucket({ burst, perSecond }, nowMs) });
    return { kind: "joined", peer };
  }

  /** Lets somebody go; who stays, if anybody. */
  leave(member: M): M | undefined {
    const room = this.#members.get(member)?.room;
    if (room === undefined) return undefined;
    this.#members.delete(member);
    const stays = this.#rooms.get(room)!.filter((other) => other !== member);
    if (stays.length > 0) this.#rooms.set(room, stays);
    else this.#rooms.delete(room);
    return stays[0];
  }

  /** Where a member's message goes. */
  pass(member: M, nowMs: number): Passing<M> {
    const membership = this.#members.get(member);
    if (membership === undefined) return { kind: "nobody-there" };
    if (!membership.bucket.take(nowMs)) return { kind: "too-many" };
    const peer = this.#rooms.get(membership.room)!.find((other) => other !== member);
    return peer === undefined ? { kind: "nobody-there" } : { kind: "to", peer };
  }
}

/**
 * The room that the path of a URL names, or `undefined`. Only characters that no URL escapes (RFC 3986 §2.3), so
 * that a room has one name.
 */
export function roomOfPath(path: string): string | undefined {
  const room = path.slice(1);
  return isRoomName(room) ? room : undefined;
}

/** Whether a text names a room: 1 to 64 letters, digits and `-._~`. */
export function isRoomName(room: string): boolean {
  return /^[A-Za-z0-9._~-]{1,64}$/.test(room) && !/^\.{1,2}$/.test(room); // URLs resolve dots
}

interface Membership {
  readonly room: string;
  readonly bucket: TokenBucket;
}

/** One of two in a room. */
export class RoomMember implements MessageHandler {
  readonly maxMessageBytes = MAX_SIGNAL_BYTES;
  readonly #client: ClientSocket;
  readonly #rooms: RendezvousRooms<RoomMember>;
  #first: RoomMember | undefined;

  private constructor(client: ClientSocket, rooms: RendezvousRooms<RoomMember>) {
    this.#client = client;
    this.#rooms = rooms;
  }

  /** Lets somebody into the room that the path names, or says why not. */
  static receive(
    path: string,
    client: ClientSocket,
    rooms: RendezvousRooms<RoomMember>,
  ): RoomMember | RefusalStatus {
    const room = roomOfPath(path);
    if (room === undefined) return 404;
    const visit = new RoomMember(client, rooms);
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
