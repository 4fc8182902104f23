/**
 * Who in this program listens to which topic of a bus.
 *
 * @module
 */

import { fromBase64url } from "../base/bytes.ts";
import { MAX_SIGNAL_BYTES } from "./channel.ts";

/** Called with each message of a topic. */
export type TopicListener = (message: Uint8Array) => void;

/** Several may listen to one topic, of which the bus hears once. */
export class TopicSubscribers {
  readonly #listeners = new Map<string, Set<TopicListener>>();

  /** The topics that somebody listens to. */
  get topics(): string[] {
    return [...this.#listeners.keys()];
  }

  /** Whether somebody listens to the topic. */
  has(topic: string): boolean {
    return this.#listeners.has(topic);
  }

  /** Whether this one is the first of its topic. */
  add(topic: string, listener: TopicListener): boolean {
    const listeners = this.#listeners.get(topic);
    if (listeners === undefined) this.#listeners.set(topic, new Set([listener]));
    else listeners.add(listener);
    return listeners === undefined;
  }

  /** Whether this one was the last of its topic. */
  remove(topic: string, listener: TopicListener): boolean {
    const listeners = this.#listeners.get(topic);
    if (!listeners?.delete(listener) || listeners.size > 0) return false;
    return this.#listeners.delete(topic);
  }

  /** Tells all who listen, each with a copy. */
  deliver(topic: string, message: Uint8Array): void {
    if (message.length > MAX_SIGNAL_BYTES) return; // of no channel that keeps to the rules
    for (const listener of [...this.#listeners.get(topic) ?? []]) listener(message.slice());
  }
}

/**
 * @throws {TypeError} if the topic is none
 * @throws {RangeError} if the message is too long
 */
export function requirePublishable(topic: string, message: Uint8Array): void {
  requireTopic(topic);
  if (message.length <= MAX_SIGNAL_BYTES) return;
  throw new RangeError(
    `Cannot publish: a message has at most ${MAX_SIGNAL_BYTES} bytes, not ${message.length}`,
  );
}

/** @throws {TypeError} if the topic is none */
export function requireTopic(topic: string): void {
  if (fromBase64url(topic)?.length === 16) return;
  throw new TypeError(
    `Cannot use topic ${JSON.stringify(topic)}: a topic is 16 bytes in base64url`,
  );
}
