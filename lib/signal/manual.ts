/**
 * Signalling by hand: what a peer says is text that people pass on, in a chat, a file or a QR code.
 *
 * @module
 */

import { ByteReader, concat, equalBytes, fromBase64url, toBase64url } from "../base/bytes.ts";
import { hash } from "../base/crypto.ts";
import { MalformedMessageError, NetworkError } from "../base/errors.ts";
import { MAX_SIGNAL_BYTES } from "./channel.ts";
import { requirePublishable, type TopicListener, TopicListeners, topicToBytes } from "./topic.ts";
import type { SignalingConnection, SignalTransport } from "./transport.ts";

/** What somebody says, and under which topic. */
export interface ManualMessage {
  /** 22 characters of base64url. */
  readonly topic: string;
  readonly message: Uint8Array;
}

/** What a text is; of an incomplete one there is more in the lines after it. */
export type DecodedManualMessage =
  | ManualMessage & { readonly kind: "message" }
  | { readonly kind: "incomplete" };

/**
 * One line of text.
 *
 * @throws {TypeError} if the topic is none
 * @throws {RangeError} if the message is too long
 */
export function encodeManualMessage({ topic, message }: ManualMessage): string {
  const bytes = fromBase64url(topic);
  if (bytes?.length !== TOPIC_BYTES) {
    throw new TypeError(`Cannot use topic ${JSON.stringify(topic)}: it is none`);
  }
  const { length } = message;
  if (length > MAX_SIGNAL_BYTES) {
    throw new RangeError(`Cannot write message: it has ${length} bytes, more than a text may`);
  }
  const content = concat(bytes, Uint8Array.of(length >> 8, length & 0xff), message);
  return PREFIX + toBase64url(concat(content, checksum(content)));
}

/** Whether a text is one of these, or its beginning. */
export function startsManualMessage(text: string): boolean {
  return text.trimStart().slice(0, PREFIX.length).toLowerCase() === PREFIX;
}

/**
 * Reads the text, with whatever white space pasting has added.
 *
 * @throws {MalformedMessageError} if it is none, or damaged
 */
export function decodeManualMessage(text: string): DecodedManualMessage {
  if (text.length > MAX_TEXT_LENGTH) throw malformed(`it has ${text.length} characters`);
  if (!startsManualMessage(text)) throw malformed(`a message starts with ${PREFIX}`);
  const digits = text.replaceAll(ADDED_BY_PASTING, "").slice(PREFIX.length);
  if (/[^A-Za-z0-9_-]/.test(digits)) throw malformed("it is damaged, or something else follows");
  if (digits.length < HEADER_DIGITS) return { kind: "incomplete" };
  const header = fromBase64url(digits.slice(0, HEADER_DIGITS))!;
  const length = header[TOPIC_BYTES]! << 8 | header[TOPIC_BYTES + 1]!;
  if (length > MAX_SIGNAL_BYTES) throw malformed("it is damaged, no message is as long");
  const wholeDigits = Math.ceil((header.length + length + CHECKSUM_BYTES) * 8 / 6);
  if (digits.length < wholeDigits) return { kind: "incomplete" };
  const bytes = fromBase64url(digits) ?? new Uint8Array(0);
  const content = bytes.subarray(0, Math.max(0, bytes.length - CHECKSUM_BYTES));
  if (!equalBytes(bytes.subarray(content.length), checksum(content))) {
    throw malformed("it is damaged, its checksum is wrong");
  }
  const reader = new ByteReader(content, "message");
  const topic = toBase64url(reader.bytes(TOPIC_BYTES, "topic"));
  const message = reader.bytes(reader.uint16("length"), "message");
  reader.end();
  return { kind: "message", topic, message };
}

function checksum(content: Uint8Array): Uint8Array {
  return hash("sha256", content).subarray(0, CHECKSUM_BYTES);
}

function malformed(why: string): MalformedMessageError {
  return new MalformedMessageError(`Cannot read message: ${why}`);
}

/** How such a text starts. */
const PREFIX = "punchline-message:";
const TOPIC_BYTES = 16;
const CHECKSUM_BYTES = 4;

/** Of topic and length, which fill them. */
const HEADER_DIGITS = (TOPIC_BYTES + 2) * 8 / 6;

/** White space, and what chats put in to break long words. */
const ADDED_BY_PASTING = /[\s\u00ad\u200b-\u200d\u2060]+/g;

/** The longest message, and room for the white space of a paste. */
const MAX_TEXT_LENGTH = 16_384;

/** The hands. */
export interface ManualTransportOptions {
  /** Shows a line that is for the other side. */
  readonly write: (line: string) => void;
  /** What comes from the other side, by the line; a message may go on over several. */
  readonly lines: AsyncIterable<string>;
  /** Hears of lines that are no messages, or damaged ones. */
  readonly onGarbage?: (error: MalformedMessageError) => void;
}

/**
 * A way to signal that needs nothing but people. A line is shown once, however often it is said.
 *
 * A peer says one thing to connect, and is told one in answer; there are ten minutes for both, four of them for the
 * answer. There is nothing to be said for anything beyond that: no relay, no second attempt, no other path later.
 *
 * @example
 * ```ts
 * import { manualTransport } from "./manual.ts";
 * import { systemNetwork as network } from "../net/system.ts";
 * import { assertEquals } from "@std/assert";
 *
 * const shown: string[] = [];
 * const sender = manualTransport({ write: (line) => shown.push(line), lines: nothing() });
 * await using a = await sender.open({ network });
 * const topic = "AAAAAAAAAAAAAAAAAAAAAA";
 * await a.publish(topic, new TextEncoder().encode("hello"));
 *
 * async function* nothing() {}
 * async function* pasted() {
 *   yield `  ${shown[0]}\n`;
 * }
 * await using b = await manualTransport({ write() {}, lines: pasted() }).open({ network });
 * const heard = Promise.withResolvers<Uint8Array>();
 * await b.subscribe(topic, heard.resolve);
 * assertEquals(new TextDecoder().decode(await heard.promise), "hello");
 * ```
 */
export function manualTransport(options: ManualTransportOptions): SignalTransport {
  return { url: MANUAL_URL, open: () => Promise.resolve(new ManualSignaling(options)) };
}

class ManualSignaling implements SignalingConnection {
  readonly url = MANUAL_URL;
  readonly isManual = true;
  readonly finished: Promise<void>;
  readonly #options: ManualTransportOptions;
  readonly #listeners = new TopicListeners();
  readonly #shown = new Set<string>();
  readonly #end = Promise.withResolvers<void>();
  /** What came before anybody listened to its topic. */
  readonly #unheard: ManualMessage[] = [];
  /** A message that goes on in the next line. */
  #begun = "";
  #failure: NetworkError | undefined;

  constructor(options: ManualTransportOptions) {
    this.#options = options;
    this.finished = this.#end.promise;
    this.finished.catch(() => {}); // whoever waits for it is told; nobody may
    this.#readAll();
  }

  // deno-lint-ignore require-await -- a promise that rejects, where the plain call throws
  async publish(topic: string, message: Uint8Array): Promise<void> {
    requirePublishable(topic, message);
    if (this.#failure !== undefined) throw this.#failure;
    const line = encodeManualMessage({ topic, message });
    if (this.#shown.has(line)) return;
    this.#shown.add(line);
    const [oldest] = this.#shown;
    if (this.#shown.size > MAX_KEPT) this.#shown.delete(oldest!);
    this.#options.write(line);
  }

  // deno-lint-ignore require-await -- as above
  async subscribe(
    topic: string,
    onMessage: TopicListener,
    { signal }: { signal?: AbortSignal } = {},
  ): Promise<AsyncDisposable> {
    topicToBytes(topic);
    signal?.throwIfAborted();
    if (this.#failure !== undefined) throw this.#failure;
    this.#listeners.add(topic, onMessage);
    for (const each of this.#unheard.splice(0)) this.#deliver(each);
    return {
      [Symbol.asyncDispose]: async () => void await this.#listeners.remove(topic, onMessage),
    };
  }

  /** The next line is nobody's, and those after it are not read. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#failure ??= new NetworkError(`Cannot use ${MANUAL_URL}: it is closed`, "closed");
    this.#end.resolve();
    await this.finished.catch(() => {});
  }

  /** That nothing more comes is no failure: there may be something to show. */
  async #readAll(): Promise<void> {
    try {
      for await (const line of this.#options.lines) {
        if (this.#failure !== undefined) return;
        this.#take(line);
      }
      this.#cutOff();
    } catch (cause) {
      const message = "Cannot signal by hand: the lines have ended with an error";
      this.#failure ??= new NetworkError(message, "other", { cause });
      this.#end.reject(this.#failure);
    }
  }

  #take(line: string): void {
    if (line.trim() === "") return;
    if (startsManualMessage(line)) this.#cutOff();
    const text = this.#begun + line;
    this.#begun = "";
    try {
      const decoded = decodeManualMessage(text);
      if (decoded.kind === "incomplete") this.#begun = text;
      else this.#deliver(decoded);
    } catch (error) {
      if (!(error instanceof MalformedMessageError)) throw error;
      this.#options.onGarbage?.(error);
    }
  }

  /** What has begun does not go on. */
  #cutOff(): void {
    if (this.#begun === "") return;
    this.#begun = "";
    const why = "Cannot read message: it is cut off, its end is missing";
    this.#options.onGarbage?.(new MalformedMessageError(why));
  }

  #deliver(said: ManualMessage): void {
    if (this.#listeners.has(said.topic)) {
      return this.#listeners.deliver(said.topic, said.message);
    }
    this.#unheard.push(said);
    if (this.#unheard.length > MAX_KEPT) this.#unheard.shift();
  }
}

/** How tickets name it. */
export const MANUAL_URL = "hand:";

/** Ours: more than anybody has on a screen. */
const MAX_KEPT = 64;
