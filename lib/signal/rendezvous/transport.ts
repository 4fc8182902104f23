/**
 * Signaling through the topics of a rendezvous server, over WebSocket.
 *
 * @module
 */

import { toBase64url } from "../../base/bytes.ts";
import { MalformedMessageError, NetworkError, RefusedError } from "../../base/errors.ts";
import { shownUrl, withoutLogin } from "../../base/login.ts";
import { TokenBucket, waitForTokens } from "../../base/rate_limiter.ts";
import { optionalResolvers } from "../../base/tasks.ts";
import { MAX_SIGNAL_BYTES, MESSAGE_RATE } from "../channel.ts";
import {
  type OpenSignalingOptions,
  requirePublishable,
  requireSubscribable,
  type SignalingConnection,
  type SignalTransport,
  TOPIC_BYTES,
  type TopicListener,
  TopicListeners,
} from "../transport.ts";
import {
  CLOSE_CODES,
  dialWebSocket,
  type WebSocketConnection,
  type WebSocketMessage,
} from "../websocket/connection.ts";
import {
  decodeNumberNotice,
  decodeTopicMessage,
  encodeNumberNotice,
  encodeTopicMessage,
  TOPIC_HEADER_BYTES,
  type TopicMessage,
  TOPICS_PATH,
} from "./message.ts";
import { abortable } from "@std/async/abortable";

/**
 * Signals through the topics of a rendezvous server.
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
 * const received = Promise.withResolvers<Uint8Array>();
 * await using _subscription = await a.subscribe(topic, received.resolve);
 * await b.publish(topic, new TextEncoder().encode("hello"));
 * assertEquals(new TextDecoder().decode(await received.promise), "hello");
 * ```
 *
 * @param url `ws://HOST:PORT` or `wss://HOST`, with a path if a proxy in front of the server needs one
 * @throws {TypeError} if the URL has another form
 */
export function webSocketTransport(url: string): SignalTransport {
  const target = URL.parse(url);
  if (target === null || !/^wss?:$/.test(target.protocol)) {
    throw new TypeError(`Cannot signal by ${shownUrl(url)}: it is not a ws: or wss: URL`);
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
  /** The outcome of subscribing to each topic that has a listener. */
  readonly #confirmations = new Map<string, Confirmation>();
  readonly #received: Promise<void>;
  readonly #end = optionalResolvers<void>();
  /** The subscription that measures the round trip. */
  #measuring: { readonly topic: string; readonly sentMs: number } | undefined;
  #rttMs: number | undefined;
  /** The requests for a number that wait for an answer; the oldest first. */
  readonly #allocations: ((number: number | undefined) => void)[] = [];
  #checking: ReturnType<typeof setTimeout> | undefined;
  #silence: ReturnType<typeof setTimeout> | undefined;
  #failure: NetworkError | undefined;

  constructor(url: string, socket: WebSocketConnection) {
    this.url = url;
    this.#socket = socket;
    this.finished = this.#end.promise;
    this.#received = this.#receiveAll();
  }

  get rttMs(): number | undefined {
    return this.#rttMs;
  }

  check(withinMs: number = CHECK_MS): void {
    if (this.#failure !== undefined) return;
    if (withinMs === 0) return this.#drop("the network has changed");
    if (this.#checking !== undefined && withinMs === CHECK_MS) return;
    clearTimeout(this.#checking);
    this.#socket.send("ping", new Uint8Array(0));
    this.#checking = setTimeout(() => this.#drop("it does not answer"), withinMs);
  }

  async allocateNumber({ signal }: { signal?: AbortSignal } = {}): Promise<number | undefined> {
    if (this.#failure !== undefined) throw this.#failure;
    const allocated = Promise.withResolvers<number | undefined>();
    this.#allocations.push(allocated.resolve);
    const notice = new TextEncoder().encode(encodeNumberNotice({ kind: "request" }));
    if (!this.#socket.send("text", notice)) this.#drop("it does not read");
    // A server that allocates none drops the request. It acts on messages in order, so the next answer shows that.
    const topic = toBase64url(crypto.getRandomValues(new Uint8Array(TOPIC_BYTES)));
    try {
      await using _answered = await this.subscribe(topic, () => {}, { signal });
    } catch (error) {
      if (!(error instanceof RefusedError)) throw error;
    } finally {
      const index = this.#allocations.indexOf(allocated.resolve);
      if (index >= 0) this.#allocations.splice(index, 1);
      allocated.resolve(undefined); // unless there was an answer
    }
    return await allocated.promise;
  }

  // deno-lint-ignore require-await -- a promise that rejects, where the plain call throws
  async publish(topic: string, message: Uint8Array): Promise<void> {
    requirePublishable(topic, message);
    if (this.#failure !== undefined) throw this.#failure;
    // A message that exceeds its share of the queue is lost, as any may be; subscriptions and pings have the rest.
    if (this.#socket.queuedBytes > MAX_QUEUED_BYTES) return;
    this.#send({ kind: "publish", topic, message });
  }

  async subscribe(
    topic: string,
    onMessage: TopicListener,
    { signal }: { signal?: AbortSignal } = {},
  ): Promise<AsyncDisposable> {
    requireSubscribable(topic, signal);
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
    this.#fail(new NetworkError(`Cannot use ${withoutLogin(this.url)}: it is closed`, "closed"));
    this.#socket.close(CLOSE_CODES.normal, "");
    await this.#received;
  }

  /** Subscribes at the server with the first listener; resolves when the server has confirmed it. */
  #confirm(topic: string, onMessage: TopicListener): Promise<void> {
    if (this.#listeners.add(topic, onMessage)) {
      const confirmation = optionalResolvers<void>();
      const tooLate = setTimeout(
        () => this.#drop("it confirms no subscription", STALL_REMEDY),
        ANSWER_MS,
      );
      this.#confirmations.set(topic, { ...confirmation, tooLate });
      this.#measuring ??= { topic, sentMs: performance.now() };
      this.#send({ kind: "subscribe", topic });
    }
    return this.#confirmations.get(topic)!.promise;
  }

  #unsubscribe(topic: string, onMessage: TopicListener): void {
    if (!this.#listeners.remove(topic, onMessage)) return;
    clearTimeout(this.#confirmations.get(topic)?.tooLate);
    this.#confirmations.delete(topic);
    if (this.#failure === undefined) this.#send({ kind: "unsubscribe", topic });
  }

  #send(message: TopicMessage): void {
    if (this.#socket.send("binary", encodeTopicMessage(message))) return;
    this.#drop("it does not read");
  }

  /** Never rejects: `finished` does. */
  async #receiveAll(): Promise<void> {
    const turns = new TokenBucket(MESSAGE_RATE, performance.now());
    try {
      let message = await this.#receive();
      for (; message.kind !== "close"; message = await this.#receive()) {
        await waitForTokens(turns);
        if (message.kind === "binary") this.#accept(message.data);
        else if (message.kind === "text") this.#acceptText(message.text);
        else if (message.kind === "ping") this.#socket.send("pong", message.data);
      }
      this.#socket.close(CLOSE_CODES.normal, "");
      const { code, reason } = message;
      this.#fail(this.#lost(`the server closed it: ${code} ${reason}`.trimEnd(), {}));
    } catch (error) {
      if (error instanceof MalformedMessageError) this.#socket.close(CLOSE_CODES.malformed, "");
      else if (error instanceof RefusedError) this.#socket.close(error.code, "");
      else if (!(error instanceof NetworkError)) throw error;
      this.#fail(this.#lost(error.message, { cause: error }));
    }
    this.#stopTimers();
    await this.#socket.finish();
  }

  /** Every message shows that the server is alive; its pings come at regular intervals. */
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
    if (this.#failure !== undefined) return; // closed, which the server does not know yet
    if (message.kind === "publish") {
      return this.#listeners.deliver(message.topic, message.message);
    }
    const confirmation = this.#confirmations.get(message.topic);
    clearTimeout(confirmation?.tooLate);
    if (message.kind === "subscribe") confirmation?.resolve();
    else confirmation?.reject(refusal(this.url));
    if (this.#measuring?.topic === message.topic) {
      this.#rttMs = Math.min(this.#rttMs ?? Infinity, performance.now() - this.#measuring.sentMs);
      this.#measuring = undefined;
    }
  }

  #acceptText(text: string): void {
    const notice = decodeNumberNotice(text);
    if (notice.kind === "allocated") this.#allocations.shift()?.(notice.number);
  }

  #fail(failure: NetworkError): void {
    if (this.#failure !== undefined) return;
    this.#failure = failure;
    for (const { reject, tooLate } of this.#confirmations.values()) {
      clearTimeout(tooLate);
      reject(failure);
    }
    if (failure.reason === "closed") this.#end.resolve();
    else this.#end.reject(failure);
  }

  #drop(why: string, remedy?: string): void {
    this.#fail(this.#lost(why, { remedy }));
    this.#socket.abort();
  }

  #lost(
    why: string,
    options: { readonly cause?: unknown; readonly remedy?: string },
  ): NetworkError {
    return new NetworkError(`Cannot use ${withoutLogin(this.url)}: ${why}`, "reset", options);
  }
}

interface Confirmation extends PromiseWithResolvers<void> {
  readonly tooLate: ReturnType<typeof setTimeout>;
}

function refusal(url: string): RefusedError {
  const why = "the server accepts no more topics, or no more subscribers of this one";
  const message = `Cannot subscribe by ${withoutLogin(url)}: ${why}`;
  const remedy = "Try later, or another server; its owner can raise the limit";
  return new RefusedError(message, SERVICE_UNAVAILABLE, { remedy });
}

/** As in HTTP: the request is fine and may succeed later. */
const SERVICE_UNAVAILABLE = 503;

/** How long the server may take to confirm a subscription. Chosen by us: enough for several lost packets. */
const ANSWER_MS = 10_000;

/** The server has accepted the connection before. */
const STALL_REMEDY =
  "Run `punchline doctor`: something on the way may swallow long packets; or check that the port is that of the service you mean";

/** How long the answer to a check may take. Chosen by us: three round trips on most paths, with a lost packet. */
const CHECK_MS = 2000;

/** Chosen by us: more than two intervals of the server's pings. */
const MAX_SILENCE_MS = 60_000;

/** Chosen by us: sixteen of the longest messages that wait for the server; more are lost. */
const MAX_QUEUED_BYTES = 16 * (MAX_SIGNAL_BYTES + TOPIC_HEADER_BYTES + 14);
