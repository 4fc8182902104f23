/**
 * Which servers a peer connects to because a ticket or a message names them: a URL is looked up once, judged, and dialled
 * only at the addresses that were judged.
 *
 * @module
 */

import { NetworkError } from "../base/errors.ts";
import { loginOf, stripLogin } from "../base/login.ts";
import {
  formatTransportAddress,
  ipFamily,
  isIp,
  type Nat64Prefix,
  parseIp,
  type TransportAddress,
  whyNotPublic,
} from "../net/address.ts";
import { discoverNat64, isOwnAddress, networkWith } from "../net/local_address.ts";
import type { Network } from "../net/network.ts";
import type { Proxy } from "../net/proxy/client.ts";
import { whyNotRelay } from "../punch/nomination.ts";
import { DEFAULT_SIGNALING, PUBLIC_BROKERS } from "../signal/open.ts";
import { hostAddresses } from "../signal/websocket/connection.ts";
import type { AllowUrl } from "./options.ts";

/** What decides about URLs and relays that others name. */
export interface DialPolicyOptions {
  readonly network: Network;
  /** The URLs that the user named. */
  readonly named: readonly string[];
  readonly allowUrl: AllowUrl | undefined;
  /** What carries signaling, if that does not go direct. */
  readonly proxy?: Proxy;
  /** Whether nothing may be sent around the proxy, lookups of names included. Default: false. */
  readonly isSealed?: boolean;
}

/** Decides about URLs and relays that others name. What was allowed or not stays so. */
export class DialPolicy {
  readonly #network: Network;
  readonly #named: ReadonlySet<string>;
  readonly #trusted: ReadonlySet<string>;
  readonly #allowUrl: AllowUrl;
  readonly #proxy: Proxy | undefined;
  readonly #isSealed: boolean;
  /** By URL and addresses. */
  readonly #decisions = new Map<string, Promise<boolean>>();

  constructor(options: DialPolicyOptions) {
    const { network, named, allowUrl = () => false, proxy, isSealed = false } = options;
    this.#network = network;
    this.#proxy = proxy;
    this.#isSealed = isSealed;
    this.#named = new Set(named);
    this.#trusted = new Set([...named, ...DEFAULT_SIGNALING, ...PUBLIC_BROKERS].map(normalize));
    this.#allowUrl = allowUrl;
  }

  /**
   * The network with which to open a URL.
   *
   * @throws {NetworkError} `not-allowed` if it leads where only the user may lead, or as {@linkcode Network.resolve}
   * @throws the signal's reason on abort
   */
  async networkFor(url: string, signal: AbortSignal): Promise<Network> {
    const network = this.#network;
    const host = hostOf(url);
    const carrier = host === undefined ? network : this.#proxy?.networkFor(host) ?? network;
    if (this.#isSealed && url.startsWith("lan:")) return sealedNetwork(url, host, carrier);
    if (this.#named.has(url)) return carrier;
    if (this.#trusted.has(normalize(url))) {
      requirePlainLogin(url);
      return carrier;
    }
    if (this.#isSealed) return sealedNetwork(url, host, carrier);
    const allow: AllowUrl = (url, addresses) => this.#isAllowed(url, addresses);
    return await networkForUrl(url, { network, carrier, allow, signal });
  }

  /** Why a relay that the other side names is not dialled; `null` if it may be. */
  async whyNotRelay(relay: TransportAddress, signal: AbortSignal): Promise<string | null> {
    const { ip } = relay;
    if (await isOwnAddress(this.#network, ip)) return "it is an address of this host";
    const prefixes = ip.includes(":") && !this.#isSealed
      ? await discoverNat64(this.#network, { signal })
      : [];
    const why = whyNotRelay(relay, prefixes);
    if (why === null) return null;
    return await this.#isAllowed(`turn:${formatTransportAddress(relay)}`, [ip]) ? null : why;
  }

  async #isAllowed(url: string, addresses: readonly string[]): Promise<boolean> {
    const key = [url, ...[...addresses].sort()].join(" ");
    const made = this.#decisions.get(key);
    if (made !== undefined) return await made;
    if (this.#decisions.size >= MAX_DECISIONS) return false;
    const decision = Promise.resolve(this.#allowUrl(url, addresses));
    this.#decisions.set(key, decision);
    return await decision;
  }
}

/** How to check a URL. */
interface CheckUrlOptions {
  readonly network: Network;
  /** What connects to addresses of the internet. */
  readonly carrier: Network;
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
async function networkForUrl(url: string, options: CheckUrlOptions): Promise<Network> {
  const { network, carrier, allow, signal } = options;
  requirePlainLogin(url);
  const host = hostOf(url);
  if (host === undefined && HOSTLESS.test(url)) return network;
  if (host === undefined) {
    throw new NetworkError("Cannot use a URL of the ticket: it names no host", "not-allowed", {
      remedy: NEW_TICKET,
    });
  }
  const addresses = await hostAddresses(network, host, { signal });
  const why = await whyAskFirst(addresses, network, signal);
  if (why !== undefined && !await allow(url, addresses)) {
    throw new NetworkError(
      `Cannot use ${stripLogin(url)} of the ticket: ${why}, and you have not named it yourself`,
      "not-allowed",
      { remedy: `If you trust it, name ${stripLogin(url)} in \`signaling\`` },
    );
  }
  signal?.throwIfAborted();
  // What the user allowed is in a network of this host's, and what the proxy would find there is something else.
  return pinned(why === undefined ? carrier : network, addresses);
}

/**
 * The network for a URL about which no lookup may tell where it leads.
 *
 * @throws {NetworkError} `not-allowed` unless it has an address on the internet
 */
function sealedNetwork(url: string, host: string | undefined, carrier: Network): Network {
  requirePlainLogin(url);
  if (host === undefined && url.startsWith("hand:")) return carrier;
  const why = host === undefined
    ? "it does not go through the proxy"
    : !isIp(host)
    ? "only a lookup would tell where it leads, and nothing may go around the proxy"
    : whyNotPublic(parseIp(host)) === null
    ? undefined
    : `${host} is ${whyNotPublic(parseIp(host))}`;
  if (host !== undefined && why === undefined) return pinned(carrier, [parseIp(host)]);
  throw new NetworkError(`Cannot use ${stripLogin(url)} of the ticket: ${why}`, "not-allowed", {
    remedy: host === undefined
      ? NEW_TICKET
      : `If you trust it, name ${stripLogin(url)} in \`signaling\``,
  });
}

/**
 * Checks a login that somebody else chose. The length in front of it may be a line feed, so that with white space in it a
 * server that reads lines could take it for a command with arguments.
 *
 * @throws {NetworkError} `not-allowed`
 */
function requirePlainLogin(url: string): void {
  if (!/\s/.test(loginOf(url, "Cannot use a URL of the ticket"))) return;
  throw new NetworkError("Cannot use a URL of the ticket: its login has spaces", "not-allowed", {
    remedy: NEW_TICKET,
  });
}

/** Why the user is asked first: an address that is not on the internet, or is this host's own. */
async function whyAskFirst(
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

/** Names resolve to the addresses, and nothing else is connected to. TLS still checks the name. */
function pinned(network: Network, addresses: readonly string[]): Network {
  const require = (ip: string) => {
    if (addresses.includes(ip)) return;
    throw new NetworkError(`Cannot connect to ${ip}: it was not checked`, "not-allowed");
  };
  return networkWith(network, {
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
  });
}

/** The same text for the same server, whatever the login. It holds the host that is dialled, by the parser that dials. */
function normalize(url: string): string {
  const plain = stripLogin(url);
  return `${hostOf(url)} ${(URL.parse(plain)?.href ?? plain).replace(/\/$/, "")}`;
}

/** Ways to meet that name no host. */
const HOSTLESS = /^(lan|hand):/;

/** Chosen by us: a person, or an application, is asked no more questions than this. The answer to others is no. */
const MAX_DECISIONS = 256;

const NEW_TICKET = "Ask the other side for another ticket";
