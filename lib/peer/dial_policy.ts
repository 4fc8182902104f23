/**
 * Which servers a peer connects to because somebody else named them, in a ticket or in a message.
 *
 * @module
 */

import { formatTransportAddress, type TransportAddress } from "../net/address.ts";
import { isOwnAddress } from "../net/local_address.ts";
import { discoverNat64 } from "../net/nat64.ts";
import type { Network } from "../net/network.ts";
import { whyNotRelay } from "../punch/nomination.ts";
import { networkForUrl, requirePlainLogin, withoutLogin } from "../signal/checked_url.ts";
import { DEFAULT_SIGNALING, PUBLIC_BROKERS } from "../signal/open.ts";
import type { AllowUrl } from "./options.ts";

/** What decides about URLs and relays that others name. */
export interface DialPolicyOptions {
  readonly network: Network;
  /** The URLs that the user named. */
  readonly named: readonly string[];
  readonly allowUrl: AllowUrl | undefined;
}

/** Decides about URLs and relays that others name. What was allowed or not stays so. */
export class DialPolicy {
  readonly #network: Network;
  readonly #named: ReadonlySet<string>;
  readonly #trusted: ReadonlySet<string>;
  readonly #allowUrl: AllowUrl;
  /** By URL and addresses. */
  readonly #decisions = new Map<string, Promise<boolean>>();

  constructor({ network, named, allowUrl = () => false }: DialPolicyOptions) {
    this.#network = network;
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
    if (this.#named.has(url)) return network;
    if (this.#trusted.has(normalize(url))) {
      requirePlainLogin(url);
      return network;
    }
    const allow: AllowUrl = (url, addresses) => this.#isAllowed(url, addresses);
    return await networkForUrl(url, { network, allow, signal });
  }

  /** Why a relay that the other side names is not dialled; `null` if it may be. */
  async whyNotRelay(relay: TransportAddress, signal: AbortSignal): Promise<string | null> {
    const { ip } = relay;
    if (await isOwnAddress(this.#network, ip)) return "it is an address of this host";
    const prefixes = ip.includes(":") ? await discoverNat64(this.#network, { signal }) : [];
    const why = whyNotRelay(relay, prefixes);
    if (why === null) return null;
    return await this.#isAllowed(`turn:${formatTransportAddress(relay)}`, [ip]) ? null : why;
  }

  async #isAllowed(url: string, addresses: readonly string[]): Promise<boolean> {
    const key = [url, ...[...addresses].sort()].join(" ");
    const decision = this.#decisions.get(key) ?? Promise.resolve(this.#allowUrl(url, addresses));
    if (this.#decisions.size < MAX_DECISIONS) this.#decisions.set(key, decision);
    return await decision;
  }
}

/** The same text for the same server, whatever the login. */
function normalize(url: string): string {
  const plain = withoutLogin(url);
  return (URL.parse(plain)?.href ?? plain).replace(/\/$/, "");
}

/** Chosen by us: a person is asked no more questions than this. */
const MAX_DECISIONS = 256;
