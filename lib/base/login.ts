/**
 * User names and passwords in URLs: decoding them, and keeping them out of messages.
 *
 * @module
 */

/**
 * Decodes the user or the password of a URL.
 *
 * @param cannot the start of the message: what cannot be done with the URL
 * @throws {TypeError} if it is not percent-encoded UTF-8, or has control characters: whoever wrote them wants a server to
 * take the login for commands. The message repeats nothing of it
 */
export function decodeLogin(part: string, cannot: string): string {
  let text: string;
  try {
    text = decodeURIComponent(part);
  } catch (cause) {
    const why = "its user or password is not percent-encoded UTF-8";
    throw new TypeError(`${cannot}: ${why}`, { cause });
  }
  if (CONTROL.test(text)) {
    throw new TypeError(`${cannot}: its user or password has control characters`);
  }
  return text;
}

/** The decoded login of a URL, `USER:PASSWORD` or `""`. As {@linkcode decodeLogin} otherwise. */
export function loginOf(url: string, cannot: string): string {
  const [, , login = ""] = LOGIN.exec(url) ?? [];
  return decodeLogin(login, cannot);
}

/** The URL without its login, to show it where it may be copied. */
export function stripLogin(url: string): string {
  return url.replace(LOGIN, "$1");
}

/**
 * A URL that is in use, for a message: without its login, and without the access key of a private rendezvous, which is the
 * first segment of its path.
 *
 * ```ts
 * import { withoutLogin } from "./login.ts";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(withoutLogin("mqtts://me:secret@broker.example"), "mqtts://…@broker.example");
 * assertEquals(withoutLogin("wss://meet.example/0123456789abcdef"), "wss://meet.example/…");
 * ```
 */
export function withoutLogin(url: string): string {
  const at = url.lastIndexOf("@");
  const shown = at < 0 ? url : `${schemeOf(url)}…${url.slice(at)}`;
  return shown.replace(ACCESS_KEY, "$1…");
}

/**
 * A text that should be a URL, for the message that it is not: whatever could be a login is left out, because a typing
 * error may be anywhere.
 *
 * ```ts
 * import { shownUrl } from "./login.ts";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(shownUrl("http://broker.example:1883"), "http://broker.example:1883");
 * assertEquals(shownUrl("mqtt:me:secret"), "mqtt:…");
 * ```
 */
export function shownUrl(text: string): string {
  return WITHOUT_LOGIN.test(text) ? text : `${schemeOf(text)}…`;
}

function schemeOf(url: string): string {
  return /^[a-z][a-z0-9+.-]*:(?:\/\/)?/i.exec(url)?.[0] ?? "";
}

/** The part of a URL that a parser of any scheme may take for the login, however it treats backslashes. */
const LOGIN = /^([a-z+.-]+:\/*)([^/?#]*)@/i;

/** As long as a key may be (`access_key.ts`); rooms with such names are drawn at random, and as secret. */
const ACCESS_KEY = /^(wss?:\/\/[^/?#]+\/)[\w-]{16,128}(?=\/|$)/i;

/** Unicode's controls: C0, DEL and C1; and its line and paragraph separators. */
const CONTROL = /[\p{Cc}\u2028\u2029]/u;

/** A known scheme, a host and a port at most; behind an unknown scheme may be a password. */
const WITHOUT_LOGIN =
  /^(?:(?:wss?|mqtts?|mqtt\+wss?|https?|turns?|nats|tls|lan):(?:\/\/)?)?(?:[a-z0-9.-]+|\[[0-9a-f:.]+\])?(?::\d{1,5})?\/?$/i;
