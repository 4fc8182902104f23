/**
 * Tickets: one line of text that holds everything needed to reach a peer, and the keys that follow from its secret.
 *
 * ```text
 * punchline: | base64url of
 *   version (1) | public key (32) | secret (16) | count (1) | for each URL: length (1), UTF-8 | checksum (4)
 * ```
 *
 * In version 2, a URL may be a zero and its place (1) in a list of well-known ones, which makes the usual ticket half as
 * long. In a QR code a ticket is base32 in capitals, `PUNCHLINE:...`, for which QR codes have shorter symbols.
 *
 * Letters, digits, `-`, `_` and a colon: a ticket needs no quoting in any shell, and survives a chat and a QR code. The
 * checksum, the first bytes of a SHA-256, catches typing errors.
 *
 * @module
 */

import {
  ByteReader,
  concat,
  equalBytes,
  fromBase64url,
  toBase64url,
  toHex,
} from "../base/bytes.ts";
import { hash, hmac } from "../base/crypto.ts";
import { malformed } from "../base/errors.ts";
import { loginOf, shownUrl } from "../base/login.ts";

/** The contents of a ticket. */
export interface Ticket {
  /** The peer's X25519 public key, 32 bytes: no other peer can answer. */
  readonly publicKey: Uint8Array;
  /** 16 bytes known only to holders of the ticket: without them, no one can ask for a connection. */
  readonly secret: Uint8Array;
  /** The signaling servers on which the peer listens: URLs such as `ws://...`, `mqtts://...` or `lan:`; at most 8. */
  readonly signaling: readonly string[];
}

/**
 * Encodes a ticket as text.
 *
 * @example
 * ```ts
 * import { decodeTicket, encodeTicket } from "./ticket.ts";
 * import { assertEquals } from "@std/assert";
 *
 * const ticket = { publicKey: new Uint8Array(32), secret: new Uint8Array(16), signaling: ["lan:"] };
 * assertEquals(decodeTicket(encodeTicket(ticket)), ticket);
 * ```
 *
 * @throws {RangeError} if a key has the wrong length, or there are too many URLs, or one is too long or not printable ASCII
 */
export function encodeTicket({ publicKey, secret, signaling }: Ticket): string {
  if (publicKey.length !== PUBLIC_KEY_LENGTH || secret.length !== SECRET_LENGTH) {
    throw new RangeError(
      `Cannot write ticket: the public key has ${PUBLIC_KEY_LENGTH} bytes and the secret ${SECRET_LENGTH}`,
    );
  }
  if (signaling.length > MAX_URLS) {
    throw new RangeError(
      `Cannot write ticket: it holds at most ${MAX_URLS} URLs, not ${signaling.length}`,
    );
  }
  const urls = signaling.map((url) => {
    const place = WELL_KNOWN_URLS.indexOf(url);
    if (place >= 0) return Uint8Array.of(0, place);
    const text = new TextEncoder().encode(url);
    if (text.length > MAX_URL_LENGTH || !isPrintable(url)) {
      throw new RangeError(
        `Cannot write ticket: ${JSON.stringify(shownUrl(url))} is too long or not a URL`,
      );
    }
    return concat(Uint8Array.of(text.length), text);
  });
  const isShort = signaling.some((url) => WELL_KNOWN_URLS.includes(url));
  const header = Uint8Array.of(isShort ? SHORT_VERSION : VERSION);
  const content = concat(header, publicKey, secret, Uint8Array.of(urls.length), ...urls);
  return PREFIX + toBase64url(concat(content, checksum(content)));
}

/**
 * A ticket in the form that is shortest in a QR code; {@linkcode decodeTicket} reads it, too.
 *
 * @throws {MalformedMessageError} if the text is not a ticket
 */
export function ticketForQr(ticket: string): string {
  return PREFIX.toUpperCase() + toBase32(toBytes(ticket));
}

/**
 * Decodes a ticket. White space around and within it, as pasting adds, is ignored.
 *
 * @throws {MalformedMessageError} if the text is not a ticket, or damaged
 */
export function decodeTicket(text: string): Ticket {
  const bytes = toBytes(text);
  const content = bytes.subarray(0, Math.max(0, bytes.length - CHECKSUM_LENGTH));
  if (!equalBytes(bytes.subarray(content.length), checksum(content))) {
    throw malformed("ticket", "the checksum is wrong");
  }
  const reader = new ByteReader(content, "ticket");
  const version = reader.uint8("version");
  if (version !== VERSION && version !== SHORT_VERSION) {
    const known = `${VERSION} and ${SHORT_VERSION}`;
    throw malformed("ticket", `version ${version} is unknown; this program reads ${known}`);
  }
  const publicKey = reader.bytes(PUBLIC_KEY_LENGTH, "public key");
  const secret = reader.bytes(SECRET_LENGTH, "secret");
  const count = reader.uint8("count");
  if (count > MAX_URLS) {
    throw malformed("ticket", `${count} URLs exceed the limit of ${MAX_URLS}`);
  }
  const isShort = version === SHORT_VERSION;
  const signaling = Array.from({ length: count }, () => readUrl(reader, isShort));
  reader.end();
  return { publicKey, secret, signaling };
}

/**
 * Whether a text is meant as a code rather than as a ticket: a number, and a letter after it.
 *
 * @throws {TypeError} if it is not a string
 */
export function looksLikeCode(text: string): boolean {
  if (typeof text !== "string") {
    throw new TypeError(`Cannot read ticket: it is not a string (${typeof text})`);
  }
  return text.length <= MAX_CODE_LENGTH && /^\s*\d+[\s._-]+[a-z]/i.test(text);
}

/** The keys and topics that follow from a ticket's secret. */
export class TicketSecrets {
  /** The pre-shared key of the handshake; 32 bytes. */
  readonly presharedKey: Uint8Array;
  readonly #key: Uint8Array;

  constructor({ publicKey, secret }: Pick<Ticket, "publicKey" | "secret">) {
    this.#key = hmac("sha256", secret, utf8("punchline ticket "), publicKey);
    this.presharedKey = this.#derive("handshake");
  }

  /** The topic for requests to the ticket's owner, at a time in milliseconds since 1970. */
  topicAt(timeMs: number): string {
    return this.#topic(`ask ${Math.floor(timeMs / TOPIC_MS)}`);
  }

  /** The topics that the owner listens to: clocks may be wrong by as much as a topic lasts. */
  topicsAround(timeMs: number): string[] {
    return [-1, 0, 1].map((hours) => this.topicAt(timeMs + hours * TOPIC_MS));
  }

  /** The topic for answers; the initiator's ephemeral key makes it unique. */
  replyTopic(ephemeralKey: Uint8Array): string {
    return this.#topic("reply ", ephemeralKey);
  }

  /** Shows that the sender of a handshake message has the ticket; 16 bytes. */
  mac(kind: keyof typeof MAC_LABELS, ...message: readonly Uint8Array[]): Uint8Array {
    return hmac("sha256", this.#derive(MAC_LABELS[kind]), ...message).subarray(0, MAC_LENGTH);
  }

  #topic(purpose: string, context: Uint8Array = NO_BYTES): string {
    return toBase64url(this.#derive(`topic ${purpose}`, context).subarray(0, TOPIC_BYTES));
  }

  #derive(purpose: string, context: Uint8Array = NO_BYTES): Uint8Array {
    return hmac("sha256", this.#key, concat(utf8(purpose), context));
  }
}

/** The keys that encrypt one path. */
export interface PathKeys {
  /** For what this side sends. */
  readonly sendKey: Uint8Array<ArrayBuffer>;
  /** For what this side receives. */
  readonly receiveKey: Uint8Array<ArrayBuffer>;
  /** The same on both sides; not secret. */
  readonly handshakeHash: Uint8Array<ArrayBuffer>;
}

/**
 * Derives one side's keys for a path. The other side's are the same with sending and receiving swapped.
 *
 * @param connectionKey of the peers' handshake; no two handshakes have the same
 * @param channelBinding of the path; no two paths of one handshake have the same
 */
export function pathKeys(
  connectionKey: Uint8Array,
  channelBinding: Uint8Array,
  role: "controlling" | "controlled",
): PathKeys {
  const derive = (purpose: string) =>
    hmac("sha256", connectionKey, utf8(`path ${purpose} `), channelBinding);
  const otherRole = role === "controlling" ? "controlled" : "controlling";
  return {
    sendKey: derive(role),
    receiveKey: derive(otherRole),
    handshakeHash: derive("hash"),
  };
}

/** The keys for datagrams over a path, which share nothing with those for its stream. */
export function datagramKeys(
  connectionKey: Uint8Array,
  channelBinding: Uint8Array,
  role: "controlling" | "controlled",
): Pick<PathKeys, "sendKey" | "receiveKey"> {
  const { sendKey, receiveKey } = pathKeys(connectionKey, channelBinding, role);
  const derive = (key: Uint8Array) => hmac("sha256", key, utf8("datagrams"));
  return { sendKey: derive(sendKey), receiveKey: derive(receiveKey) };
}

/** Names a connection to both sides when it has to be resumed: 32 hexadecimal digits; secret. */
export function resumptionId(connectionKey: Uint8Array): string {
  return toHex(hmac("sha256", connectionKey, utf8("resumption")).subarray(0, 16));
}

/** Where, and with which key, the listening side asks the dialer of a connection to search again. */
export interface RecallSecrets {
  /** The topic of its messages. */
  readonly topic: string;
  /** Authenticates them. */
  readonly key: Uint8Array;
}

/** Derives them from what only the two sides know. */
export function recallSecrets(connectionKey: Uint8Array): RecallSecrets {
  const topic = hmac("sha256", connectionKey, utf8("recall topic")).subarray(0, TOPIC_BYTES);
  return { topic: toBase64url(topic), key: hmac("sha256", connectionKey, utf8("recall key")) };
}

/** Chosen by us: guesses cannot be tried offline, so 128 bits are enough. */
export const SECRET_LENGTH = 16;

/** Chosen by us: every guess at a MAC has to be sent to the peer. */
export const MAC_LENGTH = 16;

function toBytes(text: string): Uint8Array<ArrayBuffer> {
  const compact = text.length > MAX_TEXT_LENGTH ? "" : text.replaceAll(/\s+/g, "");
  if (!compact.toLowerCase().startsWith(PREFIX)) {
    throw malformed("ticket", `a ticket starts with ${PREFIX}`);
  }
  const digits = compact.slice(PREFIX.length);
  const isFromQr = compact.startsWith(PREFIX.toUpperCase()) && /^[A-Z2-7]+$/.test(digits);
  const bytes = isFromQr ? fromBase32(digits) : fromBase64url(digits);
  if (bytes === undefined) {
    const isCut = /^[\w-]*$/.test(digits);
    const rule = isCut ? "it is cut off" : `only letters, digits, - and _ may follow ${PREFIX}`;
    throw malformed("ticket", rule);
  }
  return bytes;
}

function readUrl(reader: ByteReader, isShort: boolean): string {
  const length = reader.uint8("length of a URL");
  if (isShort && length === 0) {
    const wellKnown = WELL_KNOWN_URLS[reader.uint8("place of a URL")];
    if (wellKnown !== undefined) return wellKnown;
    throw malformed("ticket", "it names a server that this version does not know");
  }
  const bytes = reader.bytes(length, "URL");
  try {
    const url = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    loginOf(url, "Cannot read ticket");
    if (isPrintable(url) && URL.canParse(url)) return url;
  } catch { /* not UTF-8, or control characters in the login */ }
  throw malformed("ticket", "a URL is invalid");
}

/** Base32 (RFC 4648 §6) without padding. */
function toBase32(bytes: Uint8Array): string {
  let [digits, bits, count] = ["", 0, 0];
  for (const byte of bytes) {
    bits = (bits << 8 | byte) & 0xfff;
    for (count += 8; count >= 5; count -= 5) digits += BASE32[bits >> count - 5 & 31];
  }
  return count === 0 ? digits : digits + BASE32[bits << 5 - count & 31];
}

/** `undefined` if it is not the canonical encoding. */
function fromBase32(digits: string): Uint8Array<ArrayBuffer> | undefined {
  const bytes = new Uint8Array(Math.floor(digits.length * 5 / 8));
  let [length, bits, count] = [0, 0, 0];
  for (const digit of digits) {
    bits = (bits << 5 | BASE32.indexOf(digit)) & 0xfff;
    count += 5;
    if (count < 8) continue;
    count -= 8;
    bytes[length++] = bits >> count & 0xff;
  }
  return toBase32(bytes) === digits ? bytes : undefined;
}

/**
 * A URL is printed and dialled: printable ASCII only, no control characters and no spaces. Parsers disagree about a
 * backslash: what one takes for a login, another takes for the host.
 */
function isPrintable(url: string): boolean {
  return /^[\x21-\x5b\x5d-\x7e]+$/.test(url);
}

function checksum(content: Uint8Array): Uint8Array {
  return hash("sha256", content).subarray(0, CHECKSUM_LENGTH);
}

function utf8(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(text);
}

const PREFIX = "punchline:";

const VERSION = 1;
const SHORT_VERSION = 2;

const BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/** Their places are part of the format: add to them at the end, remove none. */
const WELL_KNOWN_URLS: readonly string[] = [
  "lan:",
  "mqtts://broker.hivemq.com:8883",
  "mqtts://broker.emqx.io:8883",
  "mqtts://test.mosquitto.org:8886",
];

const PUBLIC_KEY_LENGTH = 32;

const CHECKSUM_LENGTH = 4;

/** Chosen by us: with more URLs a ticket no longer fits into a QR code. */
const MAX_URLS = 8;

const MAX_URL_LENGTH = 255;

/** The longest ticket, and room for the white space of a paste. */
const MAX_TEXT_LENGTH = 8192;

/** Longer than any code, with room for spaces. */
const MAX_CODE_LENGTH = 100;

const NO_BYTES = new Uint8Array(0);

/** Hashed into the key of each MAC, so these bytes are part of the protocol. */
const MAC_LABELS = { request: "knock", answer: "answer" } as const;

/** Chosen by us: some brokers bill and log topics, so they are short, yet long enough never to collide. */
const TOPIC_BYTES = 16;

/** How long a topic lasts. Chosen by us: clocks of computers on the internet are rarely wrong by more. */
const TOPIC_MS = 60 * 60 * 1000;
