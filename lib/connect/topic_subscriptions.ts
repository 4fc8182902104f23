/**
 * The topics of a ticket on one bus.
 *
 * @module
 */

import type { SignalBus } from "../signal/transport.ts";

/** Listens to a set of topics that changes now and then. */
export class TopicSubscriptions {
  readonly #bus: SignalBus;
  readonly #onMessage: (message: Uint8Array, bus: SignalBus) => void;
  readonly #subscriptions = new Map<string, AsyncDisposable>();

  constructor(bus: SignalBus, onMessage: (message: Uint8Array, bus: SignalBus) => void) {
    this.#bus = bus;
    this.#onMessage = onMessage;
  }

  /**
   * Listens to these topics and no others, as far as that is granted. Somebody who has the ticket may have taken all
   * seats under one of them, and shall not keep the peer from the others.
   *
   * @returns why some of them are not listened to
   * @throws the reason if that is so of all
   * @throws the signal's reason on abort
   */
  async renew(topics: readonly string[], signal: AbortSignal): Promise<unknown[]> {
    const added = topics.filter((topic) => !this.#subscriptions.has(topic));
    const asked = await Promise.allSettled(added.map(async (topic) => {
      const onMessage = (message: Uint8Array) => this.#onMessage(message, this.#bus);
      this.#subscriptions.set(topic, await this.#bus.subscribe(topic, onMessage, { signal }));
    }));
    signal.throwIfAborted();
    const refused = asked.flatMap((each) => each.status === "rejected" ? [each.reason] : []);
    for (const [topic, subscription] of this.#subscriptions) {
      if (topics.includes(topic)) continue;
      this.#subscriptions.delete(topic);
      await subscription[Symbol.asyncDispose]();
    }
    if (this.#subscriptions.size === 0 && refused.length > 0) throw refused[0];
    return refused;
  }
}
