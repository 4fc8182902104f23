/**
 * What a report must not show: tickets, keys, logins and passwords, and without `--full` whole addresses. A report is
 * made to be passed on.
 *
 * @module
 */

import { ipFamily, ipScope, isIp } from "../net/address.ts";
import { withoutLogin } from "../base/login.ts";

/**
 * A copy of plain data in which no text holds a secret.
 *
 * @param options.isFull whether addresses stay whole
 */
export function redacted<T>(data: T, options: { readonly isFull: boolean }): T {
  return mapTexts(data, (text) => {
    const safe = withoutKeys(text);
    return options.isFull ? safe : shortened(safe);
  }) as T;
}

/** A text without tickets, logins, and what looks like a key. */
export function withoutKeys(text: string): string {
  return text
    .replaceAll(/punchline:[\w-]{16,}/gi, "punchline:…")
    .replaceAll(/[a-z][a-z0-9+.-]*:[^\s"'`]*@/gi, withoutLogin)
    .replaceAll(/(\b(?:wss?|mqtts?|https?):\/\/[^\s"'`/?#]+)[/?#][^\s"'`,;)]*/gi, "$1")
    .replaceAll(/(?<![\w-])[\w-]{40,}(?![\w-])/g, "…");
}

/**
 * A text in which addresses show their network alone: `203.0.x.x`, `2001:db8:…`. Those of this host's loopback stay, and so
 * do prefixes, such as `100.64.0.0/10`.
 */
export function shortened(text: string): string {
  return text.replaceAll(ADDRESS, (word) => {
    const plain = word.replace(/%.*$/, "");
    if (!isIp(plain) || KEPT_SCOPES.has(ipScope(plain))) return word;
    if (ipFamily(plain) === 4) return `${plain.split(".").slice(0, 2).join(".")}.x.x`;
    return `${plain.split(":").slice(0, 2).join(":")}:…`;
  });
}

/** The host and port that a URL names, to call a server by. */
export function serverName(url: string): string {
  const [, host] = /^[a-z+]+:(?:\/\/)?(?:[^/?#]*@)?([^/?#]+)/i.exec(url) ?? [];
  return host ?? url.replace(/:.*$/, "");
}

function mapTexts(data: unknown, change: (text: string) => string): unknown {
  if (typeof data === "string") return change(data);
  if (Array.isArray(data)) return data.map((each) => mapTexts(each, change));
  if (typeof data !== "object" || data === null) return data;
  return Object.fromEntries(
    Object.entries(data).map(([name, value]) => [name, mapTexts(value, change)]),
  );
}

/** What may be an address; {@linkcode isIp} decides. */
const ADDRESS =
  /(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,7}(?:\.\d{1,3}){0,3}(?:%[\w.-]+)?)(?!\w|\/\d)/gi;

/** They say nothing about who someone is. */
const KEPT_SCOPES: ReadonlySet<string> = new Set(["loopback", "unspecified"]);
