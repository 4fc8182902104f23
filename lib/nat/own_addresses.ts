/**
 * Which of the addresses that servers see are this host's own: then there is no NAT.
 *
 * @module
 */

import type { TransportAddress } from "../net/address.ts";
import type { Network } from "../net/network.ts";

/** Asks the system once for each address. */
export class OwnAddresses {
  readonly #network: Network;
  readonly #localPort: number;
  readonly #known = new Map<string, boolean>();

  /** @param localPort an own address with another port is a translated one all the same */
  constructor(network: Network, localPort: number) {
    this.#network = network;
    this.#localPort = localPort;
  }

  /** Makes {@linkcode OwnAddresses.isOwn} know these. */
  async learn(addresses: Iterable<TransportAddress>): Promise<void> {
    for (const { ip } of addresses) {
      if (!this.#known.has(ip)) this.#known.set(ip, await this.#network.ownsAddress(ip));
    }
  }

  /** Whether it is this host's address and the local port. */
  readonly isOwn = ({ ip, port }: TransportAddress): boolean =>
    port === this.#localPort && this.#known.get(ip) === true;
}
