/**
 * The protocol between a rendezvous server and its clients: the paths of rooms, topics and the relay, and the messages
 * other than those that it passes on.
 *
 * In a room, they are notices: WebSocket text, one JSON object each. The server reports whether the peer is there, with
 * `{"peer":"present"}` or `{"peer":"absent"}`. The two peers measure their round trip with `{"ping":7}` and
 * `{"pong":7}`, which the server passes on.
 *
 * At the topics, they are binary:
 *
 * ```text
 * kind (1) | topic (16) | message, only of kind 3
 * ```
 *
 * There a client may also ask for a number, with the text `{"number":"request"}`. The server answers with `{"number":7}`,
 * or `{"number":null}` if none is free. Servers before version 0.2 drop the text.
 *
 * @module
 */

import { ByteReader, concat, toBase64url } from "../../base/bytes.ts";
import { malformed } from "../../base/errors.ts";
import { TOPIC_BYTES, topicToBytes } from "../transport.ts";

/** A notice in a room. Others, which a later version may send, decode to `unknown`. */
export type RendezvousNotice =
  | { readonly kind: "peer"; readonly isPresent: boolean }
  | { readonly kind: "ping" | "pong"; readonly id: number }
  | { readonly kind: "unknown" };

/** The text of a notice. */
export function encodeNotice(notice: Exclude<RendezvousNotice, { kind: "unknown" }>): string {
  return notice.kind === "peer"
    ? JSON.stringify({ peer: notice.isPresent ? "present" : "absent" })
    : JSON.stringify({ [notice.kind]: notice.id });
}

/** Reads a notice. Unrecognized text decodes to `unknown`. */
export function decodeNotice(text: string): RendezvousNotice {
  const [, name, value] = /^\{"(peer|ping|pong)":("present"|"absent"|\d{1,9})\}$/.exec(text) ?? [];
  const isPeer = name === "peer";
  if (name === undefined || isPeer !== value!.startsWith('"')) return { kind: "unknown" };
  if (isPeer) return { kind: "peer", isPresent: value === '"present"' };
  return { kind: name === "ping" ? "ping" : "pong", id: Number(value) };
}

/** A message at the topics. */
export type TopicMessage =
  | { readonly kind: "subscribe" | "unsubscribe"; readonly topic: string }
  | { readonly kind: "publish"; readonly topic: string; readonly message: Uint8Array };

/**
 * The bytes of a message at the topics.
 *
 * @throws {TypeError} if the topic is not one
 */
export function encodeTopicMessage(message: TopicMessage): Uint8Array<ArrayBuffer> {
  const content = message.kind === "publish" ? message.message : NOTHING;
  return concat(Uint8Array.of(KINDS[message.kind]), topicToBytes(message.topic), content);
}

/**
 * Reads a message at the topics.
 *
 * @throws {MalformedMessageError} if its kind is unknown, or its length is wrong
 */
export function decodeTopicMessage(bytes: Uint8Array): TopicMessage {
  const reader = new ByteReader(bytes, "topic message");
  const kind = reader.uint8("kind");
  const topic = toBase64url(reader.bytes(TOPIC_BYTES, "topic"));
  switch (kind) {
    case KINDS.publish:
      return { kind: "publish", topic, message: reader.bytes(reader.remaining, "message") };
    case KINDS.subscribe:
    case KINDS.unsubscribe:
      reader.end();
      return { kind: kind === KINDS.subscribe ? "subscribe" : "unsubscribe", topic };
    default:
      throw malformed("topic message", `kind ${kind} is unknown`);
  }
}

/** A text at the topics: a client asks for a number, or the server allocates one. Others decode to `unknown`. */
export type NumberNotice =
  | { readonly kind: "request" }
  | { readonly kind: "allocated"; readonly number: number | undefined }
  | { readonly kind: "unknown" };

/** The text of a notice about numbers. */
export function encodeNumberNotice(notice: Exclude<NumberNotice, { kind: "unknown" }>): string {
  return JSON.stringify({ number: notice.kind === "request" ? "request" : notice.number ?? null });
}

/** Reads a notice about numbers. Unrecognized text decodes to `unknown`. */
export function decodeNumberNotice(text: string): NumberNotice {
  const [, value] = /^\{"number":("request"|null|\d{1,4})\}$/.exec(text) ?? [];
  if (value === undefined) return { kind: "unknown" };
  if (value === '"request"') return { kind: "request" };
  return { kind: "allocated", number: value === "null" ? undefined : Number(value) };
}

/** The room that the path of a URL names, or `undefined`. */
export function roomOfPath(path: string): string | undefined {
  const room = path.slice(1);
  return isRoomName(room) ? room : undefined;
}

/**
 * Whether a text names a room: 1 to 64 letters, digits and `-._~`, which URLs never escape (RFC 3986 §2.3), so that
 * every room has one name.
 */
export function isRoomName(room: string): boolean {
  return /^[A-Za-z0-9._~-]{1,64}$/.test(room) && !/^\.{1,2}$/.test(room); // URLs resolve . and ..
}

/** Whether a text at the relay announces the end of what its sender sends. */
export function isRelayEnd(text: string): boolean {
  return text === RELAY_END;
}

/** The path of the topics. Room names have no slash, so it is not a room's. */
export const TOPICS_PATH = "/topics/1";

/** The path of the relay; not a room's either. */
export const RELAY_PATH = "/relay/1";

/** The text at the relay that announces the end of what its sender sends. */
export const RELAY_END = '{"end":true}';

/** How many bytes join two connections at the relay. */
export const RELAY_TOKEN_BYTES = 32;

/** The longest message that a relay passes on. Chosen by us: as long as the longest records of a secured path. */
export const MAX_RELAYED_BYTES = 65_536;

/** Why the relay closes a connection: RFC 6455 §7.4.1, and codes of ours (§7.4.2). */
export const RELAY_CLOSE_CODES = {
  "normal": 1000,
  "malformed": 1002,
  "moved": 4307,
  "no-peer": 4404,
  "peer-gone": 4410,
  "idle": 4408,
  "token-used": 4409,
  "source-full": 4429,
  "relay-full": 4503,
} as const;

const NOTHING = new Uint8Array(0);

const KINDS = { subscribe: 1, unsubscribe: 2, publish: 3 } as const;

/** How many bytes precede a published message. */
export const TOPIC_HEADER_BYTES = 1 + TOPIC_BYTES;
