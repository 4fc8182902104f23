/**
 * Which hosts are reached without the proxy: this one, and those in `NO_PROXY`.
 *
 * @module
 */

import { ipScope, isIp, parseIp } from "../address.ts";
import { type IpPrefix, isInPrefix, parseIpPrefix, unmapped } from "../ip_prefix.ts";

/**
 * Makes the decision whether a host is reached without the proxy. Loopback always is. The list has names, which stand for
 * their subdomains too, with or without a dot in front; IP addresses; prefixes such as `10.0.0.0/8`; and `*` for every
 * host; separated by commas or spaces. Names are not looked up, so addresses are compared with those that are written as
 * such. An entry of another form is ignored, and the host goes through the proxy.
 *
 * @example
 * ```ts
 * import { directHosts } from "./no_proxy.ts";
 * import { assertEquals } from "@std/assert";
 *
 * const goesDirect = directHosts("intra.example, 10.0.0.0/8");
 * const hosts = ["meet.intra.example", "10.1.2.3", "localhost", "example.net"];
 * assertEquals(hosts.map(goesDirect), [true, true, true, false]);
 * ```
 */
export function directHosts(list: string = ""): (host: string) => boolean {
  const entries = list.split(/[\s,]+/).filter((entry) => entry !== "");
  const isAll = entries.includes("*");
  const prefixes = entries.flatMap(prefixOf);
  const names = new Set(entries.filter((entry) => NAME.test(entry)).map(plainName));
  return (host) => {
    if (isAll) return true;
    if (!isIp(host)) return isNamed(plainName(host), names);
    const ip = parseIp(host);
    return ipScope(unmapped(ip)) === "loopback" ||
      prefixes.some((prefix) => isInPrefix(ip, prefix));
  };
}

function isNamed(host: string, names: ReadonlySet<string>): boolean {
  const labels = host.split(".");
  if (labels.at(-1) === "localhost") return true; // RFC 6761 §6.3
  return labels.some((_, index) => names.has(labels.slice(index).join(".")));
}

function plainName(name: string): string {
  return name.toLowerCase().replace(/^\*?\.+/, "").replace(/\.$/, "");
}

function prefixOf(entry: string): IpPrefix[] {
  try {
    return [parseIpPrefix(entry.replace(/^\[(.*)\]/, "$1"))];
  } catch {
    return []; // a name
  }
}

/** Also those that DNS does not allow, such as with an underscore. */
const NAME = /^(?:\*?\.)?[\p{L}\p{N}_-]+(?:\.[\p{L}\p{N}_-]+)*\.?$/u;
