/**
 * What a rendezvous server and the two in a room say beside their messages: WebSocket text, of one JSON object.
 *
 * The server says who is there: `{"peer":"present"}` or `{"peer":"absent"}`. The two measure their round trip with
 * `{"ping":7}` and `{"pong":7}`, which the server passes on.
 *
 * @module
 */

import { ByteReader, concat, fromBase64url, toBase64url } from "../../base/bytes.ts";
import { MalformedMessageError } from "../../base/errors.ts";

/** One notice. Others, which a later version may send, are `unknown`. */
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

/** Reads a notice. Text that is none is `unknown`, and nobody's misfortune. */
export function decodeNotice(text: string): RendezvousNotice {
  const [, name, value] = /^\{"(peer|ping|pong)":("present"|"absent"|\d{1,9})\}$/.exec(text) ?? [];
  const isPeer = name === "peer";
  if (name === undefined || isPeer !== value!.startsWith('"')) return { kind: "unknown" };
  if (isPeer) return { kind: "peer", isPresent: value === '"present"' };
  return { kind: name === "ping" ? "ping" : "pong", id: Number(value) };
}

/** One of them. */
export type TopicMessage =
  | { readonly kind: "subscribe" | "unsubscribe"; readonly topic: string }
  | { readonly kind: "publish"; readonly topic: string; readonly message: Uint8Array };

/**
 * The bytes of a message.
 *
 * @throws {TypeError} if the topic is none
 */
export function encodeTopicMessage(message: TopicMessage): Uint8Array<ArrayBuffer> {
  const topic = fromBase64url(message.topic);
  if (topic?.length !== TOPIC_BYTES) {
    throw new TypeError(`Cannot use topic ${JSON.stringify(message.topic)}: it is none`);
  }
  const kind = Uint8Array.of(KINDS[message.kind]);
  return concat(kind, topic, ...message.kind === "publish" ? [message.message] : []);
}

/**
 * Reads a message.
 *
 * @throws {MalformedMessageError} if it is none
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
      throw new MalformedMessageError(`Cannot read topic message: kind ${kind} is not known`);
  }
}

const KINDS = { subscribe: 1, unsubscribe: 2, publish: 3 } as const;

/** How long a topic is: 22 characters of base64url. */
const TOPIC_BYTES = 16;

/** What comes before a published message. */
export const TOPIC_HEADER_BYTES = 1 + TOPIC_BYTES;
