/**
 * Default gateways of the system. Deno has no call for them; Linux prints its routing tables as files.
 *
 * @module
 */

import type { DefaultGateway } from "../network.ts";
import { parseIpv4Gateways, parseIpv6Gateways } from "../routes.ts";

/** As {@linkcode Network.defaultGateways}. */
export async function defaultGateways(): Promise<DefaultGateway[] | undefined> {
  const [ipv4, ipv6] = await Promise.all([
    readIfGranted("/proc/net/route"),
    readIfGranted("/proc/net/ipv6_route"),
  ]);
  if (ipv4 === undefined) return undefined;
  return [...parseIpv4Gateways(ipv4), ...parseIpv6Gateways(ipv6 ?? "")];
}

/**
 * Deno 2.9 says that `--allow-read` is enough for these files, and then refuses without `--allow-all`; it does not
 * prompt.
 */
async function readIfGranted(path: string): Promise<string | undefined> {
  if (Deno.permissions.querySync({ name: "read", path }).state !== "granted") return undefined;
  try {
    return await Deno.readTextFile(path);
  } catch {
    return undefined; // not Linux, no IPv6, or not allowed after all
  }
}
