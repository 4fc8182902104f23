/**
 * What the other side has named in its relay states, as far as this one heeds it.
 *
 * @module
 */

import { formatTransportAddress, type TransportAddress } from "../net/address.ts";
import { isDiallable } from "../punch/diallable.ts";
import { MAX_ADDRESSES, type RelayState } from "./relay_message.ts";

/** The first addresses that the other side names, at most {@linkcode MAX_ADDRESSES} of each kind, whatever it says later. */
export class NamedAddresses {
  /** From where it dials. */
  readonly ips: Set<string> = new Set();
  readonly #relayed = new Map<string, TransportAddress>();

  /** Where it can be dialled by way of a relay; none that a relay on the internet does not have. */
  get relayed(): TransportAddress[] {
    return [...this.#relayed.values()];
  }

  /** Takes in what a state names. */
  add({ ips, relayed }: Pick<RelayState, "ips" | "relayed">): void {
    for (const ip of ips) {
      if (this.ips.size < MAX_ADDRESSES) this.ips.add(ip);
    }
    for (const address of relayed) {
      if (this.#relayed.size >= MAX_ADDRESSES || !isDiallable(address, STRANGE)) continue;
      this.#relayed.set(formatTransportAddress(address), address);
    }
  }
}

/** A relay is on the internet, whatever the other side says. */
const STRANGE = {
  ownIps: [],
  sharesExternalIp: false,
  isSameHost: false,
  peerPunchPort: 0,
  peerExternalIp: null,
} as const;
