/**
 * Connecting to URLs that somebody else named, in a ticket: where they lead is looked up once, checked, and then nothing
 * but the checked addresses is connected to.
 *
 * @module
 */

import { NetworkError } from "../base/errors.ts";
import { loginOf } from "../base/login.ts";
import { ipFamily, isIp, type Nat64Prefix, parseIp, whyNotPublic } from "../net/address.ts";
import { isOwnAddress } from "../net/local_address.ts";
import { discoverNat64 } from "../net/nat64.ts";
import type { Network } from "../net/network.ts";

/** How to check a URL. */
export interface CheckUrlOptions {
  readonly network: Network;
  /** Decides about a URL that leads into a private network or to this host. */
  readonly allow: (url: string, addresses: readonly string[]) => boolean | Promise<boolean>;
  readonly signal?: AbortSignal;
}

/**
 * A network that connects to nothing but the addresses of a URL, as they are now.
 *
 * @throws {NetworkError} `not-allowed` if it leads into a private network or to this host, and that was not allowed; or as
 * {@linkcode Network.resolve}
 * @throws the signal's reason on abort
 */
export async function networkForUrl(url: string, options: CheckUrlOptions): Promise<Network> {
  const { network, allow, signal } = options;
  requirePlainLogin(url);
  const host = hostOf(url);
  if (host === undefined) return network; // such as lan:, which names no host
  const addresses = await addressesOf(host, network, signal);
  const why = await whyNotUnasked(addresses, network, signal);
  if (why !== undefined && !await allow(url, addresses)) {
    throw new NetworkError(
      `Cannot use ${withoutLogin(url)} of the ticket: ${why}, and you have not named it yourself`,
      "not-allowed",
    );
  }
  signal?.throwIfAborted();
  return pinned(network, addresses);
}

/**
 * Checks a login that somebody else chose. The length in front of it may be a line feed, so that with white space in it a
 * server that reads lines could take it for a command with arguments.
 *
 * @throws {NetworkError} `not-allowed`
 */
export function requirePlainLogin(url: string): void {
  if (!/\s/.test(loginOf(url, "Cannot use a URL of the ticket"))) return;
  throw new NetworkError("Cannot use a URL of the ticket: its login has spaces", "not-allowed");
}

/** The URL without its user and password, to show it. */
export function withoutLogin(url: string): string {
  return url.replace(/^([a-z+.-]+:\/*)[^/?#]*@/i, "$1");
}

/** Why the first address that is not on the internet, or is this host's own, needs permission. */
async function whyNotUnasked(
  addresses: readonly string[],
  network: Network,
  signal?: AbortSignal,
): Promise<string | undefined> {
  const hasIpv6 = addresses.some((ip) => ipFamily(ip) === 6);
  const prefixes: Nat64Prefix[] = hasIpv6 ? await discoverNat64(network, { signal }) : [];
  for (const ip of addresses) {
    const why = whyNotPublic(ip, prefixes);
    if (why !== null) return `${ip} is ${why}`;
    if (await isOwnAddress(network, ip)) return `${ip} is an address of this host`;
  }
  return undefined;
}

/** As `URL` reads hosts of web addresses, which knows every spelling of an IPv4 address. */
function hostOf(url: string): string | undefined {
  const [, rest] = /^[a-z+.-]+:\/\/(.+)$/i.exec(url) ?? [];
  const hostname = rest === undefined ? "" : URL.parse(`http://${rest}`)?.hostname ?? "";
  return hostname === "" ? undefined : hostname.replace(/^\[(.*)\]$/, "$1");
}

/** All of them, of both families. */
async function addressesOf(
  host: string,
  network: Network,
  signal: AbortSignal | undefined,
): Promise<string[]> {
  if (isIp(host)) return [parseIp(host)];
  const found = await Promise.allSettled(
    ([4, 6] as const).map((family) => network.resolve(host, family, { signal })),
  );
  signal?.throwIfAborted();
  const addresses = found.flatMap((each) => each.status === "fulfilled" ? each.value : []);
  if (addresses.length === 0 && found[0]!.status === "rejected") throw found[0]!.reason;
  return addresses.map(parseIp);
}

/** Names resolve to the addresses, and nothing else is connected to. TLS still checks the name. */
function pinned(network: Network, addresses: readonly string[]): Network {
  const require = (ip: string) => {
    if (addresses.includes(ip)) return;
    throw new NetworkError(`Cannot connect to ${ip}: it was not checked`, "not-allowed");
  };
  return {
    bindUdp: (local, options) => network.bindUdp(local, options),
    // deno-lint-ignore require-await -- rejects where the synchronous call throws
    resolve: async (hostname, family) => {
      const ips = addresses.filter((ip) => ipFamily(ip) === family);
      if (ips.length > 0) return ips;
      const message = `Cannot resolve ${hostname} to an IPv${family} address: it has none`;
      throw new NetworkError(message, "name-not-found");
    },
    connectTcp: async (remote, options) => {
      require(remote.ip);
      return await network.connectTcp(remote, options);
    },
    connectTls: async (remote, options) => {
      require(remote.ip);
      return await network.connectTls(remote, options);
    },
    listenTcp: (local, options) => network.listenTcp(local, options),
    get canReusePort() {
      return network.canReusePort;
    },
    localAddresses: () => network.localAddresses(),
    ownsAddress: (ip) => network.ownsAddress(ip),
    defaultGateways: () => network.defaultGateways(),
  };
}
