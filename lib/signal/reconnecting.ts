/**
 * A bus that is opened again whenever it is lost.
 *
 * @module
 */

import { NetworkError } from "../base/errors.ts";
import { Deadline } from "../base/timers.ts";
import {
  type OpenSignalingOptions,
  requirePublishable,
  requireTopic,
  type SignalingConnection,
  type SignalTransport,
  type TopicListener,
  TopicListeners,
} from "./transport.ts";
import { abortable } from "@std/async/abortable";
import { delay } from "@std/async/delay";

/**
 * Opens a bus, and keeps it open until it is disposed: a connection that is lost is made anew, with all that was
 * subscribed to.
 *
 * @throws as {@linkcode SignalTransport.open}, if it cannot be opened at first
 * @throws {NetworkError} `timed-out` if that takes 15 seconds
 */
export async function openReconnecting(
  transport: SignalTransport,
  options: OpenSignalingOptions,
): Promise<SignalingConnection> {
  return new ReconnectingConnection(transport, options, await openInTime(transport, options));
}

class ReconnectingConnection implements SignalingConnection {
  readonly url: string;
  readonly finished: Promise<void>;
  readonly #transport: SignalTransport;
  readonly #options: OpenSignalingOptions;
  readonly #subscribers = new TopicListeners();
  /** Those of the bus that there is now. */
  readonly #subscriptions = new Map<string, Subscription>();
  readonly #disposed = new AbortController();
  #signaling: SignalingConnection | undefined;
  /** Before the next attempt, on average. */
  #waitMs = FIRST_WAIT_MS;
  /** Ends the wait before the next attempt. */
  #hurry = new AbortController();
  /** Resolves when there is a bus again. */
  #back = Promise.withResolvers<SignalingConnection>();

  constructor(
    transport: SignalTransport,
    options: OpenSignalingOptions,
    first: SignalingConnection,
  ) {
    this.url = transport.url;
    this.#transport = transport;
    const { network, logger } = options; // the signal is for the opening alone
    this.#options = { network, ...logger && { logger } };
    this.finished = this.#keep(first);
  }

  get rttMs(): number | undefined {
    return this.#signaling?.rttMs;
  }

  get isManual(): boolean {
    return this.#signaling?.isManual ?? false;
  }

  check(): void {
    this.#signaling?.check?.();
    this.#hurry.abort(); // one that is away is tried at once
  }

  async publish(topic: string, message: Uint8Array): Promise<void> {
    requirePublishable(topic, message);
    this.#disposed.signal.throwIfAborted();
    await (this.#signaling ?? await this.#waitForSignaling()).publish(topic, message);
  }

  async subscribe(
    topic: string,
    onMessage: TopicListener,
    { signal }: { signal?: AbortSignal } = {},
  ): Promise<AsyncDisposable> {
    requireTopic(topic);
    this.#disposed.signal.throwIfAborted();
    signal?.throwIfAborted();
    const isFirst = this.#subscribers.add(topic, onMessage);
    if (isFirst && this.#signaling !== undefined) this.#subscribeOn(this.#signaling, topic);
    const subscribed = this.#subscriptions.get(topic)?.confirmed;
    try {
      // Where the bus is away, the topic is subscribed to when it is back.
      if (subscribed !== undefined) await (signal ? abortable(subscribed, signal) : subscribed);
    } catch (error) {
      const isLost = error instanceof NetworkError && !this.#disposed.signal.aborted;
      if (signal?.aborted || !isLost) {
        await this.#unsubscribe(topic, onMessage);
        throw error;
      }
    }
    return { [Symbol.asyncDispose]: () => this.#unsubscribe(topic, onMessage) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new NetworkError(`Cannot use ${this.url}: it is closed`, "closed");
    this.#disposed.abort(closed);
    await this.#signaling?.[Symbol.asyncDispose]();
    await this.finished;
  }

  /** Until it is disposed. */
  async #keep(first: SignalingConnection): Promise<void> {
    const { signal } = this.#disposed;
    let next: SignalingConnection | undefined = first;
    for (; next !== undefined; next = await this.#reopen(signal)) {
      const signaling = this.#signaling = next;
      const openedMs = performance.now();
      for (const topic of this.#subscribers.topics) this.#renew(signaling, topic);
      this.#back.resolve(signaling);
      this.#back = Promise.withResolvers();
      const why = await signaling.finished.catch((error) => error);
      this.#signaling = undefined;
      for (const { ended } of this.#subscriptions.values()) ended.abort();
      this.#subscriptions.clear();
      await signaling[Symbol.asyncDispose](); // what is left of it
      // A server that lets us in only to throw us out is not asked twice a second.
      if (performance.now() - openedMs >= STEADY_MS) this.#waitMs = FIRST_WAIT_MS;
      if (!signal.aborted) this.#options.logger?.warn(`${this.url} is lost: ${why}`);
    }
  }

  async #reopen(signal: AbortSignal): Promise<SignalingConnection | undefined> {
    while (!signal.aborted) {
      try {
        this.#hurry = new AbortController();
        await pause(this.#waitMs, AbortSignal.any([signal, this.#hurry.signal]));
        signal.throwIfAborted();
        this.#waitMs = Math.min(2 * this.#waitMs, MAX_WAIT_MS);
        const signaling = await openInTime(this.#transport, { ...this.#options, signal });
        if (!signal.aborted) return signaling;
        await signaling[Symbol.asyncDispose]();
      } catch (error) {
        if (!signal.aborted) this.#options.logger?.debug(`${this.url}: ${error}`);
      }
    }
    return undefined;
  }

  async #waitForSignaling(): Promise<SignalingConnection> {
    const { signal } = this.#disposed;
    using deadline = new Deadline(PUBLISH_WAIT_MS, signal);
    try {
      return await abortable(this.#back.promise, deadline.signal);
    } catch (cause) {
      signal.throwIfAborted();
      throw new NetworkError(`Cannot publish by ${this.url}: it is lost`, "reset", { cause });
    }
  }

  #subscribeOn(signaling: SignalingConnection, topic: string): Subscription {
    const ended = new AbortController();
    const confirmed = signaling.subscribe(topic, (message) => {
      if (!ended.signal.aborted) this.#subscribers.deliver(topic, message);
    }, { signal: ended.signal });
    confirmed.catch(() => {}); // with the bus, or told to who subscribes
    const subscription = { confirmed, ended };
    this.#subscriptions.set(topic, subscription);
    return subscription;
  }

  /** What was subscribed to before the bus was lost: nobody waits for it, so nobody else would try again. */
  async #renew(signaling: SignalingConnection, topic: string): Promise<void> {
    for (let waitMs = FIRST_WAIT_MS;; waitMs = Math.min(2 * waitMs, MAX_WAIT_MS)) {
      const subscription = this.#subscribeOn(signaling, topic);
      const { signal } = subscription.ended;
      try {
        await subscription.confirmed;
        return;
      } catch (error) {
        if (signal.aborted || error instanceof NetworkError) return; // given up, or lost again
        this.#options.logger?.warn(`${this.url} does not let us listen again: ${error}`);
      }
      await pause(waitMs, AbortSignal.any([signal, this.#disposed.signal]));
      if (signal.aborted || this.#disposed.signal.aborted) return;
    }
  }

  async #unsubscribe(topic: string, onMessage: TopicListener): Promise<void> {
    if (!this.#subscribers.remove(topic, onMessage)) return;
    const subscription = this.#subscriptions.get(topic);
    this.#subscriptions.delete(topic); // before anything is waited for: somebody may subscribe anew
    subscription?.ended.abort();
    try {
      const confirmed = await subscription?.confirmed.catch(() => undefined);
      await confirmed?.[Symbol.asyncDispose]();
    } catch (error) {
      if (!(error instanceof NetworkError)) throw error; // the bus is lost, and the subscription with it
    }
  }
}

interface Subscription {
  readonly confirmed: Promise<AsyncDisposable>;
  /** Aborted when nobody wants it any more, or its bus is lost. */
  readonly ended: AbortController;
}

/** A server that takes connections and says nothing is as good as one that is down. */
async function openInTime(
  transport: SignalTransport,
  options: OpenSignalingOptions,
): Promise<SignalingConnection> {
  using deadline = new Deadline(OPEN_MS, options.signal);
  try {
    return await transport.open({ ...options, signal: deadline.signal });
  } catch (error) {
    options.signal?.throwIfAborted();
    if (!deadline.signal.aborted) throw error;
    const cannot = `Cannot open ${transport.url}: it has not come about in ${OPEN_MS / 1000} s`;
    throw new NetworkError(cannot, "timed-out", { cause: error });
  }
}

/** All who had the bus lost it at the same time: they shall not come back at the same time. */
async function pause(meanMs: number, signal: AbortSignal): Promise<void> {
  await delay(meanMs * (0.5 + Math.random()), { signal }).catch(() => {});
}

/** How long publishing waits for a bus that is away. Ours: who publishes will say it again. */
const PUBLISH_WAIT_MS = 2000;

/** Ours: the retransmissions of three lost SYNs, and some. */
const OPEN_MS = 15_000;

/** Ours. */
const FIRST_WAIT_MS = 500;
const MAX_WAIT_MS = 60_000;

/** How long a bus has to last for the next to be opened as soon as the first. Ours. */
const STEADY_MS = 30_000;
