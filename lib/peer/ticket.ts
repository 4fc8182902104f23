/**
 * Tickets: one line of text with all that somebody needs to reach a peer.
 *
 * ```text
 * punchline: | base64url of
 *   version (1) | public key (32) | secret (16) | count (1) | for each URL: length (1), UTF-8 | checksum (4)
 * ```
 *
 * Letters, digits, `-`, `_` and a colon: a ticket needs no quoting in any shell, and survives a chat and a QR code. The
 * checksum, the start of a SHA-256, is there to find typing errors.
 *
 * @module
 */

import { ByteReader, concat, equalBytes, fromBase64url, toBase64url } from "../base/bytes.ts";
import { hash } from "../base/crypto.ts";
import { MalformedMessageError } from "../base/errors.ts";

/** What a ticket says. */
export interface Ticket {
  /** The X25519 key of the peer, 32 bytes: nobody else can answer. */
  readonly publicKey: Uint8Array;
  /** 16 bytes that only those know who have the ticket: nobody else can ask. */
  readonly secret: Uint8Array;
  /** Where the peer listens for those who want to reach it: URLs as of `ws://`, `mqtts://`, `lan:`. */
  readonly signaling: readonly string[];
}

/**
 * The text of a ticket.
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
 * @throws {RangeError} if a key has another length, or there are too many or too long URLs
 */
export function encodeTicket({ publicKey, secret, signaling }: Ticket): string {
  if (publicKey.length !== PUBLIC_KEY_LENGTH || secret.length !== SECRET_LENGTH) {
    throw new RangeError(
      `Cannot write ticket: its keys have ${PUBLIC_KEY_LENGTH} and ${SECRET_LENGTH} bytes`,
    );
  }
  if (signaling.length > MAX_URLS) {
    throw new RangeError(
      `Cannot write ticket: it has room for ${MAX_URLS} URLs, not ${signaling.length}`,
    );
  }
  const urls = signaling.map((url) => {
    const text = new TextEncoder().encode(url);
    if (text.length > MAX_URL_LENGTH || !isPlain(url)) {
      throw new RangeError(`Cannot write ticket: ${JSON.stringify(url)} is too long, or no URL`);
    }
    return concat(Uint8Array.of(text.length), text);
  });
  const content = concat(
    Uint8Array.of(VERSION),
    publicKey,
    secret,
    Uint8Array.of(urls.length),
    ...urls,
  );
  return PREFIX + toBase64url(concat(content, checksum(content)));
}

/**
 * Reads a ticket. White space around and within it, as pasting adds, does not matter.
 *
 * @throws {MalformedMessageError} if it is none, or damaged
 */
export function decodeTicket(text: string): Ticket {
  const bytes = toBytes(text);
  const content = bytes.subarray(0, Math.max(0, bytes.length - CHECKSUM_LENGTH));
  if (!equalBytes(bytes.subarray(content.length), checksum(content))) {
    throw new MalformedMessageError("Cannot read ticket: it is damaged, its checksum is wrong");
  }
  const reader = new ByteReader(content, "ticket");
  const version = reader.uint8("version");
  if (version !== VERSION) {
    throw new MalformedMessageError(
      `Cannot read ticket: its version is ${version}, this program knows ${VERSION}`,
    );
  }
  const publicKey = reader.bytes(PUBLIC_KEY_LENGTH, "public key");
  const secret = reader.bytes(SECRET_LENGTH, "secret");
  const count = reader.uint8("count");
  if (count > MAX_URLS) {
    throw new MalformedMessageError(
      `Cannot read ticket: count is ${count}, at most ${MAX_URLS} are possible`,
    );
  }
  const signaling = Array.from({ length: count }, () => readUrl(reader));
  reader.end();
  return { publicKey, secret, signaling };
}

function toBytes(text: string): Uint8Array<ArrayBuffer> {
  const plain = text.length > MAX_TEXT_LENGTH ? "" : text.replaceAll(/\s+/g, "");
  if (!plain.toLowerCase().startsWith(PREFIX)) {
    throw new MalformedMessageError(`Cannot read ticket: a ticket starts with ${PREFIX}`);
  }
  const bytes = fromBase64url(plain.slice(PREFIX.length));
  if (bytes === undefined) {
    throw new MalformedMessageError(
      `Cannot read ticket: behind ${PREFIX} there is something other than base64url`,
    );
  }
  return bytes;
}

function readUrl(reader: ByteReader): string {
  const bytes = reader.bytes(reader.uint8("length of a URL"), "URL");
  try {
    const url = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    if (isPlain(url) && URL.canParse(url)) return url;
  } catch { /* not UTF-8 */ }
  throw new MalformedMessageError("Cannot read ticket: what should be a URL is none");
}

/** A URL is printed, and dialled: no control characters, no spaces, nothing but ASCII. */
function isPlain(url: string): boolean {
  return /^[\x21-\x7e]+$/.test(url);
}

function checksum(content: Uint8Array): Uint8Array {
  return hash("sha256", content).subarray(0, CHECKSUM_LENGTH);
}

const PREFIX = "punchline:";
const VERSION = 1;
const PUBLIC_KEY_LENGTH = 32;
const CHECKSUM_LENGTH = 4;

/** Ours: 128 bits are enough for what nobody can try out offline. */
export const SECRET_LENGTH = 16;

/** Ours: more than a few ways to signal make a ticket too long for a QR code. */
const MAX_URLS = 8;
const MAX_URL_LENGTH = 255;

/** The longest ticket, and room for the white space of a paste. */
const MAX_TEXT_LENGTH = 8192;
