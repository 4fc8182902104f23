/**
 * The opening handshake of a WebSocket: RFC 6455 §4, over HTTP/1.1 (RFC 9112).
 *
 * @module
 */

import { concat } from "../../base/bytes.ts";
import { hash } from "../../base/crypto.ts";
import { malformed, type MalformedMessageError, RefusedError } from "../../base/errors.ts";
import { withoutLogin } from "../../base/login.ts";

/** The start line and the fields of an HTTP message. */
export interface HttpHead {
  /** The request line or the status line. */
  readonly startLine: string;
  /** By name in lower case; repeated fields are joined with commas. */
  readonly fields: ReadonlyMap<string, string>;
}

/** A server's decision on a request. */
export type UpgradeRequest =
  | {
    readonly kind: "upgrade";
    readonly target: string;
    readonly key: string;
    /** What proxies say about the client, in `X-Forwarded-For`; anyone may have written it. */
    readonly forwardedFor: string | undefined;
  }
  /** A monitor asks whether the server is alive. */
  | { readonly kind: "health check" }
  | { readonly kind: "refused"; readonly status: RefusalStatus };

/** What a response means to a client. */
export type UpgradeResponse =
  | { readonly kind: "upgraded" }
  | { readonly kind: "refused"; readonly status: number; readonly reason: string };

/** The HTTP status of a request that is not upgraded. */
export type RefusalStatus = keyof typeof REASONS;

/**
 * Where the head ends: the index after the empty line, or `undefined` if that has not arrived yet.
 *
 * @param searched how many bytes were searched before. Without it, a head that arrives byte by byte would take quadratic time
 */
export function endOfHead(bytes: Uint8Array, searched: number = 0): number | undefined {
  for (let end = Math.max(4, searched + 1); end <= bytes.length; end++) {
    if (bytes[end - 1] === LF && bytes[end - 2] === CR && bytes[end - 3] === LF) return end;
  }
  return undefined;
}

/**
 * Reads a head, up to and including the empty line.
 *
 * @throws {MalformedMessageError} if a line is not a field
 */
export function decodeHead(bytes: Uint8Array): HttpHead {
  // Latin-1 accepts every byte; the fields that matter are ASCII.
  const [startLine, ...lines] = new TextDecoder("latin1").decode(bytes).trimEnd().split("\r\n");
  const fields = new Map<string, string>();
  for (const line of lines) {
    const [, name, rest] = /^([!#$%&'*+.^_`|~\w-]+):(.*)$/.exec(line) ?? [];
    if (name === undefined) {
      throw malformed("HTTP head", `${JSON.stringify(line)} is not a field`);
    }
    const key = name.toLowerCase();
    const value = rest!.trim(); // in the expression, runs of spaces would take quadratic time
    const before = fields.get(key);
    fields.set(key, before === undefined ? value : `${before}, ${value}`);
  }
  return { startLine: startLine!, fields };
}

/**
 * The bytes of a client's request.
 *
 * @param key 16 random bytes in Base64
 * @param subprotocol the name of the protocol on top, if it has one (RFC 6455 §1.9)
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
    "Sec-WebSocket-Protocol": subprotocol,
  });
}

/**
 * Decides on a request. Requests of web pages, which browsers mark with `Origin`, are refused: otherwise a page that a
 * user is lured to could talk to servers inside the user's network.
 */
export function judgeUpgradeRequest({ startLine, fields }: HttpHead): UpgradeRequest {
  const [, method, target] = /^(\S+) (\/\S*) HTTP\/1\.1$/.exec(startLine) ?? [];
  if (target === undefined) return { kind: "refused", status: 400 };
  if (method !== "GET") return { kind: "refused", status: 405 };
  // With an Upgrade, it would be a room of that name.
  if (target === HEALTH_PATH && !fields.has("upgrade")) return { kind: "health check" };
  if (!hasToken(fields.get("upgrade"), "websocket")) return { kind: "refused", status: 426 };
  if (fields.get("sec-websocket-version") !== VERSION) return { kind: "refused", status: 426 };
  if (fields.has("origin")) return { kind: "refused", status: 403 };
  const key = fields.get("sec-websocket-key");
  const isWhole = hasToken(fields.get("connection"), "upgrade") && fields.has("host");
  if (!isWhole || key === undefined || !/^[A-Za-z0-9+/]{22}==$/.test(key)) {
    return { kind: "refused", status: 400 };
  }
  return { kind: "upgrade", target, key, forwardedFor: fields.get("x-forwarded-for") };
}

/** The bytes of the response that upgrades. */
export function encodeUpgradeResponse(key: string): Uint8Array {
  return encodeHead("HTTP/1.1 101 Switching Protocols", {
    Connection: "Upgrade",
    Upgrade: "websocket",
    "Sec-WebSocket-Accept": acceptFor(key),
  });
}

/**
 * The bytes of the answer to a health check.
 *
 * @param wallMs what this host's clock shows, in milliseconds since 1970, by which clients check theirs
 */
export function encodeHealthy(wallMs: number): Uint8Array {
  const head = encodeHead("HTTP/1.1 200 OK", {
    Date: new Date(wallMs).toUTCString(), // RFC 9110 §6.6.1
    Connection: "close",
    "Content-Type": "text/plain",
    "Content-Length": "3",
    "Cache-Control": "no-store",
  });
  return concat(head, new TextEncoder().encode("ok\n"));
}

/** The bytes of a response that refuses, and announces the end of the connection. */
export function encodeRefusal(status: RefusalStatus): Uint8Array {
  const text = new TextEncoder().encode(`${REASONS[status]}\n`);
  const head = encodeHead(`HTTP/1.1 ${status} ${REASONS[status]}`, {
    Connection: "close",
    "Content-Type": "text/plain",
    "Content-Length": `${text.length}`,
    Upgrade: status === 426 ? "websocket" : undefined,
    "Sec-WebSocket-Version": status === 426 ? VERSION : undefined,
  });
  return concat(head, text);
}

/**
 * Decides what a response means.
 *
 * @throws {MalformedMessageError} if it is not HTTP, or does not answer this request
 */
export function judgeUpgradeResponse(
  { startLine, fields }: HttpHead,
  key: string,
  subprotocol?: string,
): UpgradeResponse {
  const [, status, reason] = /^HTTP\/1\.[01] (\d{3}) ?(.*)$/.exec(startLine) ?? [];
  if (status === undefined) throw invalid(`${JSON.stringify(startLine)} is not a status line`);
  if (status !== "101") return { kind: "refused", status: Number(status), reason: reason! };
  if (fields.get("sec-websocket-accept") !== acceptFor(key)) {
    throw invalid("Sec-WebSocket-Accept does not match the request");
  }
  const selected = fields.get("sec-websocket-protocol");
  const isUnrequested = selected !== undefined && selected !== subprotocol;
  if (fields.has("sec-websocket-extensions") || isUnrequested) {
    throw invalid("it has an extension or subprotocol that was not requested");
  }
  return { kind: "upgraded" };
}

/** The error of a client that was refused. */
export function upgradeRefusal(
  url: URL,
  { status, reason }: Extract<UpgradeResponse, { kind: "refused" }>,
): RefusedError {
  const [why, remedy] = status === 404 && reason === UNKNOWN_PATH
    ? ["the access key in the URL is wrong or missing (404)", CHECK_KEY]
    : [
      `the server answered ${status} ${reason}`,
      UPGRADE_REMEDIES[status] ?? (status >= 500 ? LATER : CHECK_URL),
    ];
  return new RefusedError(`Cannot open ${withoutLogin(url.href)}: ${why}`, status, { remedy });
}

/** Fields that are `undefined` are left out. */
function encodeHead(
  startLine: string,
  fields: Readonly<Record<string, string | undefined>>,
): Uint8Array {
  const lines = Object.entries(fields).filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name}: ${value}`);
  return new TextEncoder().encode([startLine, ...lines, "", ""].join("\r\n"));
}

function hasToken(list: string | undefined, token: string): boolean {
  return list?.toLowerCase().split(",").some((item) => item.trim() === token) ?? false;
}

function acceptFor(key: string): string {
  return btoa(String.fromCharCode(...hash("sha1", new TextEncoder().encode(key + KEY_SUFFIX))));
}

function invalid(problem: string): MalformedMessageError {
  return malformed("WebSocket handshake", problem);
}

/** What our server says about a path that it does not have. A client asks for one only if the access key is wrong. */
const UNKNOWN_PATH = "Not a room: 1 to 64 letters, digits and - . _ ~";

/** What to do about an answer that our servers do not give. */
export const CHECK_URL =
  "Check the URL: its path, its login, and that a rendezvous or a broker is there";

const CHECK_KEY = "Use the whole URL of the server, with its access key: wss://HOST/KEY";

const LATER = "Try later, or another server";

/** Those of our rendezvous server, and of proxies in front of it. */
const UPGRADE_REMEDIES: Readonly<Record<number, string>> = {
  401: "Check the login in the URL",
  403: "Check the login in the URL",
  409: "Choose another room, or end one of the two that are in it",
  429: LATER,
};

/** The reason phrases, which are also the bodies of refusals. */
const REASONS = {
  400: "Bad Request",
  403: "Not for web pages",
  404: UNKNOWN_PATH,
  405: "Method Not Allowed",
  408: "Request Timeout",
  409: "Two are in this room",
  421: "Use wss: this port speaks TLS",
  426: "This is a WebSocket",
  429: "Too Many Requests",
  431: "Request Header Fields Too Large",
  503: "No room is free",
} as const;

/** Where monitors look by convention. */
const HEALTH_PATH = "/healthz";

/** RFC 6455 §4.1. */
const VERSION = "13";

/** RFC 6455 §1.3. */
const KEY_SUFFIX = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

const [CR, LF] = [0x0d, 0x0a];
