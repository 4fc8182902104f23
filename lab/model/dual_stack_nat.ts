/**
 * A router for both IP families: translates IPv4, and filters IPv6 without translating it.
 *
 * @module
 */

import { ipFamily } from "../../lib/net/address.ts";
import { Nat } from "./nat.ts";
import type { NatBehavior } from "./nat_behavior.ts";

/** A NAT for IPv4, and a firewall for IPv6 that filters the same way. */
export class DualStackNat {
  readonly ipv4: Nat;
  readonly ipv6: Nat;

  /**
   * @param externalIps IPv4 addresses to translate to; none for a firewall that translates nothing
   * @param random as `Math.random`
   * @throws {RangeError} if the behavior translates and there is no external address
   */
  constructor(externalIps: readonly string[], behavior: NatBehavior, random: () => number) {
    this.ipv4 = new Nat(externalIps, behavior, random);
    this.ipv6 = new Nat([], withoutTranslation(behavior), random);
  }

  /** The NAT or firewall for packets to this address. */
  forDestination(ip: string): Nat {
    return ipFamily(ip) === 4 ? this.ipv4 : this.ipv6;
  }

  /** Whether the router translates this address's family. */
  translates(ip: string): boolean {
    return this.forDestination(ip).behavior.mapping !== "none";
  }

  /**
   * Changes the behavior. Existing mappings stay, until {@linkcode DualStackNat.flush}.
   *
   * @throws {RangeError} if the behavior translates and there is no external address
   */
  setBehavior(behavior: NatBehavior): void {
    this.ipv4.behavior = behavior;
    this.ipv6.behavior = withoutTranslation(behavior);
  }

  /** Forgets all mappings, like a router that restarts; or those of one family. */
  flush(family?: 4 | 6): void {
    if (family !== 6) this.ipv4.flush();
    if (family !== 4) this.ipv6.flush();
  }

  /** The same, and its next external address takes the place of the first. */
  renumber(): void {
    this.ipv4.renumber();
    this.ipv6.flush();
  }
}

function withoutTranslation(behavior: NatBehavior): NatBehavior {
  return { ...behavior, mapping: "none", tcp: { ...behavior.tcp, mapping: "none" } };
}
