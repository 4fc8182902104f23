/**
 * The seam between peers that want to reach each other and whatever carries their messages, by topic.
 *
 * @module
 */

import { fromBase64url, toBase64url } from "../base/bytes.ts";
import { hash } from "../base/crypto.ts";
import type { Logger } from "../base/logger.ts";
import type { Network } from "../net/network.ts";
import { MAX_SIGNAL_BYTES } from "./channel.ts";

/** What a transport needs to open a signaling connection. */
export interface OpenSignalingOptions {
  /** The sockets to use. */
  readonly network: Network;
  /** Aborts the opening. */
  readonly signal?: AbortSignal;
  /** Receives non-fatal diagnostics. */
  readonly logger?: Logger;
  /** Called on every change of a connection that is opened again whenever it is lost. */
  readonly onState?: (state: SignalingState, error?: unknown) => void;
}

/** Whether signaling can be used. `"failed"`: it could not be opened; `"lost"`: it was open before. */
export type SignalingState = "opening" | "open" | "failed" | "lost";

/** A way to signal, as a ticket names it. */
export interface SignalTransport {
  /** Such as `ws://192.0.2.1:3480`, `mqtts://broker.example` or `lan:`. */
  readonly url: string;
  /**
   * Connects.
   *
   * @throws {NetworkError} if the server cannot be reached
   * @throws {RefusedError} if the server refuses
   * @throws {MalformedMessageError} if the server speaks another protocol
   * @throws the signal's reason on abort
   */
  open(options: OpenSignalingOptions): Promise<SignalingConnection>;
}

/**
 * Carries small messages to everyone who subscribes to a topic. It may lose, repeat, delay and reorder them, and anyone
 * may publish: a message is not trusted because it arrived. A topic is 16 bytes, written as 22 characters of base64url.
 */
export interface SignalingConnection extends AsyncDisposable {
  /** The URL of the transport. */
  readonly url: string;
  /** A round trip to the server in the middle, in milliseconds; `undefined` if there is no server or it is not known. */
  readonly rttMs?: number;
  /** As in a {@linkcode SignalChannel}. */
  readonly isManual?: boolean;
  /** Resolves once the connection is closed by its owner; rejects with a `NetworkError` once it is lost. */
  readonly finished: Promise<void>;
  /**
   * Tests at once whether the connection is still alive, as after a change of the network, and drops it if it is not.
   * Left out where there is no connection that could die.
   *
   * @param withinMs how long the answer may take; 0 drops it without asking. Default: what suits the transport
   */
  check?(withinMs?: number): void;
  /**
   * Asks the server for a number that no other client has; it belongs to this connection if it subscribes to its
   * {@linkcode meetingTopic} within ten seconds, and as long as it does. Left out where there is no server that could
   * allocate any.
   *
   * @returns `undefined` if the server allocates none
   * @throws {NetworkError} if the connection is lost or closed
   * @throws the signal's reason on abort
   */
  allocateNumber?(options?: { signal?: AbortSignal }): Promise<number | undefined>;
  /**
   * Publishes a message of at most {@linkcode MAX_SIGNAL_BYTES}. Resolves when it is on its way, without waiting for
   * anyone to receive it.
   *
   * @throws {NetworkError} if the connection is lost or closed
   * @throws {RangeError} if the message is too long
   * @throws {TypeError} if the topic is not one
   */
  publish(topic: string, message: Uint8Array): Promise<void>;
  /**
   * Subscribes to a topic. Resolves once the subscription is in force; what this side publishes after the call, even
   * before it resolves, follows the subscription. Dispose the result to unsubscribe.
   *
   * @param onMessage called with a copy of each message; it may not throw
   * @throws {NetworkError} if the connection is lost or closed
   * @throws {RefusedError} if the server refuses the subscription
   * @throws {TypeError} if the topic is not one
   * @throws the signal's reason on abort
   */
  subscribe(
    topic: string,
    onMessage: (message: Uint8Array) => void,
    options?: { signal?: AbortSignal },
  ): Promise<AsyncDisposable>;
}

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

/** The topic where the two sides of a code meet; it follows from the code's number alone. */
export function meetingTopic(number: number): string {
  return codeTopic(`meeting ${number}`);
}

/** The topic for answers to the side of a code whose request has this ID. */
export function answerTopic(id: Uint8Array): string {
  return codeTopic(`answer ${toBase64url(id)}`);
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

/**
 * Checks what a caller wants to subscribe to.
 *
 * @throws {TypeError} if the topic is not one
 * @throws the signal's reason on abort
 */
export function requireSubscribable(topic: string, signal: AbortSignal | undefined): void {
  topicToBytes(topic);
  signal?.throwIfAborted();
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

  /** Adds a listener until the result is disposed of. */
  subscribe(topic: string, listener: TopicListener): AsyncDisposable {
    this.add(topic, listener);
    return { [Symbol.asyncDispose]: async () => void await this.remove(topic, listener) };
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

function codeTopic(purpose: string): string {
  const text = new TextEncoder().encode(`punchline code 1 ${purpose}`);
  return toBase64url(hash("sha256", text).subarray(0, TOPIC_BYTES));
}

/** How many numbers of codes there are: 0 to 9999. Chosen by us: four digits are quick to say, and two senders rarely collide. */
export const MEETING_PLACES = 10_000;
