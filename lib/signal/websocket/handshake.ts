/**
 * The opening handshake of WebSocket: RFC 6455 §4, over HTTP/1.1 (RFC 9112).
 *
 * @module
 */

import { concat } from "../../base/bytes.ts";
import { hash } from "../../base/crypto.ts";
import { MalformedMessageError } from "../../base/errors.ts";

/** The first part of an HTTP message. */
export interface HttpHead {
  /** The request line or the status line. */
  readonly startLine: string;
  /** By name in lower case; fields that came more than once are joined with commas. */
  readonly fields: ReadonlyMap<string, string>;
}

/** What a server makes of a request. */
export type UpgradeRequest =
  | { readonly kind: "upgrade"; readonly target: string; readonly key: string }
  | { readonly kind: "refused"; readonly status: RefusalStatus };

/** What a client makes of a response. */
export type UpgradeResponse =
  | { readonly kind: "upgraded" }
  | { readonly kind: "refused"; readonly status: number; readonly reason: string };

/** Why a request is not answered with an upgrade, as HTTP says it. */
export type RefusalStatus = keyof typeof REASONS;

/** Where the head ends in what has come so far: the first index after the empty line, or `undefined`. */
export function endOfHead(bytes: Uint8Array): number | undefined {
  for (let end = 4; end <= bytes.length; end++) {
    if (bytes[end - 1] === LF && bytes[end - 2] === CR && bytes[end - 3] === LF) return end;
  }
  return undefined;
}

/**
 * Reads a head, up to and with the empty line.
 *
 * @throws {MalformedMessageError} if a line is no field
 */
export function decodeHead(bytes: Uint8Array): HttpHead {
  // Latin-1 takes any byte; what counts here is ASCII.
  const [startLine, ...lines] = new TextDecoder("latin1").decode(bytes).trimEnd().split("\r\n");
  const fields = new Map<string, string>();
  for (const line of lines) {
    const [, name, rest] = /^([!#$%&'*+.^_`|~\w-]+):(.*)$/.exec(line) ?? [];
    if (name === undefined) {
      throw new MalformedMessageError(`Cannot read HTTP head: ${JSON.stringify(line)} is no field`);
    }
    const key = name.toLowerCase();
    const value = rest!.trim(); // not by the expression, which would look at each run of spaces again and again
    const before = fields.get(key);
    fields.set(key, before === undefined ? value : `${before}, ${value}`);
  }
  return { startLine: startLine!, fields };
}

/**
 * A client's request.
 *
 * @param key 16 random bytes in Base64
 * @param subprotocol what is to be spoken, if that has a name (RFC 6455 §1.9)
 */
export function encodeUpgradeRequest(
  host: string,
  target: string,
  key: string,
  subprotocol?: string,
): Uint8Array {
  return encodeHead(`GET ${target} HTTP/1.1`, {
    Host: host,
    Connection: "Upgrade",
    Upgrade: "websocket",
    "Sec-WebSocket-Version": VERSION,
    "Sec-WebSocket-Key": key,
    ...subprotocol !== undefined && { "Sec-WebSocket-Protocol": subprotocol },
  });
}

/**
 * Judges a request. Those of web pages, which browsers mark with `Origin`, are refused: a page that somebody is
 * lured to would otherwise speak from within his network.
 */
export function judgeUpgradeRequest({ startLine, fields }: HttpHead): UpgradeRequest {
  const [, method, target] = /^(\S+) (\/\S*) HTTP\/1\.1$/.exec(startLine) ?? [];
  if (target === undefined) return { kind: "refused", status: 400 };
  if (method !== "GET") return { kind: "refused", status: 405 };
  if (!hasToken(fields.get("upgrade"), "websocket")) return { kind: "refused", status: 426 };
  if (fields.get("sec-websocket-version") !== VERSION) return { kind: "refused", status: 426 };
  if (fields.has("origin")) return { kind: "refused", status: 403 };
  const key = fields.get("sec-websocket-key");
  const isWhole = hasToken(fields.get("connection"), "upgrade") && fields.has("host");
  if (!isWhole || key === undefined || !/^[A-Za-z0-9+/]{22}==$/.test(key)) {
    return { kind: "refused", status: 400 };
  }
  return { kind: "upgrade", target, key };
}

/** The answer that upgrades. */
export function encodeUpgradeResponse(key: string): Uint8Array {
  return encodeHead("HTTP/1.1 101 Switching Protocols", {
    Connection: "Upgrade",
    Upgrade: "websocket",
    "Sec-WebSocket-Accept": acceptFor(key),
  });
}

/** The answer that does not, and ends the connection. */
export function encodeRefusal(status: RefusalStatus): Uint8Array {
  const text = new TextEncoder().encode(`${REASONS[status]}\n`);
  const head = encodeHead(`HTTP/1.1 ${status} ${REASONS[status]}`, {
    Connection: "close",
    "Content-Type": "text/plain",
    "Content-Length": `${text.length}`,
    ...(status === 426 && { Upgrade: "websocket", "Sec-WebSocket-Version": VERSION }),
  });
  return concat(head, text);
}

/**
 * Judges a response.
 *
 * @throws {MalformedMessageError} if it is none, or not one to this request
 */
export function judgeUpgradeResponse(
  { startLine, fields }: HttpHead,
  key: string,
  subprotocol?: string,
): UpgradeResponse {
  const [, status, reason] = /^HTTP\/1\.[01] (\d{3}) ?(.*)$/.exec(startLine) ?? [];
  if (status === undefined) throw malformed(`${JSON.stringify(startLine)} is no status line`);
  if (status !== "101") return { kind: "refused", status: Number(status), reason: reason! };
  if (fields.get("sec-websocket-accept") !== acceptFor(key)) {
    throw malformed("Sec-WebSocket-Accept does not belong to the request");
  }
  const spoken = fields.get("sec-websocket-protocol");
  if (fields.has("sec-websocket-extensions") || spoken !== undefined && spoken !== subprotocol) {
    throw malformed("an extension or protocol that was not asked for");
  }
  return { kind: "upgraded" };
}

function encodeHead(startLine: string, fields: Readonly<Record<string, string>>): Uint8Array {
  const lines = Object.entries(fields).map(([name, value]) => `${name}: ${value}`);
  return new TextEncoder().encode([startLine, ...lines, "", ""].join("\r\n"));
}

function hasToken(list: string | undefined, token: string): boolean {
  return list?.toLowerCase().split(",").some((item) => item.trim() === token) ?? false;
}

function acceptFor(key: string): string {
  return btoa(String.fromCharCode(...hash("sha1", new TextEncoder().encode(key + KEY_SUFFIX))));
}

function malformed(rule: string): MalformedMessageError {
  return new MalformedMessageError(`Cannot read WebSocket handshake: ${rule}`);
}

const REASONS = {
  400: "Bad Request",
  403: "Not for web pages",
  404: "Not a room: 1 to 64 letters, digits and - . _ ~",
  405: "Method Not Allowed",
  408: "Request Timeout",
  409: "Two are in this room",
  426: "This is a WebSocket",
  429: "Too Many Requests",
  431: "Request Header Fields Too Large",
  503: "No room is free",
} as const;

/** RFC 6455 §4.1. */
const VERSION = "13";

/** RFC 6455 §1.3. */
const KEY_SUFFIX = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

const [CR, LF] = [0x0d, 0x0a];
