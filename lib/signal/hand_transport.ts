/**
 * Signalling by hand: what a peer says is text that people pass on, in a chat, a file or a QR code.
 *
 * @module
 */

import { MalformedMessageError, NetworkError } from "../errors.ts";
import type { SignalBus, SignalTransport } from "./bus.ts";
import { decodeHandMessage, encodeHandMessage } from "./hand_message.ts";
import {
  requirePublishable,
  requireTopic,
  type TopicListener,
  TopicSubscribers,
} from "./topic_subscribers.ts";

/** The hands. */
export interface HandTransportOptions {
  /** Shows a line that is for the other side. */
  readonly write: (line: string) => void;
  /** What comes from the other side, a line each. */
  readonly lines: AsyncIterable<string>;
  /** Hears of lines that are no messages, or damaged ones. */
  readonly onGarbage?: (error: MalformedMessageError) => void;
}

/**
 * A way to signal that needs nothing but people. A line is shown once, however often it is said.
 *
 * Both sides have a minute or two: what they say of their addresses does not stay true for much longer.
 *
 * @example
 * ```ts
 * import { handTransport } from "./hand_transport.ts";
 * import { systemNetwork as network } from "../net/system.ts";
 * import { assertEquals } from "@std/assert";
 *
 * const shown: string[] = [];
 * const sender = handTransport({ write: (line) => shown.push(line), lines: nothing() });
 * await using a = await sender.open({ network });
 * const topic = "AAAAAAAAAAAAAAAAAAAAAA";
 * await a.publish(topic, new TextEncoder().encode("hello"));
 *
 * async function* nothing() {}
 * async function* pasted() {
 *   yield `  ${shown[0]}\n`;
 * }
 * await using b = await handTransport({ write() {}, lines: pasted() }).open({ network });
 * const heard = Promise.withResolvers<Uint8Array>();
 * await b.subscribe(topic, heard.resolve);
 * assertEquals(new TextDecoder().decode(await heard.promise), "hello");
 * ```
 */
export function handTransport(options: HandTransportOptions): SignalTransport {
  return { url: HAND_URL, open: () => Promise.resolve(new HandBus(options)) };
}

class HandBus implements SignalBus {
  readonly url = HAND_URL;
  readonly finished: Promise<void>;
  readonly #options: HandTransportOptions;
  readonly #subscribers = new TopicSubscribers();
  readonly #shown = new Set<string>();
  readonly #end = Promise.withResolvers<void>();
  /** Lines that came before anybody listened. */
  #early: string[] | undefined = [];

  constructor(options: HandTransportOptions) {
    this.#options = options;
    this.finished = this.#end.promise;
    this.#readAll();
  }

  // deno-lint-ignore require-await -- a promise that rejects, where the plain call throws
  async publish(topic: string, message: Uint8Array): Promise<void> {
    requirePublishable(topic, message);
    const line = encodeHandMessage({ topic, message });
    if (this.#shown.has(line) || this.#shown.size >= MAX_SHOWN) return;
    this.#shown.add(line);
    this.#options.write(line);
  }

  // deno-lint-ignore require-await -- as above
  async subscribe(
    topic: string,
    onMessage: TopicListener,
    { signal }: { signal?: AbortSignal } = {},
  ): Promise<AsyncDisposable> {
    requireTopic(topic);
    signal?.throwIfAborted();
    this.#subscribers.add(topic, onMessage);
    const early = this.#early ?? [];
    this.#early = undefined;
    for (const line of early) this.#take(line);
    return {
      [Symbol.asyncDispose]: async () => void await this.#subscribers.remove(topic, onMessage),
    };
  }

  /** Lines that come later are nobody's. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#end.resolve();
    await this.finished;
  }

  async #readAll(): Promise<void> {
    try {
      for await (const line of this.#options.lines) {
        if (this.#early === undefined) this.#take(line);
        else if (this.#early.length < MAX_SHOWN) this.#early.push(line);
      }
    } catch (cause) {
      const message = "Cannot signal by hand: the lines have ended with an error";
      this.#end.promise.catch(() => {});
      this.#end.reject(new NetworkError(message, "other", { cause }));
    }
  }

  #take(line: string): void {
    try {
      const { topic, message } = decodeHandMessage(line);
      this.#subscribers.deliver(topic, message);
    } catch (error) {
      if (!(error instanceof MalformedMessageError)) throw error;
      if (line.trim() !== "") this.#options.onGarbage?.(error);
    }
  }
}

/** How tickets name it. */
export const HAND_URL = "hand:";

/** Ours: more than anybody would pass on. */
const MAX_SHOWN = 64;
