/**
 * How many SYNs and datagrams a peer may make this host send, and where to. The peer's word decides where dials go, so
 * whatever it says, a stranger at the other end must hardly notice them.
 *
 * Pure but for what it counts: the caller brings the time.
 *
 * @module
 */

import type { TransportAddress } from "../net/address.ts";
import { PUNCH_LIMITS } from "./limits.ts";

/** Where a packet goes, and which limits apply there. */
export interface DialTarget {
  /** What the address unwraps to, so that one host counts as one. */
  readonly address: TransportAddress;
  /** Whether STUN servers saw the peer at this IP address, as the peer says. */
  readonly isExternal: boolean;
  /** Whether they saw it at this very port, or its NAT gives it that port. */
  readonly isExpected: boolean;
  /** Whether many sockets dial that port at once (the birthday method). */
  readonly isBirthday: boolean;
}

/** What one peer may still make this host send. */
export class DialBudget {
  /** By IP address, then by port. */
  readonly #counts = new Map<string, Map<number, PortCount>>();
  /** By IP address: the sum over its ports. */
  readonly #sums = new Map<string, number>();
  /** Packets to ports at which the peer was expected, for more than a few of which it must keep resetting. */
  #expected = 0;
  /** The one address of which many ports may be dialled: the first that was. */
  #external: string | undefined;

  /** A search starts. It gets what earlier searches have left, of which packets older than a minute do not count. */
  begin(nowMs: number): void {
    this.#expected = 0;
    for (const [ip, ports] of this.#counts) {
      for (const [port, { lastAtMs }] of ports) {
        if (nowMs - lastAtMs > MEMORY_MS) ports.delete(port);
      }
      const counts = [...ports.values()];
      this.#sums.set(ip, counts.reduce((sum, { packets }) => sum + packets, 0));
      this.#expected += counts.reduce((sum, { expected }) => sum + expected, 0);
      if (ports.size > 0) continue;
      this.#counts.delete(ip);
      this.#sums.delete(ip);
      if (this.#external === ip) this.#external = undefined;
    }
  }

  /** Takes one packet to the target out of the budget; `false`, and nothing is taken, if none is left. */
  take(target: DialTarget, nowMs: number): boolean {
    const { address: { ip, port }, isExternal } = target;
    const ports = this.#counts.get(ip) ?? new Map<number, PortCount>();
    const count = ports.get(port) ?? NO_PACKETS;
    const isMain = isExternal && (this.#external ?? ip) === ip;
    const inAll = this.#sums.get(ip) ?? 0;
    if (inAll >= (isMain ? PUNCH_LIMITS.maxSynsPerAddress : PUNCH_LIMITS.maxSynsElsewhere)) {
      return false;
    }
    if (isMain && count.packets >= PUNCH_LIMITS.maxSynsPerPort && !this.#mayGoOn(target, count)) {
      return false;
    }
    if (isMain) this.#external = ip;
    const expected = target.isExpected ? 1 : 0;
    this.#expected += expected;
    this.#sums.set(ip, inAll + 1);
    ports.set(port, {
      packets: count.packets + 1,
      expected: count.expected + expected,
      isResetting: count.isResetting,
      lastAtMs: nowMs,
    });
    this.#counts.set(ip, ports);
    return true;
  }

  /** Notes whether the target has answered the last packet with a RST. */
  note({ address: { ip, port } }: DialTarget, isResetting: boolean): void {
    const ports = this.#counts.get(ip);
    const count = ports?.get(port);
    if (count !== undefined) ports!.set(port, { ...count, isResetting });
  }

  /** The peer has proved that it is at this address: what went there went to no stranger, and does not count. */
  prove({ ip, port }: TransportAddress): void {
    const ports = this.#counts.get(ip);
    const count = ports?.get(port);
    if (count === undefined) return;
    ports!.delete(port);
    this.#sums.set(ip, this.#sums.get(ip)! - count.packets);
    this.#expected -= count.expected;
  }

  /** Whether one port may get more than a few packets. */
  #mayGoOn({ isExpected, isBirthday }: DialTarget, { isResetting }: PortCount): boolean {
    return isExpected && (isBirthday || isResetting) && this.#expected < PUNCH_LIMITS.maxTries;
  }
}

/** The budgets of the peers that this host has searched paths to lately. */
export class DialBudgets {
  readonly #budgets = new Map<string, DialBudget>();

  /** The budget of a peer, for a search that starts now. */
  begin(peer: string, nowMs: number): DialBudget {
    const budget = this.#budgets.get(peer) ?? new DialBudget();
    budget.begin(nowMs);
    this.#budgets.delete(peer); // the latest is the last
    this.#budgets.set(peer, budget);
    const [oldest] = this.#budgets.keys();
    if (this.#budgets.size > MAX_PEERS) this.#budgets.delete(oldest!);
    return budget;
  }
}

interface PortCount {
  readonly packets: number;
  /** How many of them were sent because the peer was expected there. */
  readonly expected: number;
  readonly isResetting: boolean;
  readonly lastAtMs: number;
}

const NO_PACKETS: PortCount = { packets: 0, expected: 0, isResetting: false, lastAtMs: 0 };

/** How long a search counts for the next one with the same peer. */
const MEMORY_MS = 60_000;

/** Chosen by us: more peers than anyone accepts in a minute. */
const MAX_PEERS = 1024;
