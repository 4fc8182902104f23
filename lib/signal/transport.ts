/**
 * The seam between peers who want to reach each other and whatever carries their messages, by topic.
 *
 * @module
 */

import { fromBase64url } from "../base/bytes.ts";
import type { Logger } from "../base/logger.ts";
import type { Network } from "../net/network.ts";
import { MAX_SIGNAL_BYTES } from "./channel.ts";

/** What a transport needs to open a bus. */
export interface OpenSignalingOptions {
  /** Whose sockets to use. */
  readonly network: Network;
  /** Gives the opening up. */
  readonly signal?: AbortSignal;
  /** Hears what goes wrong without consequences. */
  readonly logger?: Logger;
}

/** A way to signal, as a ticket names it. */
export interface SignalTransport {
  /** Such as `ws://192.0.2.1:3480`, `mqtts://broker.example` or `lan:`. */
  readonly url: string;
  /**
   * Connects.
   *
   * @throws {NetworkError} if that fails
   * @throws {RefusedError} if the other end does not want us
   * @throws {MalformedMessageError} if the other end speaks something else
   * @throws the signal's reason on abort
   */
  open(options: OpenSignalingOptions): Promise<SignalingConnection>;
}

/**
 * Carries small messages to whoever listens to a topic. It may lose, repeat, delay and reorder them, and lets anybody
 * speak: nothing that arrives is trusted for having arrived. A topic is 16 bytes, as 22 characters of base64url.
 */
export interface SignalingConnection extends AsyncDisposable {
  /** As that of the transport. */
  readonly url: string;
  /** A round trip to whatever is in the middle, if there is something, and that is known. */
  readonly rttMs?: number;
  /** As of a {@linkcode SignalChannel}. */
  readonly isManual?: boolean;
  /** Settles when the bus has ended: rejects with a `NetworkError` if it was lost. */
  readonly finished: Promise<void>;
  /**
   * Suspects that the connection is dead, as after a change of the network: asks at once, and gives it up if there is no
   * answer. Left out where there is no connection.
   */
  check?(): void;
  /**
   * Says something, at most {@linkcode MAX_SIGNAL_BYTES} long. Resolves when it is on its way, which waits for nobody.
   *
   * @throws {NetworkError} if the bus is lost or closed
   * @throws {RangeError} if the message is too long
   */
  publish(topic: string, message: Uint8Array): Promise<void>;
  /**
   * Listens; what this side says later is said after that. Resolves once it is in force; disposing ends it.
   *
   * @param onMessage gets a message that is its own; it may not throw
   * @throws {NetworkError} if the bus is lost or closed
   * @throws the signal's reason on abort
   */
  subscribe(
    topic: string,
    onMessage: (message: Uint8Array) => void,
    options?: { signal?: AbortSignal },
  ): Promise<AsyncDisposable>;
}

/** Called with each message of a topic. */
export type TopicListener = (message: Uint8Array) => void;

/** Several may listen to one topic, of which the bus hears once. */
export class TopicListeners {
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
