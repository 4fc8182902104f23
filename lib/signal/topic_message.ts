/**
 * What a client and a rendezvous server say about topics: binary WebSocket messages.
 *
 * ```text
 * kind (1) | topic (16) | message, of kind 3 only
 *
 * 1 subscribe    the client wants what is published; the server says the same when it is so, and 2 if it will not be
 * 2 unsubscribe  the client wants no more
 * 3 publish      the client says something; the server passes it on
 * ```
 *
 * @module
 */

import { ByteReader, concat, fromBase64url, toBase64url } from "../base/bytes.ts";
import { MalformedMessageError } from "../base/errors.ts";

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
