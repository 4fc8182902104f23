/**
 * The rooms of a rendezvous with several nodes: drives what {@linkcode stepRemotePeer} decides for each member here.
 *
 * @module
 */

import { toBase64url } from "../../base/bytes.ts";
import { MalformedMessageError } from "../../base/errors.ts";
import { type RendezvousBus, subjectOf } from "./bus.ts";
import {
  decodeRoomNodeMessage,
  encodeRoomNodeMessage,
  MEMBER_BYTES,
  type RemotePeerEvent,
  type RemotePeerState,
  stepRemotePeer,
} from "./remote_peer.ts";

/** A member of a room at this node. */
export interface RoomGuest {
  /** Tells it whether its peer is there. */
  notifyPresence(isPresent: boolean): void;
  /** Gives it what its peer sends. */
  deliver(kind: "text" | "binary", data: Uint8Array): void;
  /** Turns it away. */
  end(): void;
}

/** The members here, and their peers at other nodes. */
export class RemoteRooms {
  readonly #bus: RendezvousBus;
  readonly #members = new Map<RoomGuest, Membership>();
  readonly #bySubject = new Map<string, Set<RoomGuest>>();

  constructor(bus: RendezvousBus) {
    this.#bus = bus;
  }

  /** Whether a member's peer is at another node. */
  hasPeer(member: RoomGuest): boolean {
    return this.#members.get(member)?.state.peer !== undefined;
  }

  /** A member has come. */
  enter(member: RoomGuest, room: string, hasLocalPeer: boolean): void {
    const subject = subjectOf("room", room);
    const own = toBase64url(crypto.getRandomValues(new Uint8Array(MEMBER_BYTES)));
    const state = { own, hasLocalPeer, peer: undefined, newcomer: undefined };
    this.#members.set(member, { subject, state, timer: undefined });
    const members = this.#bySubject.get(subject);
    if (members !== undefined) return void members.add(member);
    this.#bySubject.set(subject, new Set([member]));
    this.#bus.subscribe(subject, (message) => this.#receive(subject, message));
    if (!hasLocalPeer) this.#handle(member, { kind: "local-peer", isPresent: false });
  }

  /** Another member has come to the same room at this node, or has left. */
  setLocalPeer(member: RoomGuest, isPresent: boolean): void {
    this.#handle(member, { kind: "local-peer", isPresent });
  }

  /** Sends what a member sends to its peer; `false` without a peer at another node. */
  send(member: RoomGuest, kind: "text" | "binary", data: Uint8Array<ArrayBuffer>): boolean {
    const membership = this.#members.get(member);
    if (membership?.state.peer === undefined) return false;
    const { own: from, peer: to } = membership.state;
    this.#bus.publish(membership.subject, encodeRoomNodeMessage({ kind, from, to, data }));
    return true;
  }

  /** A member has gone. */
  leave(member: RoomGuest): void {
    const membership = this.#members.get(member);
    if (membership === undefined) return;
    this.#handle(member, { kind: "left" });
    clearTimeout(membership.timer);
    this.#members.delete(member);
    const { subject } = membership;
    const members = this.#bySubject.get(subject)!;
    members.delete(member);
    if (members.size > 0) return;
    this.#bySubject.delete(subject);
    this.#bus.unsubscribe(subject);
  }

  #receive(subject: string, bytes: Uint8Array<ArrayBuffer>): void {
    try {
      const message = decodeRoomNodeMessage(bytes);
      for (const member of this.#bySubject.get(subject) ?? []) {
        this.#handle(member, { kind: "received", message });
      }
    } catch (error) {
      if (!(error instanceof MalformedMessageError)) throw error; // of a later version
    }
  }

  #handle(member: RoomGuest, event: RemotePeerEvent): void {
    const membership = this.#members.get(member);
    if (membership === undefined) return;
    const { state, actions } = stepRemotePeer(membership.state, event);
    membership.state = state;
    for (const action of actions) {
      switch (action.kind) {
        case "publish":
          this.#bus.publish(membership.subject, encodeRoomNodeMessage(action.message));
          break;
        case "notify":
          member.notifyPresence(action.isPresent);
          break;
        case "deliver":
          member.deliver(action.message.kind, action.message.data);
          break;
        case "wait":
          clearTimeout(membership.timer);
          membership.timer = setTimeout(() => this.#handle(member, { kind: "timeout" }), CHECK_MS);
          break;
        case "end":
          member.end();
      }
    }
  }
}

interface Membership {
  readonly subject: string;
  state: RemotePeerState;
  timer: ReturnType<typeof setTimeout> | undefined;
}

/** Chosen by us: several round trips between servers of one name. */
const CHECK_MS = 1000;
