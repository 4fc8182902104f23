/**
 * The peer of a room's only member at this node, where it is at another node of the same rendezvous: facts in, next steps
 * out. No node owns a room, so any node may stop: the members agree among themselves which two of them are a pair.
 *
 * ```text
 * kind (1) | from (16) | to (16) | message, of kinds text and binary
 *
 * 1 hello     a member is here, and has no peer at its node; to all
 * 2 welcome   so is another, and takes it for its peer
 * 3 full      the room has two others
 * 4 check     are you still there?
 * 5 bye       a member has gone
 * 6 text      for the peer
 * 7 binary    for the peer
 * ```
 *
 * @module
 */

import { ByteReader, concat, fromBase64url, toBase64url } from "../../base/bytes.ts";
import { malformed } from "../../base/errors.ts";

/** A message between the nodes. */
export type RoomNodeMessage =
  | {
    readonly kind: "hello" | "welcome" | "full" | "check" | "bye";
    readonly from: string;
    readonly to: string;
  }
  | {
    readonly kind: "text" | "binary";
    readonly from: string;
    readonly to: string;
    readonly data: Uint8Array<ArrayBuffer>;
  };

/** What a member knows. */
export interface RemotePeerState {
  /** The member: 16 random bytes in Base64url. */
  readonly own: string;
  /** Whether it has a peer at its own node. */
  readonly hasLocalPeer: boolean;
  /** The peer at another node. */
  readonly peer: string | undefined;
  /** A newcomer that takes the peer's place if that does not say that it is still there. */
  readonly newcomer: string | undefined;
}

/** Something that happened. */
export type RemotePeerEvent =
  | { readonly kind: "received"; readonly message: RoomNodeMessage }
  /** A second member is at the same node, or has left. */
  | { readonly kind: "local-peer"; readonly isPresent: boolean }
  /** The peer has not answered in time. */
  | { readonly kind: "timeout" }
  | { readonly kind: "left" };

/** What to do next. */
export type RemotePeerAction =
  | { readonly kind: "publish"; readonly message: RoomNodeMessage }
  /** Tell the member whether its peer is there. */
  | { readonly kind: "notify"; readonly isPresent: boolean }
  /** Give the member what its peer sends. */
  | {
    readonly kind: "deliver";
    readonly message: Extract<RoomNodeMessage, { kind: "text" | "binary" }>;
  }
  /** Send `timeout` after a while. */
  | { readonly kind: "wait" }
  /** Turn the member away: the room has two others. */
  | { readonly kind: "end" };

/** The next state, and what to do. */
export function stepRemotePeer(
  state: RemotePeerState,
  event: RemotePeerEvent,
): { readonly state: RemotePeerState; readonly actions: readonly RemotePeerAction[] } {
  switch (event.kind) {
    case "received": {
      const { message } = event;
      const isForUs = message.to === state.own || message.kind === "hello";
      return isForUs ? received(state, message) : { state, actions: [] };
    }
    case "local-peer":
      return event.isPresent
        ? { state: { ...state, hasLocalPeer: true }, actions: [] }
        : { state: { ...state, hasLocalPeer: false }, actions: [send(state, "hello", ALL)] };
    case "timeout": {
      const { newcomer } = state;
      if (newcomer === undefined) return { state, actions: [] };
      return {
        state: { ...state, peer: newcomer, newcomer: undefined },
        actions: [send(state, "welcome", newcomer), ABSENT, PRESENT],
      };
    }
    case "left": {
      const actions = state.peer === undefined ? [] : [send(state, "bye", state.peer)];
      return { state: { ...state, peer: undefined }, actions };
    }
  }
}

function received(
  state: RemotePeerState,
  message: RoomNodeMessage,
): ReturnType<typeof stepRemotePeer> {
  const { from } = message;
  const isPeer = from === state.peer;
  const isTaken = state.hasLocalPeer || state.peer !== undefined && !isPeer;
  switch (message.kind) {
    case "hello": {
      if (state.hasLocalPeer) return { state, actions: [send(state, "full", from)] };
      if (isPeer) return { state, actions: [send(state, "welcome", from)] };
      if (state.newcomer !== undefined) return { state, actions: [send(state, "full", from)] };
      if (state.peer === undefined) {
        return {
          state: { ...state, peer: from },
          actions: [send(state, "welcome", from), PRESENT],
        };
      }
      // Its node may have been killed, and it may be the newcomer itself.
      return {
        state: { ...state, newcomer: from },
        actions: [send(state, "check", state.peer), { kind: "wait" }],
      };
    }
    case "welcome": {
      if (isPeer && state.newcomer !== undefined) {
        return {
          state: { ...state, newcomer: undefined },
          actions: [send(state, "full", state.newcomer)],
        };
      }
      if (isPeer) return { state, actions: [] };
      if (isTaken) return { state, actions: [send(state, "full", from)] };
      return { state: { ...state, peer: from }, actions: [PRESENT] };
    }
    case "check":
      return { state, actions: isPeer ? [send(state, "welcome", from)] : [] };
    case "full":
      if (isTaken) return { state, actions: [] };
      return { state: { ...state, peer: undefined }, actions: [{ kind: "end" }] };
    case "bye":
      return isPeer
        ? { state: { ...state, peer: undefined }, actions: [ABSENT] }
        : { state, actions: [] };
    case "text":
    case "binary":
      return { state, actions: isPeer ? [{ kind: "deliver", message }] : [] };
  }
}

function send(
  { own: from }: RemotePeerState,
  kind: "hello" | "welcome" | "full" | "check" | "bye",
  to: string,
): RemotePeerAction {
  return { kind: "publish", message: { kind, from, to } };
}

/** The bytes of a message. */
export function encodeRoomNodeMessage(message: RoomNodeMessage): Uint8Array<ArrayBuffer> {
  const data = "data" in message ? message.data : new Uint8Array(0);
  const { kind, from, to } = message;
  return concat(
    Uint8Array.of(KINDS.indexOf(kind)),
    fromBase64url(from)!,
    fromBase64url(to)!,
    data,
  );
}

/**
 * Reads a message.
 *
 * @throws {MalformedMessageError} if its kind is unknown, or its length is wrong
 */
export function decodeRoomNodeMessage(bytes: Uint8Array): RoomNodeMessage {
  const reader = new ByteReader(bytes, "room message");
  const kind = KINDS[reader.uint8("kind")];
  const from = toBase64url(reader.bytes(MEMBER_BYTES, "from"));
  const to = toBase64url(reader.bytes(MEMBER_BYTES, "to"));
  if (kind === undefined) throw malformed("room message", "its kind is unknown");
  if (kind === "text" || kind === "binary") {
    return { kind, from, to, data: reader.bytes(reader.remaining, "data") };
  }
  reader.end();
  return { kind, from, to };
}

const PRESENT: RemotePeerAction = { kind: "notify", isPresent: true };
const ABSENT: RemotePeerAction = { kind: "notify", isPresent: false };

/** By their numbers. */
const KINDS = [
  undefined,
  ...["hello", "welcome", "full", "check", "bye", "text", "binary"] as const,
] as const;

/** How many bytes name a member. */
export const MEMBER_BYTES = 16;

/** To all members of the room. */
const ALL = "A".repeat(22);
