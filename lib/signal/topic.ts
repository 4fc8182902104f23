/**
 * Topics: under what messages are published, and who listens. A topic is 16 bytes, written as 22 characters of
 * base64url.
 *
 * @module
 */

import { fromBase64url } from "../base/bytes.ts";
import { MAX_SIGNAL_BYTES } from "./channel.ts";

/** How long a topic is, in bytes. */
export const TOPIC_BYTES = 16;

/**
 * The bytes of a topic.
 *
 * @throws {TypeError} if the text is not a topic
 */
export function topicToBytes(topic: string): Uint8Array<ArrayBuffer> {
  const bytes = fromBase64url(topic);
  if (bytes?.length === TOPIC_BYTES) return bytes;
  throw new TypeError(
    `Cannot use topic ${JSON.stringify(topic)}: a topic is ${TOPIC_BYTES} bytes in base64url`,
  );
}

/**
 * Checks what a caller wants to publish.
 *
 * @throws {TypeError} if the topic is not one
 * @throws {RangeError} if the message is longer than {@linkcode MAX_SIGNAL_BYTES}
 */
export function requirePublishable(topic: string, message: Uint8Array): void {
  topicToBytes(topic);
  if (message.length <= MAX_SIGNAL_BYTES) return;
  throw new RangeError(
    `Cannot publish: a message has at most ${MAX_SIGNAL_BYTES} bytes, not ${message.length}`,
  );
}

/** Called with each message of a topic, which is its own copy. May not throw. */
export type TopicListener = (message: Uint8Array) => void;

/** The listeners of one signaling connection. Several may share a topic, to which the connection subscribes once. */
export class TopicListeners {
  readonly #listeners = new Map<string, Set<TopicListener>>();

  /** The topics that have a listener. */
  get topics(): string[] {
    return [...this.#listeners.keys()];
  }

  /** Whether the topic has a listener. */
  has(topic: string): boolean {
    return this.#listeners.has(topic);
  }

  /** Adds a listener; `true` if it is the first of its topic. */
  add(topic: string, listener: TopicListener): boolean {
    const listeners = this.#listeners.get(topic);
    if (listeners === undefined) this.#listeners.set(topic, new Set([listener]));
    else listeners.add(listener);
    return listeners === undefined;
  }

  /** Removes a listener; `true` if it was the last of its topic. */
  remove(topic: string, listener: TopicListener): boolean {
    const listeners = this.#listeners.get(topic);
    if (!listeners?.delete(listener) || listeners.size > 0) return false;
    return this.#listeners.delete(topic);
  }

  /** Gives each listener a copy of the message. Longer messages than a channel may carry are dropped. */
  deliver(topic: string, message: Uint8Array): void {
    if (message.length > MAX_SIGNAL_BYTES) return;
    for (const listener of [...this.#listeners.get(topic) ?? []]) listener(message.slice());
  }
}
