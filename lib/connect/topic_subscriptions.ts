/**
 * The topics of a ticket on one bus.
 *
 * @module
 */

import type { SignalBus } from "../signal/bus.ts";

/** Listens to a set of topics that changes now and then. */
export class TopicSubscriptions {
  readonly #bus: SignalBus;
  readonly #onMessage: (message: Uint8Array, bus: SignalBus) => void;
  readonly #subscriptions = new Map<string, AsyncDisposable>();

  constructor(bus: SignalBus, onMessage: (message: Uint8Array, bus: SignalBus) => void) {
    this.#bus = bus;
    this.#onMessage = onMessage;
  }

  /** Listens to these topics and no others; resolves once that is so. */
  async renew(topics: readonly string[], signal: AbortSignal): Promise<void> {
    const added = topics.filter((topic) => !this.#subscriptions.has(topic));
    await Promise.all(added.map(async (topic) => {
      const onMessage = (message: Uint8Array) => this.#onMessage(message, this.#bus);
      this.#subscriptions.set(topic, await this.#bus.subscribe(topic, onMessage, { signal }));
    }));
    for (const [topic, subscription] of this.#subscriptions) {
      if (topics.includes(topic)) continue;
      this.#subscriptions.delete(topic);
      await subscription[Symbol.asyncDispose]();
    }
  }
}
