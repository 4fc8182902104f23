/**
 * URLs in messages, without the logins in them.
 *
 * @module
 */

/**
 * A URL that is in use, for a message: without its login.
 *
 * ```ts
 * import { withoutLogin } from "./redact.ts";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(withoutLogin("mqtts://me:secret@broker.example"), "mqtts://…@broker.example");
 * ```
 */
export function withoutLogin(url: string): string {
  const at = url.lastIndexOf("@");
  return at < 0 ? url : `${schemeOf(url)}…${url.slice(at)}`;
}

/**
 * A text that should be a URL, for the message that it is not: whatever could be a login is left out, because a typing
 * error may be anywhere.
 *
 * ```ts
 * import { shownUrl } from "./redact.ts";
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

/** A known scheme, a host and a port at most; behind an unknown scheme may be a password. */
const WITHOUT_LOGIN =
  /^(?:(?:wss?|mqtts?|mqtt\+wss?|https?|turns?|lan):(?:\/\/)?)?(?:[a-z0-9.-]+|\[[0-9a-f:.]+\])?(?::\d{1,5})?\/?$/i;
