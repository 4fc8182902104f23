/**
 * What a client says to a proxy, and what that answers: the CONNECT of HTTP (RFC 9110 §9.3.6) with a Basic login
 * (RFC 7617), and SOCKS5 (RFC 1928) with a user and a password (RFC 1929).
 *
 * @module
 */

import { concat } from "../../base/bytes.ts";
import { malformed } from "../../base/errors.ts";
import { ipFamily, ipToBytes, isIp } from "../address.ts";

/** What the proxy connects to. */
export interface ProxyTarget {
  /** A name, which the proxy looks up, or an IP address. */
  readonly host: string;
  /** 1 to 65535. */
  readonly port: number;
}

/** The login of a proxy. */
export interface ProxyLogin {
  readonly username: string;
  readonly password: string;
}

/** An answer to CONNECT, as far as it is of use. */
export interface ConnectAnswer {
  readonly status: number;
  /** The reason phrase, in printable characters, and not all of a long one. */
  readonly reason: string;
  /** The schemes by which the proxy lets clients log in, in lower case; none if it wants no login. */
  readonly schemes: readonly string[];
  /** Whatever follows these bytes comes from the target. */
  readonly byteLength: number;
}

/** What has been decoded of a stream: a message, or how many bytes it has at least. */
export type Decoded<T> = (T & { readonly kind: "message" }) | {
  readonly kind: "incomplete";
  readonly neededLength: number;
};

/**
 * The bytes of a request for a tunnel.
 *
 * @throws {RangeError} if the host is something else than a name or an IP address, or the user has a colon
 */
export function encodeConnect(target: ProxyTarget, login?: ProxyLogin): Uint8Array<ArrayBuffer> {
  const authority = authorityOf(target);
  const lines = [`CONNECT ${authority} HTTP/1.1`, `Host: ${authority}`];
  if (login !== undefined) lines.push(`Proxy-Authorization: Basic ${basic(login)}`);
  return new TextEncoder().encode([...lines, "", ""].join("\r\n"));
}

/**
 * Reads an answer to CONNECT, which may not be complete.
 *
 * @throws {MalformedMessageError} if it is not HTTP, or longer than {@linkcode MAX_ANSWER_BYTES}
 */
export function decodeConnectAnswer(bytes: Uint8Array): Decoded<ConnectAnswer> {
  const start = latin1(bytes.subarray(0, HTTP.length));
  if (!HTTP.startsWith(start)) throw malformed(ANSWER, "it does not speak HTTP");
  const end = endOfHead(bytes);
  if ((end ?? bytes.length) > MAX_ANSWER_BYTES) {
    throw malformed(ANSWER, `its head has more than ${MAX_ANSWER_BYTES} bytes`);
  }
  if (end === undefined) return { kind: "incomplete", neededLength: bytes.length + 1 };
  const [statusLine, ...lines] = latin1(bytes.subarray(0, end)).split("\r\n");
  const [, status, reason] = /^HTTP\/1\.[01] (\d{3})(?: (.*))?$/.exec(statusLine!) ?? [];
  if (status === undefined) throw malformed(ANSWER, "its first line is not a status line");
  const schemes = lines.flatMap((line) => /^proxy-authenticate:(.*)$/i.exec(line)?.[1] ?? [])
    .flatMap((value) => SCHEMES.filter((scheme) => startsChallenge(value, scheme)));
  return {
    kind: "message",
    status: Number(status),
    reason: shown(reason ?? ""),
    schemes: [...new Set(schemes)],
    byteLength: end,
  };
}

/** The bytes that begin SOCKS5: how this client can log in. */
export function encodeSocksGreeting(hasLogin: boolean): Uint8Array<ArrayBuffer> {
  const methods = hasLogin ? [NO_LOGIN, USER_PASSWORD] : [NO_LOGIN];
  return new Uint8Array([SOCKS_VERSION, methods.length, ...methods]);
}

/** How a SOCKS5 server wants clients to log in. */
export type SocksMethod = "none" | "user and password" | "refused";

/**
 * Reads the answer to the greeting.
 *
 * @throws {MalformedMessageError} if it is not one of SOCKS5, or names a method that the greeting cannot have named
 */
export function decodeSocksMethod(
  bytes: Uint8Array,
): Decoded<{ readonly method: SocksMethod; readonly byteLength: number }> {
  requireVersion(bytes, SOCKS_VERSION);
  if (bytes.length < 2) return { kind: "incomplete", neededLength: 2 };
  const method = METHODS.get(bytes[1]!);
  if (method === undefined) throw malformed(ANSWER, "its login method was not offered");
  return { kind: "message", method, byteLength: 2 };
}

/**
 * The bytes of a user and a password.
 *
 * @throws {RangeError} if one of them is empty or has more than 255 bytes
 */
export function encodeSocksLogin({ username, password }: ProxyLogin): Uint8Array<ArrayBuffer> {
  const [user, secret] = [username, password].map((text) => new TextEncoder().encode(text));
  for (const { length } of [user!, secret!]) {
    if (length >= 1 && length <= 0xff) continue;
    throw new RangeError("Cannot log in to a SOCKS5 proxy: user and password have 1 to 255 bytes");
  }
  return concat(
    Uint8Array.of(LOGIN_VERSION, user!.length),
    user!,
    Uint8Array.of(secret!.length),
    secret!,
  );
}

/**
 * Reads the answer to a login.
 *
 * @throws {MalformedMessageError} if it is not one
 */
export function decodeSocksLoginAnswer(
  bytes: Uint8Array,
): Decoded<{ readonly isAccepted: boolean; readonly byteLength: number }> {
  requireVersion(bytes, LOGIN_VERSION);
  if (bytes.length < 2) return { kind: "incomplete", neededLength: 2 };
  return { kind: "message", isAccepted: bytes[1] === 0, byteLength: 2 };
}

/**
 * The bytes of a request for a connection.
 *
 * @throws {RangeError} if the host is something else than a name or an IP address, or the name has more than 255 bytes
 */
export function encodeSocksConnect(target: ProxyTarget): Uint8Array<ArrayBuffer> {
  const { host, port } = target;
  requireHost(host);
  const name = new TextEncoder().encode(host);
  if (name.length > 0xff) {
    throw new RangeError("Cannot connect through a SOCKS5 proxy: a name has at most 255 bytes");
  }
  const address = isIp(host)
    ? concat(Uint8Array.of(ipFamily(host) === 4 ? TYPE_IPV4 : TYPE_IPV6), ipToBytes(host))
    : concat(Uint8Array.of(TYPE_NAME, name.length), name);
  return concat(
    Uint8Array.of(SOCKS_VERSION, CONNECT, 0),
    address,
    Uint8Array.of(port >> 8, port & 0xff),
  );
}

/**
 * Reads the answer to a request: 0 for success, or a code of RFC 1928 §6.
 *
 * @throws {MalformedMessageError} if it is not one of SOCKS5
 */
export function decodeSocksAnswer(
  bytes: Uint8Array,
): Decoded<{ readonly code: number; readonly byteLength: number }> {
  requireVersion(bytes, SOCKS_VERSION);
  if (bytes.length < 5) return { kind: "incomplete", neededLength: 5 };
  const addressLength = ADDRESS_LENGTHS.get(bytes[3]!) ??
    (bytes[3] === TYPE_NAME ? bytes[4]! + 1 : 0);
  if (addressLength === 0) throw malformed(ANSWER, "its type of address is unknown");
  const byteLength = 4 + addressLength + 2;
  if (bytes.length < byteLength) return { kind: "incomplete", neededLength: byteLength };
  return { kind: "message", code: bytes[1]!, byteLength };
}

function authorityOf({ host, port }: ProxyTarget): string {
  requireHost(host);
  return `${host.includes(":") ? `[${host}]` : host}:${port}`;
}

/** Anything else would end the line, or be another field of the request. */
function requireHost(host: string): void {
  if (/^[\w.:-]+$/.test(host)) return;
  throw new RangeError("Cannot connect through a proxy: the host is not a name");
}

/** The first colon ends the user (RFC 7617 §2). */
function basic({ username, password }: ProxyLogin): string {
  if (username.includes(":")) {
    throw new RangeError("Cannot log in to an HTTP proxy: the user must not have a colon");
  }
  return new TextEncoder().encode(`${username}:${password}`).toBase64();
}

/** A field may have several challenges (RFC 9110 §11.6.1); values in quotes may have any text. */
function startsChallenge(value: string, scheme: string): boolean {
  const plain = value.replaceAll(/"[^"]*"/g, "").toLowerCase();
  return plain.split(",").some((part) => part.trim().split(" ")[0] === scheme);
}

function endOfHead(bytes: Uint8Array): number | undefined {
  const at = latin1(bytes.subarray(0, MAX_ANSWER_BYTES + 1)).indexOf("\r\n\r\n");
  return at < 0 ? undefined : at + 4;
}

function requireVersion(bytes: Uint8Array, version: number): void {
  if (bytes.length === 0 || bytes[0] === version) return;
  throw malformed(ANSWER, "it does not speak SOCKS5");
}

/** What a proxy writes ends up on a terminal. */
function shown(text: string): string {
  return text.replaceAll(/[^ -~]/g, "?").trim().slice(0, MAX_REASON_LENGTH);
}

/** Every byte is a character. */
function latin1(bytes: Uint8Array): string {
  return new TextDecoder("latin1").decode(bytes);
}

const ANSWER = "the answer of the proxy";

/** The start of every answer in HTTP/1. */
const HTTP = "HTTP/1.";

/** Schemes of RFC 9110 §16.4.1 and others that proxies ask for. */
const SCHEMES = ["basic", "digest", "ntlm", "negotiate", "bearer"];

/** RFC 1928 §3. */
const SOCKS_VERSION = 5;
const NO_LOGIN = 0;
const USER_PASSWORD = 2;
const METHODS: ReadonlyMap<number, SocksMethod> = new Map([
  [NO_LOGIN, "none"],
  [USER_PASSWORD, "user and password"],
  [0xff, "refused"],
]);

/** RFC 1928 §4. */
const CONNECT = 1;
const TYPE_IPV4 = 1;
const TYPE_NAME = 3;
const TYPE_IPV6 = 4;
const ADDRESS_LENGTHS: ReadonlyMap<number, number> = new Map([[TYPE_IPV4, 4], [TYPE_IPV6, 16]]);

/** RFC 1929 §2. */
const LOGIN_VERSION = 1;

/** Chosen by us: what proxies send has less than 2 KiB, challenges and cookies included. */
export const MAX_ANSWER_BYTES = 8192;

/** Chosen by us: one line on a terminal. */
const MAX_REASON_LENGTH = 60;
