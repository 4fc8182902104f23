/**
 * A bus that is opened again whenever it is lost.
 *
 * @module
 */

import { abortable } from "@std/async/abortable";
import { delay } from "@std/async/delay";
import { NetworkError } from "../errors.ts";
import { GiveUp } from "../punch/give_up.ts";
import type { OpenBusOptions, SignalBus, SignalTransport } from "./bus.ts";
import { type TopicListener, TopicSubscribers } from "./topic_subscribers.ts";

/**
 * Opens a bus, and keeps it open until it is disposed: a connection that is lost is made anew, with all that was
 * subscribed to.
 *
 * @throws as {@linkcode SignalTransport.open}, if it cannot be opened at first
 */
export async function keepBus(
  transport: SignalTransport,
  options: OpenBusOptions,
): Promise<SignalBus> {
  return new KeptBus(transport, options, await transport.open(options));
}

class KeptBus implements SignalBus {
  readonly url: string;
  readonly finished: Promise<void>;
  readonly #transport: SignalTransport;
  readonly #options: OpenBusOptions;
  readonly #subscribers = new TopicSubscribers();
  /** Those of the bus that there is now. */
  readonly #subscriptions = new Map<string, Promise<AsyncDisposable>>();
  readonly #disposed = new AbortController();
  readonly #kept: Promise<void>;
  #bus: SignalBus | undefined;
  /** Ends the wait before the next attempt. */
  #hurry = new AbortController();
  /** Resolves when there is a bus again. */
  #back = Promise.withResolvers<void>();

  constructor(transport: SignalTransport, options: OpenBusOptions, first: SignalBus) {
    this.url = transport.url;
    this.#transport = transport;
    const { network, logger } = options; // the signal is for the opening alone
    this.#options = { network, ...logger && { logger } };
    this.#bus = first;
    this.#kept = this.#keep(first);
    this.finished = this.#kept;
  }

  get rttMs(): number | undefined {
    return this.#bus?.rttMs;
  }

  check(): void {
    this.#bus?.check?.();
    this.#hurry.abort(); // one that is away is tried at once
  }

  async publish(topic: string, message: Uint8Array): Promise<void> {
    const bus = this.#bus;
    if (bus !== undefined) return await bus.publish(topic, message);
    using patience = new GiveUp(PUBLISH_WAIT_MS, this.#disposed.signal);
    try {
      await abortable(this.#back.promise, patience.signal);
    } catch (cause) {
      throw new NetworkError(`Cannot publish by ${this.url}: it is lost`, "reset", { cause });
    }
    await this.#bus!.publish(topic, message);
  }

  async subscribe(
    topic: string,
    onMessage: TopicListener,
    options: { signal?: AbortSignal } = {},
  ): Promise<AsyncDisposable> {
    this.#disposed.signal.throwIfAborted();
    options.signal?.throwIfAborted();
    if (this.#subscribers.add(topic, onMessage)) this.#subscribeOn(this.#bus, topic);
    const subscribed = this.#subscriptions.get(topic);
    try {
      // Where the bus is away, the topic is subscribed to when it is back.
      await (options.signal === undefined || subscribed === undefined
        ? subscribed
        : abortable(subscribed, options.signal));
    } catch (error) {
      if (options.signal?.aborted || this.#bus !== undefined) {
        await this.#unsubscribe(topic, onMessage);
        throw error;
      }
    }
    return { [Symbol.asyncDispose]: () => this.#unsubscribe(topic, onMessage) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new NetworkError(`Cannot use ${this.url}: it is closed`, "closed");
    this.#disposed.abort(closed);
    await this.#bus?.[Symbol.asyncDispose]();
    await this.#kept;
  }

  /** Until it is disposed. */
  async #keep(first: SignalBus): Promise<void> {
    const { signal } = this.#disposed;
    let bus = first;
    while (!signal.aborted) {
      const why = await bus.finished.catch((error) => error);
      this.#bus = undefined;
      this.#subscriptions.clear();
      await bus[Symbol.asyncDispose](); // what is left of it
      if (signal.aborted) return;
      this.#options.logger?.warn(`${this.url} is lost: ${why}`);
      const next = await this.#reopen(signal);
      if (next === undefined) return;
      this.#bus = bus = next;
      for (const topic of this.#subscribers.topics) this.#subscribeOn(bus, topic);
      const back = this.#back;
      this.#back = Promise.withResolvers();
      back.resolve();
    }
  }

  async #reopen(signal: AbortSignal): Promise<SignalBus | undefined> {
    for (let waitMs = FIRST_WAIT_MS; !signal.aborted; waitMs = Math.min(2 * waitMs, MAX_WAIT_MS)) {
      try {
        // All who had the bus lost it at the same time: they shall not come back at the same time.
        this.#hurry = new AbortController();
        const either = AbortSignal.any([signal, this.#hurry.signal]);
        await delay(waitMs * (0.5 + Math.random()), { signal: either }).catch(() => {});
        signal.throwIfAborted();
        const bus = await this.#transport.open({ ...this.#options, signal });
        if (!signal.aborted) return bus;
        await bus[Symbol.asyncDispose]();
      } catch (error) {
        if (!signal.aborted) this.#options.logger?.debug(`${this.url}: ${error}`);
      }
    }
    return undefined;
  }

  #subscribeOn(bus: SignalBus | undefined, topic: string): void {
    if (bus === undefined) return;
    const deliver = (message: Uint8Array) => this.#subscribers.deliver(topic, message);
    const subscription = bus.subscribe(topic, deliver);
    subscription.catch(() => {}); // with the bus, or told to who subscribes
    this.#subscriptions.set(topic, subscription);
  }

  async #unsubscribe(topic: string, onMessage: TopicListener): Promise<void> {
    if (!this.#subscribers.remove(topic, onMessage)) return;
    const subscription = await this.#subscriptions.get(topic)?.catch(() => undefined);
    this.#subscriptions.delete(topic);
    try {
      await subscription?.[Symbol.asyncDispose]();
    } catch (error) {
      if (!(error instanceof NetworkError)) throw error; // the bus is lost, and the subscription with it
    }
  }
}

/** How long publishing waits for a bus that is away. Ours: who publishes will say it again. */
const PUBLISH_WAIT_MS = 2000;

/** Ours. */
const FIRST_WAIT_MS = 500;
const MAX_WAIT_MS = 60_000;
