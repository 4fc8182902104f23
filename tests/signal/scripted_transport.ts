/**
 * A way to signal that does what a test says, for what is built on top of one.
 *
 * @module
 */

import { NetworkError } from "../../lib/base/errors.ts";
import type {
  OpenSignalingOptions,
  SignalingConnection,
  SignalTransport,
} from "../../lib/signal/transport.ts";
import { type TopicListener, TopicListeners } from "../../lib/signal/topic.ts";

/** What becomes of a subscription: it is agreed to unless this throws, once it resolves. */
export type Agree = (topic: string, signal?: AbortSignal) => Promise<void>;

/** Buses that are there until the test says otherwise. */
export class ScriptedTransport implements SignalTransport {
  readonly url = "scripted:";
  /** All that were opened. */
  readonly buses: ScriptedSignaling[] = [];
  /** May be changed at any time. */
  agree: Agree;
  /** What has to come about before a bus is open. */
  opening: (signal?: AbortSignal) => Promise<void> = () => Promise.resolve();
  /** Calls of `open()`. */
  attempts = 0;

  constructor(agree: Agree = () => Promise.resolve()) {
    this.agree = agree;
  }

  async open({ signal }: OpenSignalingOptions): Promise<ScriptedSignaling> {
    this.attempts++;
    await this.opening(signal);
    const signaling = new ScriptedSignaling((topic, signal) => this.agree(topic, signal));
    this.buses.push(signaling);
    return signaling;
  }

  /** The newest bus. */
  get signaling(): ScriptedSignaling {
    return this.buses.at(-1)!;
  }
}

/** One bus. */
export class ScriptedSignaling implements SignalingConnection {
  readonly url = "scripted:";
  readonly finished: Promise<void>;
  /** All that was published. */
  readonly published: string[] = [];
  readonly #agree: Agree;
  readonly #listeners = new TopicListeners();
  readonly #end = Promise.withResolvers<void>();

  constructor(agree: Agree) {
    this.#agree = agree;
    this.finished = this.#end.promise;
    this.finished.catch(() => {});
  }

  /** How many topics somebody listens to. */
  get topics(): number {
    return this.#listeners.topics.length;
  }

  /** As if somebody else had published it. */
  hear(topic: string, message: Uint8Array): void {
    this.#listeners.deliver(topic, message);
  }

  /** It is lost. */
  lose(): void {
    this.#end.reject(new NetworkError("Cannot use the bus: it was cut", "reset"));
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
      await this.#agree(topic, signal);
    } catch (error) {
      this.#listeners.remove(topic, onMessage);
      throw error;
    }
    // deno-lint-ignore require-await
    return { [Symbol.asyncDispose]: async () => void this.#listeners.remove(topic, onMessage) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#end.resolve();
    await this.finished.catch(() => {});
  }
}

/** Never resolves; rejects with the signal's reason on abort. */
export function never(signal?: AbortSignal): Promise<never> {
  const { promise, reject } = Promise.withResolvers<never>();
  signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
  return promise;
}
