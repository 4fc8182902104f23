/**
 * A signaling transport that behaves as a test says, for what is built on top of one.
 *
 * @module
 */

import { NetworkError } from "../../lib/base/errors.ts";
import { optionalResolvers } from "../../lib/base/tasks.ts";
import { type TopicListener, TopicListeners } from "../../lib/signal/transport.ts";
import type {
  OpenSignalingOptions,
  SignalingConnection,
  SignalTransport,
} from "../../lib/signal/transport.ts";

/** Confirms a subscription once it resolves, or refuses it by throwing. */
export type Confirm = (topic: string, signal?: AbortSignal) => Promise<void>;

/** Opens connections that last until the test loses them. */
export class ScriptedTransport implements SignalTransport {
  readonly url = "scripted:";
  /** All that were opened. */
  readonly connections: ScriptedSignaling[] = [];
  /** May be replaced at any time. */
  confirm: Confirm;
  /** What has to happen before a connection is open. */
  opening: (signal?: AbortSignal) => Promise<void> = () => Promise.resolve();
  /** Calls of `open()`. */
  attempts = 0;

  constructor(confirm: Confirm = () => Promise.resolve()) {
    this.confirm = confirm;
  }

  async open({ signal }: OpenSignalingOptions): Promise<ScriptedSignaling> {
    this.attempts++;
    await this.opening(signal);
    const signaling = new ScriptedSignaling((topic, signal) => this.confirm(topic, signal));
    this.connections.push(signaling);
    return signaling;
  }

  /** The newest connection. */
  get signaling(): ScriptedSignaling {
    return this.connections.at(-1)!;
  }
}

/** One connection. */
export class ScriptedSignaling implements SignalingConnection {
  readonly url = "scripted:";
  readonly finished: Promise<void>;
  /** The topics of all messages that were published. */
  readonly published: string[] = [];
  /** What has to happen before it is disposed. */
  releasing: Promise<void> = Promise.resolve();
  readonly #confirm: Confirm;
  readonly #listeners = new TopicListeners();
  readonly #end = optionalResolvers<void>();

  constructor(confirm: Confirm) {
    this.#confirm = confirm;
    this.finished = this.#end.promise;
  }

  /** How many topics have a listener. */
  get topics(): number {
    return this.#listeners.topics.length;
  }

  /** As if another peer had published it. */
  deliver(topic: string, message: Uint8Array): void {
    this.#listeners.deliver(topic, message);
  }

  /** Ends the connection as the network would. */
  lose(): void {
    this.#end.reject(new NetworkError("Cannot use the connection: it was cut", "reset"));
  }

  // deno-lint-ignore require-await -- a promise that rejects, where the plain call throws
  async publish(topic: string): Promise<void> {
    this.published.push(topic);
  }

  async subscribe(
    topic: string,
    onMessage: TopicListener,
    { signal }: { signal?: AbortSignal } = {},
  ): Promise<AsyncDisposable> {
    signal?.throwIfAborted();
    this.#listeners.add(topic, onMessage);
    try {
      await this.#confirm(topic, signal);
    } catch (error) {
      this.#listeners.remove(topic, onMessage);
      throw error;
    }
    // deno-lint-ignore require-await
    return { [Symbol.asyncDispose]: async () => void this.#listeners.remove(topic, onMessage) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.releasing;
    this.#end.resolve();
  }
}

/** Never resolves; rejects with the signal's reason on abort. */
export function never(signal?: AbortSignal): Promise<never> {
  const { promise, reject } = Promise.withResolvers<never>();
  signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
  return promise;
}
