/**
 * The proxy for signaling and relays: from `--proxy`, from the variables that other programs read too, or from the user's
 * settings.
 *
 * @module
 */

import { shownUrl } from "../base/login.ts";
import type { Network } from "../net/network.ts";
import type { ProxyOptions } from "../net/proxy/client.ts";
import { systemNetwork } from "../net/system.ts";
import { readProxyVariable, readVariable } from "../net/system/private_input.ts";
import { DialPolicy } from "../peer/dial_policy.ts";
import type { PeerOptions } from "../peer/options.ts";
import { withNat64 } from "../punch/punch.ts";
import type { Arguments } from "./arguments.ts";
import { readConfig } from "./config.ts";
import { UsageError } from "./io.ts";
import type { SecretReader } from "./secrets.ts";

/**
 * Reads `--proxy`, or the environment and the settings where that is permitted.
 *
 * @throws {UsageError} if it is not the URL of a proxy, and the message does not show the login; or if `NO_PROXY` has
 * everything go around `--proxy`, which whoever names a proxy does not expect
 */
export async function readProxy(
  { values }: Pick<Arguments, "values">,
  secrets: SecretReader,
): Promise<ProxyOptions | undefined> {
  const noProxy = await readVariable("NO_PROXY") ?? await readVariable("no_proxy");
  const given = values.get("proxy");
  if (given !== undefined && noProxy?.trim() === "*") {
    throw new UsageError("--proxy is of no use with NO_PROXY=*, which sends everything around it");
  }
  const named = given === undefined
    ? await readProxyVariable() ?? await readSettings(noProxy, secrets)
    : { what: "--proxy", url: await secrets.read("--proxy", given) };
  if (named === undefined) return undefined;
  const { what, url } = named;
  const { requireProxyUrl } = await import("../net/proxy/client.ts");
  try {
    return { url: requireProxyUrl(url), noProxy };
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    const why = error.message.replace(/^Cannot use the proxy(?: \S+)?: /, "");
    throw new UsageError(`${what} ${shownUrl(url)}: ${why}`, { cause: error });
  }
}

/** The network for one signaling server that the user has named, without a peer. */
export async function networkThrough(
  given: PeerOptions["proxy"],
  url: string,
  signal: AbortSignal,
): Promise<Network> {
  const network = withNat64(systemNetwork);
  if (given === undefined) return network;
  const proxy = typeof given === "string" ? { url: given } : given;
  const { throughProxy } = await import("../net/proxy/client.ts");
  const through = throughProxy(network, proxy);
  const policy = new DialPolicy({
    network,
    named: [url],
    allowUrl: undefined,
    proxy: through,
  });
  return await policy.networkFor(url, signal);
}

/** What stands in the settings comes last; `NO_PROXY=*` turns it off as well. */
async function readSettings(
  noProxy: string | undefined,
  secrets: SecretReader,
): Promise<{ what: string; url: string } | undefined> {
  if (noProxy?.trim() === "*") return undefined;
  const { proxy } = await readConfig();
  if (proxy === undefined) return undefined;
  const what = "the proxy of the settings,";
  return { what, url: await secrets.read(what, proxy) };
}
