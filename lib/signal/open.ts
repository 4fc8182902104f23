/**
 * Opens signaling connections by URL, and opens them again whenever they are lost.
 *
 * @module
 */

import { messageOf, NetworkError } from "../base/errors.ts";
import { loginOf, shownUrl, withoutLogin } from "../base/login.ts";
import { Semaphore, TaskGroup } from "../base/tasks.ts";
import { Deadline, MAX_TIMER_MS, ResettableTimer } from "../base/timers.ts";
import { lanTransport } from "./lan.ts";
import {
  INITIAL_RECONNECTING_STATE,
  type ReconnectingAction,
  type ReconnectingEvent,
  type ReconnectingState,
  reconnectingWakeAtMs,
  stepReconnecting,
} from "./reconnecting_engine.ts";
import { webSocketTransport } from "./rendezvous/transport.ts";
import {
  type OpenSignalingOptions,
  requirePublishable,
  requireSubscribable,
  type SignalingConnection,
  type SignalTransport,
  type TopicListener,
  TopicListeners,
} from "./transport.ts";
import { abortable } from "@std/async/abortable";

/**
 * Opens a signaling connection and keeps it open until it is disposed: when it is lost, it is opened again with all its
 * subscriptions, after half a second at first and a minute at most, or two seconds while a message waits.
 *
 * @param way a URL that {@linkcode parseSignalUrl} accepts, or a transport of your own
 * @throws {TypeError} if the URL is not one of a known transport
 * @throws as {@linkcode SignalTransport.open}, if the first attempt fails
 * @throws {NetworkError} `timed-out` if the first attempt takes 15 seconds
 *
 * @example
 * ```ts
 * import { openSignaling } from "./open.ts";
 * import { serveRendezvous } from "./rendezvous/server.ts";
 * import { systemNetwork as network } from "../net/system.ts";
 *
 * await using server = await serveRendezvous({ network, local: { ip: "127.0.0.1", port: 0 } });
 * await using signaling = await openSignaling(server.url, { network });
 * await signaling.publish("AAAAAAAAAAAAAAAAAAAAAA", new TextEncoder().encode("hello"));
 * ```
 */
export async function openSignaling(
  way: string | SignalTransport,
  options: OpenSignalingOptions,
): Promise<SignalingConnection> {
  const transport = typeof way === "string" ? await transportOf(way) : way;
  return await openReconnecting(transport, options);
}

/**
 * Checks that a text is the URL of a known transport.
 *
 * @returns the text, unchanged
 * @throws {TypeError} if it is not
 */
export function parseSignalUrl(url: string): string {
  const scheme = /^([a-z+]+):/.exec(url)?.[1];
  loginOf(url, `Cannot signal by a ${scheme}: URL`);
  const isKnown = scheme !== undefined && Object.hasOwn(TRANSPORTS, scheme) && isPrintable(url);
  if (isKnown && URL.canParse(url) && (scheme === "lan" || HAS_HOST.test(url))) return url;
  const known = Object.keys(TRANSPORTS).map((each) => `${each}:`).join(", ");
  throw new TypeError(`Cannot signal by ${JSON.stringify(shownUrl(url))}: use a URL of ${known}`);
}

/**
 * Opens a signaling connection and keeps it open until it is disposed: a lost connection is opened again, with all
 * subscriptions.
 *
 * @throws as {@linkcode SignalTransport.open}, if the first attempt fails
 * @throws {NetworkError} `timed-out` if the first attempt takes 15 seconds
 */
export async function openReconnecting(
  transport: SignalTransport,
  options: OpenSignalingOptions,
): Promise<SignalingConnection> {
  const { onState } = options;
  onState?.("opening");
  using deadline = new Deadline(OPEN_MS, options.signal);
  try {
    const first = await openInTime(transport, options, deadline);
    return new ReconnectingConnection(transport, options, first);
  } catch (error) {
    if (!options.signal?.aborted) onState?.("failed", error);
    throw error;
  }
}

/**
 * MQTT brokers that are open to anyone, according to their operators' pages. They belong to others: a peer publishes
 * a few messages of two kilobytes per connection, and nothing once it is connected.
 */
export const PUBLIC_BROKERS: readonly string[] = [
  "mqtts://broker.hivemq.com:8883",
  "mqtts://broker.emqx.io:8883",
  "mqtts://test.mosquitto.org:8886",
];

/** The LAN, and two of the public brokers: one may be down. */
export const DEFAULT_SIGNALING: readonly string[] = ["lan:", ...PUBLIC_BROKERS.slice(0, 2)];

class ReconnectingConnection implements SignalingConnection {
  readonly url: string;
  readonly finished: Promise<void>;
  readonly #transport: SignalTransport;
  readonly #options: OpenSignalingOptions;
  readonly #listeners = new TopicListeners();
  readonly #end = Promise.withResolvers<void>();
  readonly #tasks = new TaskGroup(this.#end.reject);
  /** One connection at a time: the next is opened once the last has been released. */
  readonly #atOnce = new Semaphore(1);
  readonly #timer = new ResettableTimer(() => this.#apply({ kind: "time" }));
  /** The subscriptions of the connection that is open. */
  readonly #subscriptions = new Map<string, Subscription>();
  #state: ReconnectingState = INITIAL_RECONNECTING_STATE;
  #checkWithinMs: number | undefined;
  /** The attempt under way. */
  #opening: Deadline | undefined;
  /** The one that is open. */
  #connection: SignalingConnection | undefined;
  #lastRttMs: number | undefined;
  /** Resolves with the next connection that is opened. */
  #next = Promise.withResolvers<SignalingConnection>();

  constructor(
    transport: SignalTransport,
    { network, logger, onState }: OpenSignalingOptions, // the signal aborts only the first attempt
    first: SignalingConnection,
  ) {
    this.url = transport.url;
    this.finished = this.#end.promise;
    this.#transport = transport;
    this.#options = { network, logger, onState };
    this.#tasks.run(() => this.#atOnce.through(() => this.#use(first)));
  }

  get rttMs(): number | undefined {
    return this.#connection?.rttMs;
  }

  get isManual(): boolean {
    return this.#connection?.isManual ?? false;
  }

  check(withinMs?: number): void {
    this.#checkWithinMs = withinMs;
    this.#apply({ kind: "check" });
  }

  async allocateNumber(options: { signal?: AbortSignal } = {}): Promise<number | undefined> {
    this.#tasks.signal.throwIfAborted();
    return await (this.#connection ?? await this.#nextConnection()).allocateNumber?.(options);
  }

  async publish(topic: string, message: Uint8Array): Promise<void> {
    requirePublishable(topic, message);
    this.#tasks.signal.throwIfAborted();
    await (this.#connection ?? await this.#nextConnection()).publish(topic, message);
  }

  async subscribe(
    topic: string,
    onMessage: TopicListener,
    { signal }: { signal?: AbortSignal } = {},
  ): Promise<AsyncDisposable> {
    requireSubscribable(topic, signal);
    this.#tasks.signal.throwIfAborted();
    if (this.#listeners.add(topic, onMessage)) this.#apply({ kind: "subscribe", topic });
    const confirmed = this.#subscriptions.get(topic)?.confirmed;
    try {
      // Without a connection there is nothing to wait for: the next one subscribes to the topic.
      if (confirmed !== undefined) await (signal ? abortable(confirmed, signal) : confirmed);
    } catch (error) {
      const isLost = error instanceof NetworkError && !this.#tasks.signal.aborted;
      if (signal?.aborted || !isLost) {
        await this.#unsubscribe(topic, onMessage);
        throw error;
      }
    }
    return { [Symbol.asyncDispose]: () => this.#unsubscribe(topic, onMessage) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new NetworkError(`Cannot use ${withoutLogin(this.url)}: it is closed`, "closed");
    const stopped = this.#tasks.stop(closed);
    this.#apply({ kind: "disposed" });
    await this.#connection?.[Symbol.asyncDispose]();
    await stopped;
    this.#end.resolve();
    await this.finished;
  }

  #apply(event: ReconnectingEvent): void {
    const nowMs = performance.now();
    const { state, actions } = stepReconnecting(this.#state, event, nowMs);
    this.#state = state;
    for (const action of actions) this.#do(action);
    const waitMs = reconnectingWakeAtMs(this.#state) - nowMs;
    if (waitMs === Infinity) this.#timer.clear();
    else this.#timer.set(Math.min(Math.max(0, waitMs), MAX_TIMER_MS));
  }

  #do(action: ReconnectingAction): void {
    switch (action.kind) {
      case "open":
        return this.#tasks.run((signal) => this.#atOnce.through(() => this.#open(signal)));
      case "hurry":
        return this.#opening?.expire(new DOMException("Another attempt follows", "TimeoutError"));
      case "check":
        return this.#connection?.check?.(this.#checkWithinMs);
      case "subscribe":
        return this.#subscribe(this.#connection!, action.topic);
      case "unsubscribe":
        return this.#endSubscription(action.topic, undefined);
      case "log":
        return this.#options.logger?.[action.level](`${withoutLogin(this.url)}: ${action.message}`);
    }
  }

  async #open(signal: AbortSignal): Promise<void> {
    // Its time was over before the last connection was released.
    if (this.#isHurried) return this.#fail("it began too late");
    let connection: SignalingConnection;
    this.#options.onState?.("opening");
    const deadline = this.#opening = new Deadline(OPEN_MS, signal);
    try {
      connection = await openInTime(this.#transport, { ...this.#options, signal }, deadline);
    } catch (error) {
      // No failure yet if it is hurried: the next one follows at once.
      if (!signal.aborted && !this.#isHurried) this.#options.onState?.("failed", error);
      return this.#fail(messageOf(error));
    } finally {
      deadline[Symbol.dispose]();
      this.#opening = undefined;
    }
    if (signal.aborted) await connection[Symbol.asyncDispose]();
    else await this.#use(connection);
  }

  /** Whether the attempt is given up for a new one. */
  get #isHurried(): boolean {
    const { phase } = this.#state;
    return phase.kind === "opening" && phase.isHurried === true;
  }

  #fail(reason: string): void {
    this.#apply({ kind: "failed", reason, random: Math.random() });
  }

  /** Until it ends. */
  async #use(connection: SignalingConnection): Promise<void> {
    this.#connection = connection;
    this.#options.onState?.("open");
    this.#apply({ kind: "opened" });
    this.#next.resolve(connection);
    this.#next = Promise.withResolvers();
    const reason = await connection.finished.then(() => "it was closed", (error) => {
      if (this.#state.phase.kind !== "closed") this.#options.onState?.("lost", error);
      return messageOf(error);
    });
    this.#lastRttMs = connection.rttMs ?? this.#lastRttMs;
    this.#connection = undefined;
    const lost = new NetworkError(`Cannot use ${withoutLogin(this.url)}: it is lost`, "reset");
    for (const topic of [...this.#subscriptions.keys()]) this.#endSubscription(topic, lost);
    this.#apply({ kind: "lost", reason, random: Math.random() });
    await connection[Symbol.asyncDispose](); // releases what is left of it
  }

  async #nextConnection(): Promise<SignalingConnection> {
    const { signal } = this.#tasks;
    const patienceMs = OPEN_ROUND_TRIPS * (this.#lastRttMs ?? 0);
    this.#apply({ kind: "wanted", patienceMs });
    using deadline = new Deadline(PUBLISH_WAIT_MS, signal);
    try {
      return await abortable(this.#next.promise, deadline.signal);
    } catch (cause) {
      signal.throwIfAborted();
      throw new NetworkError(`Cannot publish by ${withoutLogin(this.url)}: it is lost`, "reset", {
        cause,
      });
    }
  }

  #subscribe(connection: SignalingConnection, topic: string): void {
    const ended = new AbortController(); // one per subscription, so that each can end alone
    const confirmed = connection.subscribe(topic, (message) => {
      if (!ended.signal.aborted) this.#listeners.deliver(topic, message);
    }, { signal: ended.signal });
    const subscription = { confirmed, ended };
    this.#subscriptions.set(topic, subscription);
    const report = (event: ReconnectingEvent) => {
      if (this.#subscriptions.get(topic) === subscription) this.#apply(event);
    };
    confirmed.then(() => report({ kind: "subscribed", topic }), (error) =>
      report({
        kind: "subscription-failed",
        topic,
        reason: messageOf(error),
        isRefusal: !(error instanceof NetworkError),
        random: Math.random(),
      }));
  }

  #endSubscription(topic: string, reason: NetworkError | undefined): void {
    const subscription = this.#subscriptions.get(topic);
    this.#subscriptions.delete(topic);
    subscription?.ended.abort(reason);
  }

  async #unsubscribe(topic: string, onMessage: TopicListener): Promise<void> {
    if (!this.#listeners.remove(topic, onMessage)) return;
    const subscription = this.#subscriptions.get(topic);
    this.#apply({ kind: "unsubscribe", topic }); // at once: it may be subscribed to again while this waits
    const confirmed = await subscription?.confirmed.catch(() => undefined); // nothing to give back
    try {
      await confirmed?.[Symbol.asyncDispose]();
    } catch (error) {
      if (!(error instanceof NetworkError)) throw error; // lost, and the subscription with it
    }
  }
}

/** A subscription of one connection. */
interface Subscription {
  readonly confirmed: Promise<AsyncDisposable>;
  /** Aborted when the topic has lost its listeners, or the connection is lost. */
  readonly ended: AbortController;
}

/** A server that accepts connections and sends nothing counts as one that is down. */
async function openInTime(
  transport: SignalTransport,
  options: OpenSignalingOptions,
  deadline: Deadline,
): Promise<SignalingConnection> {
  const startedAtMs = performance.now();
  try {
    return await transport.open({ ...options, signal: deadline.signal });
  } catch (cause) {
    options.signal?.throwIfAborted();
    if (!deadline.signal.aborted) throw cause;
    const seconds = Math.round((performance.now() - startedAtMs) / 1000);
    const message = `Cannot open ${withoutLogin(transport.url)}: no connection in ${seconds} s`;
    throw new NetworkError(message, "timed-out", { cause });
  }
}

/**
 * Control characters are dropped by some parsers, and obeyed by some servers. After a backslash some parsers look for the
 * host, and others still for the login, where it is written as %5C.
 */
function isPrintable(url: string): boolean {
  return !/[\p{Cc}\s\\]/u.test(url);
}

async function transportOf(url: string): Promise<SignalTransport> {
  const [scheme] = parseSignalUrl(url).split(":") as [keyof typeof TRANSPORTS];
  return await TRANSPORTS[scheme](url);
}

/** Loaded only when it is used. */
async function loadMqtt(url: string): Promise<SignalTransport> {
  const { mqttTransport } = await import("./mqtt/transport.ts");
  return mqttTransport(url);
}

/** How long publishing waits for a connection that is away. Chosen by us: publishers repeat what matters. */
const PUBLISH_WAIT_MS = 2000;

/** Chosen by us: longer than the retransmissions of three lost SYNs. */
const OPEN_MS = 15_000;

/** How long an attempt may take while messages wait. Chosen by us: TCP, TLS and an upgrade, with a packet that is lost. */
const OPEN_ROUND_TRIPS = 8;

const TRANSPORTS = {
  ws: webSocketTransport,
  wss: webSocketTransport,
  lan: lanTransport,
  mqtt: loadMqtt,
  mqtts: loadMqtt,
  "mqtt+ws": loadMqtt,
  "mqtt+wss": loadMqtt,
} as const;

/** `URL` does not know `mqtt://` and the like, and accepts them without a host. */
const HAS_HOST = /^[a-z+]+:\/\/(?:[^/?#@]*@)?[^/?#@:]/;
