/**
 * The topics of a ticket under which a peer listens at one signaling server. They change by the hour.
 *
 * @module
 */

import type { SignalingConnection } from "../signal/transport.ts";

/** Listens to a set of topics that changes now and then. */
export class TopicSubscriptions {
  readonly #signaling: SignalingConnection;
  readonly #onMessage: (message: Uint8Array, signaling: SignalingConnection) => void;
  readonly #subscriptions = new Map<string, AsyncDisposable>();

  constructor(
    signaling: SignalingConnection,
    onMessage: (message: Uint8Array, signaling: SignalingConnection) => void,
  ) {
    this.#signaling = signaling;
    this.#onMessage = onMessage;
  }

  /**
   * Subscribes to these topics and unsubscribes from all others. A topic that the server refuses does not affect the rest:
   * a holder of the ticket may have taken all places under one topic, and must not keep the peer from the others.
   *
   * @returns why some topics were refused
   * @throws the first reason, if no topic is left
   * @throws the signal's reason on abort
   */
  async renew(topics: readonly string[], signal: AbortSignal): Promise<unknown[]> {
    const added = topics.filter((topic) => !this.#subscriptions.has(topic));
    const results = await Promise.allSettled(added.map(async (topic) => {
      const onMessage = (message: Uint8Array) => this.#onMessage(message, this.#signaling);
      this.#subscriptions.set(topic, await this.#signaling.subscribe(topic, onMessage, { signal }));
    }));
    signal.throwIfAborted();
    for (const [topic, subscription] of this.#subscriptions) {
      if (topics.includes(topic)) continue;
      this.#subscriptions.delete(topic);
      await subscription[Symbol.asyncDispose]();
    }
    const refused = results.flatMap((each) => each.status === "rejected" ? [each.reason] : []);
    if (this.#subscriptions.size === 0 && refused.length > 0) throw refused[0];
    return refused;
  }
}
