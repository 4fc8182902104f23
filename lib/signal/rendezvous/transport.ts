/**
 * Topics of a rendezvous server, over WebSocket.
 *
 * @module
 */

import { MalformedMessageError, NetworkError, RefusedError } from "../../base/errors.ts";
import { MAX_SIGNAL_BYTES } from "../channel.ts";
import { requirePublishable, type TopicListener, TopicListeners, topicToBytes } from "../topic.ts";
import type { OpenSignalingOptions, SignalingConnection, SignalTransport } from "../transport.ts";
import {
  CLOSE,
  dialWebSocket,
  type WebSocketConnection,
  type WebSocketMessage,
} from "../websocket/connection.ts";
import { decodeTopicMessage, encodeTopicMessage, TOPIC_HEADER_BYTES } from "./message.ts";
import { TOPICS_PATH } from "./topics.ts";
import { abortable } from "@std/async/abortable";

/**
 * The topics of a rendezvous server.
 *
 * @example
 * ```ts
 * import { webSocketTransport } from "./transport.ts";
 * import { serveRendezvous } from "./server.ts";
 * import { systemNetwork } from "../../net/system.ts";
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
    async open({ network, signal }: OpenSignalingOptions): Promise<SignalingConnection> {
      const limits = {
        maxMessageBytes: MAX_SIGNAL_BYTES + TOPIC_HEADER_BYTES,
        maxQueuedBytes: 2 * MAX_QUEUED_BYTES,
      };
      return new WebSocketSignaling(url, await dialWebSocket(target, { network, signal, limits }));
    },
  };
}

class WebSocketSignaling implements SignalingConnection {
  readonly url: string;
  readonly finished: Promise<void>;
  readonly #socket: WebSocketConnection;
  readonly #listeners = new TopicListeners();
  /** Until the server confirms or refuses a topic, and as long as it is listened to. */
  readonly #confirming = new Map<string, Confirming>();
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
    this.#checking = setTimeout(() => this.#deadline("it does not answer"), CHECK_MS);
  }

  // deno-lint-ignore require-await -- a promise that rejects, where the plain call throws
  async publish(topic: string, message: Uint8Array): Promise<void> {
    requirePublishable(topic, message);
    if (this.#failure !== undefined) throw this.#failure;
    // What finds no room is lost, as anything may be; subscriptions and pings do find some.
    if (this.#socket.queuedBytes > MAX_QUEUED_BYTES) return;
    this.#send({ kind: "publish", topic, message });
  }

  async subscribe(
    topic: string,
    onMessage: TopicListener,
    { signal }: { signal?: AbortSignal } = {},
  ): Promise<AsyncDisposable> {
    topicToBytes(topic);
    signal?.throwIfAborted();
    if (this.#failure !== undefined) throw this.#failure;
    const confirmed = this.#confirm(topic, onMessage);
    try {
      await (signal === undefined ? confirmed : abortable(confirmed, signal));
    } catch (error) {
      this.#unsubscribe(topic, onMessage);
      throw error;
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
    if (this.#listeners.add(topic, onMessage)) {
      const confirming = Promise.withResolvers<void>();
      confirming.promise.catch(() => {});
      const tooLate = setTimeout(() => this.#deadline("it confirms nothing"), ANSWER_MS);
      this.#confirming.set(topic, { ...confirming, tooLate });
      this.#asking ??= { topic, sentMs: performance.now() };
      this.#send({ kind: "subscribe", topic });
    }
    return this.#confirming.get(topic)!.promise;
  }

  #unsubscribe(topic: string, onMessage: TopicListener): void {
    if (!this.#listeners.remove(topic, onMessage)) return;
    clearTimeout(this.#confirming.get(topic)?.tooLate);
    this.#confirming.delete(topic);
    if (this.#failure === undefined) this.#send({ kind: "unsubscribe", topic });
  }

  #send(message: Parameters<typeof encodeTopicMessage>[0]): void {
    if (this.#socket.send("binary", encodeTopicMessage(message))) return;
    this.#deadline("it reads nothing");
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
    if (this.#failure !== undefined) return; // closed, and the other side does not know yet
    if (message.kind === "publish") {
      return this.#listeners.deliver(message.topic, message.message);
    }
    const confirming = this.#confirming.get(message.topic);
    clearTimeout(confirming?.tooLate);
    if (message.kind === "subscribe") confirming?.resolve();
    else confirming?.reject(refusal(this.url));
    if (this.#asking?.topic === message.topic) {
      this.#rttMs = Math.min(this.#rttMs ?? Infinity, performance.now() - this.#asking.sentMs);
      this.#asking = undefined;
    }
  }

  #fail(failure: NetworkError): void {
    if (this.#failure !== undefined) return;
    this.#failure = failure;
    for (const { reject, tooLate } of this.#confirming.values()) {
      clearTimeout(tooLate);
      reject(failure);
    }
    if (failure.reason === "closed") this.#end.resolve();
    else this.#end.reject(failure);
  }

  #deadline(why: string): void {
    this.#fail(this.#lost(why));
    this.#socket.abort();
  }

  #lost(why: string, cause?: unknown): NetworkError {
    return new NetworkError(`Cannot use ${this.url}: ${why}`, "reset", { cause });
  }
}

interface Confirming extends PromiseWithResolvers<void> {
  readonly tooLate: ReturnType<typeof setTimeout>;
}

function refusal(url: string): RefusedError {
  const why = "the server has no room for another topic, or for another who listens to it";
  return new RefusedError(`Cannot subscribe by ${url}: ${why}`, TOO_MANY);
}

/** As HTTP says it: nothing is wrong with what was asked for, only now. */
const TOO_MANY = 503;

/** How long a server may take to confirm a topic. Ours: long enough for whatever a path loses. */
const ANSWER_MS = 10_000;

/** How long an answer may take. Ours: three round trips of most paths, with a lost packet. */
const CHECK_MS = 2000;

/** Ours: twice as long as servers are silent, and some. */
const MAX_SILENCE_MS = 60_000;

/** Ours: sixteen of the longest messages that the server has not taken yet; more are lost. */
const MAX_QUEUED_BYTES = 16 * (MAX_SIGNAL_BYTES + TOPIC_HEADER_BYTES + 14);
