/**
 * Manual signaling: messages are text that people copy and paste, through a chat, a file or a QR code.
 *
 * ```text
 * punchline-hand: base64url of  version (1) | start of the topic (3) | length (2) | message | checksum (4)
 * ```
 *
 * The start of the topic is enough: whoever pastes a message listens to a few topics, and what the message holds is
 * authenticated. Earlier versions wrote `punchline-message:` and ten times as much.
 *
 * @module
 */

import { ByteReader, concat, equalBytes, fromBase64url, toBase64url } from "../base/bytes.ts";
import { hash } from "../base/crypto.ts";
import { malformed, MalformedMessageError, NetworkError } from "../base/errors.ts";
import { optionalResolvers } from "../base/tasks.ts";
import { ResettableTimer } from "../base/timers.ts";
import { MAX_SIGNAL_BYTES } from "./channel.ts";
import {
  requirePublishable,
  requireSubscribable,
  type SignalingConnection,
  type SignalTransport,
  type TopicListener,
  TopicListeners,
  topicToBytes,
} from "./transport.ts";

/** Where messages are shown and pasted. */
export interface ManualTransportOptions {
  /** Shows a line that the user passes on to the other side. */
  readonly write: (line: string) => void;
  /** The lines that the user pastes; a message may span several. */
  readonly lines: AsyncIterable<string>;
  /** Called for pasted lines that are not a message, or a damaged one, or lead nowhere. */
  readonly onGarbage?: (error: MalformedMessageError) => void;
  /** Called once the lines have ended, with the number of messages among them that led somewhere. */
  readonly onEnd?: (received: number) => void;
}

/**
 * Signals with nothing but people. A message is shown once, however often it is published.
 *
 * To connect, each side shows one message. The user has ten minutes for both, four of them for the answer. Nothing that
 * takes more messages works this way: no relay, no second attempt, no other path later.
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
 * const received = Promise.withResolvers<Uint8Array>();
 * await b.subscribe(topic, received.resolve);
 * assertEquals(new TextDecoder().decode(await received.promise), "hello");
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
  readonly #end = optionalResolvers<void>();
  /** Messages that were pasted before their topic had a listener. */
  readonly #undelivered: ReceivedMessage[] = [];
  /** The beginning of a message that continues in the next line. */
  #incomplete = "";
  /** Fires when the rest of a message does not follow. */
  readonly #restTimer = new ResettableTimer(() => this.#report(REST_IS_MISSING));
  /** Whether the lines belong to a message of an earlier version, which was reported. */
  #isOutdated = false;
  #failure: NetworkError | undefined;
  /** Messages that led somewhere, or may yet. */
  #received = 0;

  constructor(options: ManualTransportOptions) {
    this.#options = options;
    this.finished = this.#end.promise;
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
    requireSubscribable(topic, signal);
    if (this.#failure !== undefined) throw this.#failure;
    const subscription = this.#listeners.subscribe(topic, onMessage);
    for (const each of this.#undelivered.splice(0)) this.#deliver(each);
    return subscription;
  }

  /** Reads at most one more line, and drops it. */
  // deno-lint-ignore require-await -- as above
  async [Symbol.asyncDispose](): Promise<void> {
    this.#failure ??= new NetworkError(`Cannot use ${MANUAL_URL}: it is closed`, "closed");
    this.#restTimer.clear();
    this.#end.resolve();
  }

  /** The end of the lines is not a failure: there may still be messages to show. */
  async #readAll(): Promise<void> {
    try {
      for await (const line of this.#options.lines) {
        if (this.#failure !== undefined) return;
        this.#accept(line);
      }
      this.#dropIncomplete();
      this.#options.onEnd?.(this.#received);
    } catch (cause) {
      const message = `Cannot use ${MANUAL_URL}: reading the pasted lines failed`;
      const remedy = "Start again, and paste the text as it is";
      this.#failure ??= new NetworkError(message, "other", { cause, remedy });
      this.#end.reject(this.#failure);
    }
  }

  #accept(line: string): void {
    if (line.trim() === "") return;
    if (this.#isOutdated && CONTINUATION.test(line)) return;
    this.#isOutdated = isOutdated(line);
    if (startsManualMessage(line) || this.#isOutdated) this.#dropIncomplete();
    const text = this.#incomplete + line;
    this.#incomplete = "";
    this.#restTimer.clear();
    try {
      const decoded = decodeManualMessage(text);
      if (decoded.kind === "incomplete") {
        this.#incomplete = text;
        this.#restTimer.set(REST_MS);
      } else if (this.#shown.has(text.replaceAll(ADDED_BY_PASTING, ""))) {
        this.#report("it is the one that is shown here; the other side shows another one");
      } else {
        this.#received++;
        this.#deliver(decoded);
      }
    } catch (error) {
      if (!(error instanceof MalformedMessageError)) throw error;
      this.#options.onGarbage?.(error);
    }
  }

  #dropIncomplete(): void {
    if (this.#incomplete === "") return;
    this.#incomplete = "";
    this.#restTimer.clear();
    this.#report("it is cut off, its end is missing");
  }

  #report(why: string): void {
    this.#options.onGarbage?.(malformed("message", why));
  }

  #deliver(received: ReceivedMessage): void {
    const topics = this.#listeners.topics.filter((topic) => topic.startsWith(received.topicStart));
    for (const topic of topics) this.#listeners.deliver(topic, received.message);
    if (topics.length > 0) return;
    // It is kept in case that its topic gets a listener.
    if (this.#listeners.topics.length > 0) {
      this.#received--;
      this.#report("it belongs to another ticket or attempt");
    }
    this.#undelivered.push(received);
    if (this.#undelivered.length > MAX_KEPT) this.#undelivered.shift();
  }
}

/** A message, and the topic that it is published under. */
export interface ManualMessage {
  /** 22 characters of base64url. */
  readonly topic: string;
  readonly message: Uint8Array;
}

/** A message, and how the topic begins that it was published under. */
export interface ReceivedMessage {
  /** The first 4 of its 22 characters. */
  readonly topicStart: string;
  readonly message: Uint8Array;
}

/** What a text holds: a message, or the beginning of one that continues in the next lines. */
export type DecodedManualMessage =
  | ReceivedMessage & { readonly kind: "message" }
  | { readonly kind: "incomplete" };

/**
 * The text of a message, which is one line.
 *
 * @throws {TypeError} if the topic is not one
 * @throws {RangeError} if the message is too long
 */
export function encodeManualMessage({ topic, message }: ManualMessage): string {
  const bytes = topicToBytes(topic);
  const { length } = message;
  if (length > MAX_SIGNAL_BYTES) {
    throw new RangeError(
      `Cannot write message: it has at most ${MAX_SIGNAL_BYTES} bytes, not ${length}`,
    );
  }
  const start = bytes.subarray(0, TOPIC_START_BYTES);
  const content = concat(
    Uint8Array.of(VERSION),
    start,
    Uint8Array.of(length >> 8, length & 0xff),
    message,
  );
  return PREFIX + toBase64url(concat(content, checksum(content)));
}

/** Whether a text begins like a message. */
function startsManualMessage(text: string): boolean {
  return text.trimStart().slice(0, PREFIX.length).toLowerCase() === PREFIX;
}

/** Whether a text is a message of an earlier version, or begins like one. */
function isOutdated(text: string): boolean {
  return text.trimStart().toLowerCase().startsWith(OUTDATED_PREFIX);
}

/**
 * Reads the text of a message, and ignores the white space that pasting has added.
 *
 * @throws {MalformedMessageError} if it is not a message, or a damaged one
 */
export function decodeManualMessage(text: string): DecodedManualMessage {
  if (text.length > MAX_TEXT_LENGTH) {
    throw malformed("message", `it has at most ${MAX_TEXT_LENGTH} characters, not ${text.length}`);
  }
  if (isOutdated(text)) {
    throw malformed("message", OUTDATED);
  }
  if (!startsManualMessage(text)) throw malformed("message", `a message starts with ${PREFIX}`);
  const digits = text.replaceAll(ADDED_BY_PASTING, "").slice(PREFIX.length);
  if (/[^A-Za-z0-9_-]/.test(digits)) {
    throw malformed("message", "it is damaged, or something else follows it");
  }
  if (digits.length < HEADER_DIGITS) return { kind: "incomplete" };
  const header = fromBase64url(digits.slice(0, HEADER_DIGITS))!;
  const [version] = header;
  if (version! < VERSION) throw malformed("message", OUTDATED);
  if (version !== VERSION) {
    throw malformed("message", `version ${version} is unknown; this program reads ${VERSION}`);
  }
  const length = header[HEADER_BYTES - 2]! << 8 | header[HEADER_BYTES - 1]!;
  if (length > MAX_SIGNAL_BYTES) {
    throw malformed("message", "it is damaged, its length is out of range");
  }
  const wholeDigits = Math.ceil((header.length + length + CHECKSUM_BYTES) * 8 / 6);
  if (digits.length < wholeDigits) return { kind: "incomplete" };
  const bytes = fromBase64url(digits) ?? new Uint8Array(0);
  const content = bytes.subarray(0, Math.max(0, bytes.length - CHECKSUM_BYTES));
  if (!equalBytes(bytes.subarray(content.length), checksum(content))) {
    throw malformed("message", "it is damaged, its checksum is wrong");
  }
  const reader = new ByteReader(content, "message");
  reader.uint8("version");
  const topicStart = toBase64url(reader.bytes(TOPIC_START_BYTES, "topic"));
  const message = reader.bytes(reader.uint16("length"), "message");
  reader.end();
  return { kind: "message", topicStart, message };
}

function checksum(content: Uint8Array): Uint8Array {
  return hash("sha256", content).subarray(0, CHECKSUM_BYTES);
}

/** How tickets name manual signaling; part of the format of tickets. */
export const MANUAL_URL = "hand:";

/** Part of the format of messages. */
const PREFIX = "punchline-hand:";
const OUTDATED_PREFIX = "punchline-message:";
const OUTDATED = "it was made by an older version; update the other side";
const REST_IS_MISSING = "its end is missing: paste the rest, or all of it again";
const VERSION = 3;
const TOPIC_START_BYTES = 3;
const CHECKSUM_BYTES = 4;

/** The version, the start of the topic and the length, which fill their digits exactly. */
const HEADER_BYTES = 1 + TOPIC_START_BYTES + 2;
const HEADER_DIGITS = HEADER_BYTES * 8 / 6;

/** A line that may be the rest of a message. */
const CONTINUATION = /^[\s\u200b]*[\w-]+[\s\u200b]*$/;

/** White space, and the invisible characters with which chats break long words. */
const ADDED_BY_PASTING = /[\s\u00ad\u200b-\u200d\u2060]+/g;

/** The longest message, with room for white space that pasting adds. */
const MAX_TEXT_LENGTH = 16_384;

/** How long the rest of a message may take before a person is told. Chosen by us: a paste is over sooner. */
const REST_MS = 2000;

/** Chosen by us: more messages than anyone has on a screen. */
const MAX_KEPT = 64;
