/**
 * Topics of a rendezvous server, over WebSocket.
 *
 * @module
 */

import { MalformedMessageError, NetworkError, RefusedError } from "../errors.ts";
import type { OpenBusOptions, SignalBus, SignalTransport } from "./bus.ts";
import { MAX_SIGNAL_BYTES } from "./channel.ts";
import { TOPICS_PATH } from "./rendezvous_topics.ts";
import { decodeTopicMessage, encodeTopicMessage, TOPIC_HEADER_BYTES } from "./topic_message.ts";
import {
  requirePublishable,
  requireTopic,
  type TopicListener,
  TopicSubscribers,
} from "./topic_subscribers.ts";
import { CLOSE, type WebSocketConnection, type WebSocketMessage } from "./websocket.ts";
import { dialWebSocket } from "./websocket_dial.ts";

/**
 * The topics of a rendezvous server.
 *
 * @example
 * ```ts
 * import { webSocketTransport } from "./websocket_transport.ts";
 * import { serveRendezvous } from "./rendezvous.ts";
 * import { systemNetwork } from "../net/system.ts";
 * import { assertEquals } from "@std/assert";
 *
 * const network = systemNetwork;
 * await using server = await serveRendezvous({ network, local: { ip: "127.0.0.1", port: 0 } });
 * const transport = webSocketTransport(server.url);
 * await using a = await transport.open({ network });
 * await using b = await transport.open({ network });
 *
 * const topic = "AAAAAAAAAAAAAAAAAAAAAA";
 * const heard = Promise.withResolvers<Uint8Array>();
 * await using _subscription = await a.subscribe(topic, heard.resolve);
 * await b.publish(topic, new TextEncoder().encode("hello"));
 * assertEquals(new TextDecoder().decode(await heard.promise), "hello");
 * ```
 *
 * @param url `ws://HOST:PORT` or `wss://HOST`, with a path if a proxy in front of the server wants one
 * @throws {TypeError} if the URL is none of those
 */
export function webSocketTransport(url: string): SignalTransport {
  const target = URL.parse(url);
  if (target === null || !/^wss?:$/.test(target.protocol)) {
    throw new TypeError(`Cannot signal by ${url}: it is no ws: or wss: URL`);
  }
  target.pathname = `${target.pathname.replace(/\/$/, "")}${TOPICS_PATH}`;
  return {
    url,
    async open({ network, signal }: OpenBusOptions): Promise<SignalBus> {
      const limits = {
        maxMessageBytes: MAX_SIGNAL_BYTES + TOPIC_HEADER_BYTES,
        maxQueuedBytes: MAX_QUEUED_BYTES,
      };
      return new WebSocketBus(url, await dialWebSocket(target, { network, signal, limits }));
    },
  };
}

class WebSocketBus implements SignalBus {
  readonly url: string;
  readonly finished: Promise<void>;
  readonly #socket: WebSocketConnection;
  readonly #subscribers = new TopicSubscribers();
  /** Resolve when the server confirms a topic. */
  readonly #confirming = new Map<string, PromiseWithResolvers<void>>();
  readonly #received: Promise<void>;
  readonly #end = Promise.withResolvers<void>();
  #asking: { readonly topic: string; readonly sentMs: number } | undefined;
  #rttMs: number | undefined;
  #checking: ReturnType<typeof setTimeout> | undefined;
  #silence: ReturnType<typeof setTimeout> | undefined;
  #failure: NetworkError | undefined;

  constructor(url: string, socket: WebSocketConnection) {
    this.url = url;
    this.#socket = socket;
    this.finished = this.#end.promise;
    this.finished.catch(() => {}); // whoever waits for it is told; nobody may
    this.#received = this.#receiveAll();
  }

  get rttMs(): number | undefined {
    return this.#rttMs;
  }

  check(): void {
    if (this.#checking !== undefined || this.#failure !== undefined) return;
    this.#socket.send("ping", new Uint8Array(0));
    this.#checking = setTimeout(() => this.#socket.abort(), CHECK_MS);
  }

  // deno-lint-ignore require-await -- a promise that rejects, where the plain call throws
  async publish(topic: string, message: Uint8Array): Promise<void> {
    requirePublishable(topic, message);
    this.#send({ kind: "publish", topic, message });
  }

  async subscribe(
    topic: string,
    onMessage: TopicListener,
    { signal }: { signal?: AbortSignal } = {},
  ): Promise<AsyncDisposable> {
    requireTopic(topic);
    signal?.throwIfAborted();
    const confirmed = this.#confirm(topic, onMessage);
    const { promise: aborted, reject } = Promise.withResolvers<never>();
    const onAbort = () => reject(signal?.reason);
    signal?.addEventListener("abort", onAbort, { once: true });
    try {
      await Promise.race([confirmed, aborted]);
    } catch (error) {
      this.#unsubscribe(topic, onMessage);
      throw error;
    } finally {
      signal?.removeEventListener("abort", onAbort);
    }
    return {
      [Symbol.asyncDispose]: async () => await this.#unsubscribe(topic, onMessage),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#fail(new NetworkError(`Cannot use ${this.url}: it is closed`, "closed"));
    this.#socket.close(CLOSE.normal, "");
    await this.#received;
  }

  /** Tells the server, unless it has been told. */
  #confirm(topic: string, onMessage: TopicListener): Promise<void> {
    if (this.#subscribers.add(topic, onMessage)) {
      const confirming = Promise.withResolvers<void>();
      confirming.promise.catch(() => {});
      this.#confirming.set(topic, confirming);
      this.#asking ??= { topic, sentMs: performance.now() };
      this.#send({ kind: "subscribe", topic });
    }
    return this.#confirming.get(topic)!.promise;
  }

  #unsubscribe(topic: string, onMessage: TopicListener): void {
    if (!this.#subscribers.remove(topic, onMessage)) return;
    this.#confirming.delete(topic);
    if (this.#failure === undefined) this.#send({ kind: "unsubscribe", topic });
  }

  /** @throws {NetworkError} if the bus is lost; what finds no room is lost, as anything may be */
  #send(message: Parameters<typeof encodeTopicMessage>[0]): void {
    if (this.#failure !== undefined) throw this.#failure;
    this.#socket.send("binary", encodeTopicMessage(message));
  }

  /** Never rejects: whoever uses the bus is told. */
  async #receiveAll(): Promise<void> {
    try {
      let message = await this.#receive();
      for (; message.kind !== "close"; message = await this.#receive()) {
        if (message.kind === "binary") this.#accept(message.data);
        else if (message.kind === "ping") this.#socket.send("pong", message.data);
      }
      this.#socket.close(CLOSE.normal, "");
      const { code, reason } = message;
      this.#fail(this.#lost(`the server has closed it: ${code} ${reason}`.trimEnd()));
    } catch (error) {
      if (error instanceof MalformedMessageError) this.#socket.close(CLOSE.malformed, "");
      else if (error instanceof RefusedError) this.#socket.close(error.code, "");
      else if (!(error instanceof NetworkError)) throw error;
      this.#fail(this.#lost(error.message, error));
    }
    this.#stopTimers();
    await this.#socket.finish();
  }

  /** Whatever comes shows that the server is there; it says something every now and then. */
  async #receive(): Promise<WebSocketMessage> {
    this.#silence = setTimeout(() => this.check(), MAX_SILENCE_MS);
    try {
      return await this.#socket.receive();
    } finally {
      this.#stopTimers();
    }
  }

  #stopTimers(): void {
    clearTimeout(this.#silence);
    clearTimeout(this.#checking);
    this.#checking = undefined;
  }

  #accept(data: Uint8Array): void {
    const message = decodeTopicMessage(data);
    if (message.kind === "publish") this.#subscribers.deliver(message.topic, message.message);
    if (message.kind !== "subscribe") return;
    this.#confirming.get(message.topic)?.resolve();
    if (this.#asking?.topic === message.topic) {
      this.#rttMs = Math.min(this.#rttMs ?? Infinity, performance.now() - this.#asking.sentMs);
      this.#asking = undefined;
    }
  }

  #fail(failure: NetworkError): void {
    if (this.#failure !== undefined) return;
    this.#failure = failure;
    for (const { reject } of this.#confirming.values()) reject(failure);
    if (failure.reason === "closed") this.#end.resolve();
    else this.#end.reject(failure);
  }

  #lost(why: string, cause?: unknown): NetworkError {
    return new NetworkError(`Cannot use ${this.url}: ${why}`, "reset", { cause });
  }
}

/** How long an answer may take. Ours: three round trips of most paths, with a lost packet. */
const CHECK_MS = 2000;

/** Ours: twice as long as servers are silent, and some. */
const MAX_SILENCE_MS = 60_000;

/** Ours: sixteen of the longest messages that the server has not taken yet; more are lost. */
const MAX_QUEUED_BYTES = 16 * (MAX_SIGNAL_BYTES + TOPIC_HEADER_BYTES + 14);
