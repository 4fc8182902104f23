/**
 * What a punch may cost routers, networks and this host, and the budget that counts it. All numbers are chosen by us; the
 * reasons stand beside them.
 *
 * @module
 */

import type { TransportAddress } from "../net/address.ts";

/** Caps on one punch. */
export interface PunchLimits {
  /** Sockets that one side opens on fresh ports; each takes a file descriptor here and an entry in the router. */
  readonly maxSockets: number;
  /** Ports of the peer that one side dials for the birthday method. */
  readonly maxBirthdayPorts: number;
  /** SYNs of one birthday attempt by both sides together; also the SYNs of one check-list entry, with its redials. */
  readonly maxSyns: number;
  /** SYNs that one side sends per second. */
  readonly maxSynsPerSecond: number;
  /** From the first SYN of a birthday attempt until its sockets are closed, in milliseconds. */
  readonly birthdayMs: number;
  /** Addresses of the peer's own interfaces that are dialled. */
  readonly maxHostTargets: number;
  /** How often one target is dialled if every dial is reset; also the SYNs at the port that STUN servers saw. */
  readonly maxTries: number;
  /** SYNs and datagrams at the external address of the peer, in one search. */
  readonly maxSynsPerAddress: number;
  /** SYNs and datagrams at one port of it, in one search, unless it is the one that STUN servers saw and it resets. */
  readonly maxSynsPerPort: number;
  /** SYNs and datagrams at each other address, in one search. */
  readonly maxSynsElsewhere: number;
  /** Ports that one side dials to hit a predicted one, or pairs of ports if both sides' ports are predicted. */
  readonly maxPredictedPorts: number;
  /** How long one side waits for the other's SYN, in milliseconds. */
  readonly timeoutMs: number;
}

/**
 * The default caps with some of them changed. Both sides plan by the caps, so both must use the same.
 *
 * @throws {RangeError} if a cap is negative or not finite, or if `maxSynsPerSecond` is less than 1
 */
export function punchLimits(changes: Partial<PunchLimits> = {}): PunchLimits {
  const limits = { ...PUNCH_LIMITS, ...changes };
  for (const [name, value] of Object.entries(limits)) {
    const isValid = Number.isFinite(value) && value >= (name === "maxSynsPerSecond" ? 1 : 0);
    if (!isValid) throw new RangeError(`Cannot plan punch: ${name} must not be ${value}`);
  }
  return limits;
}

/** How often each of a number of dials may be made if every one is reset. */
export function triesFor(limits: PunchLimits, dials: number): number {
  return Math.max(1, Math.min(limits.maxTries, Math.floor(limits.maxSyns / Math.max(1, dials))));
}

/** The default caps. */
export const PUNCH_LIMITS: PunchLimits = {
  /** As many as one port may get. More would help little: 200 x 1100 hit with 96.7 % over all ports. */
  maxSockets: 200,
  maxBirthdayPorts: 1100,
  /** A quarter of the 5000 sessions at which home routers were seen to fail. */
  maxSyns: 1300,
  /** Lets 1024 SYNs leave while the peer's sockets wait for them: a burst of half a second, never sustained. */
  maxSynsPerSecond: 2000,
  /** The system retransmits each SYN after 1 s (RFC 6298 §2.1), which would double the cost. */
  birthdayMs: 980,
  /** Hosts with more addresses have virtual interfaces that no other host can reach. */
  maxHostTargets: 8,
  /** One second of skew at round trips of 10 ms, twice; after that whatever sends the resets is not the peer. */
  maxTries: 200,
  /** The ports of a birthday attempt, and a few more. */
  maxSynsPerAddress: 1300,
  /** One attempt without an answer: Linux sends eight SYNs in twelve seconds. */
  maxSynsPerPort: 8,
  /** Hosts in a LAN start to listen within a second of each other, and routers forward at once. */
  maxSynsElsewhere: 16,
  /** Covers the ports that other hosts behind the NAT take in three seconds at ten new connections per second. */
  maxPredictedPorts: 32,
  /** A skew between the sides of 10 s, and some round trips. NATs keep the filter open for longer: RFC 5382 REQ-5. */
  timeoutMs: 12_000,
};

/**
 * The caps of a punch by UDP, where a datagram takes the place of a SYN. The sockets of a birthday attempt are cheaper: the
 * system repeats nothing, and a mapping stays for 30 s (RFC 4787 REQ-5).
 */
export const UDP_LIMITS: PunchLimits = {
  ...PUNCH_LIMITS,
  /** Consumer routers passed 256 flows at a time, and lost all inbound datagrams at 512. */
  maxSockets: 256,
  /** The rest of the datagrams, without some for what follows a hit: 256 x 1030 hit with 98.3 % over all ports. */
  maxBirthdayPorts: 1030,
  /** 0.3 Mbyte/s for a third of a second: a punch that hits does so within 0.4 s more often than not. */
  maxSynsPerSecond: 4000,
  /** Lets late answers arrive. */
  birthdayMs: 3000,
};

/**
 * How many fresh ports this host has open for punches: those of all transports and of all searches together. Each is an
 * entry in the router, which other programs need, too.
 */
export class SessionBudget {
  #open = 0;

  /** Takes a session; `false` if all are taken. */
  take(): boolean {
    if (this.#open >= MAX_SESSIONS) return false;
    this.#open++;
    return true;
  }

  /** Gives one back. */
  giveBack(): void {
    this.#open--;
  }
}

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
  /** Whether the packet is a datagram, not a SYN. Default: `false`. */
  readonly isDatagram?: boolean;
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
  /** What this search shares with all others of this host. */
  readonly sessions: SessionBudget;

  constructor(sessions: SessionBudget = new SessionBudget()) {
    this.sessions = sessions;
  }

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
  #mayGoOn(
    { isExpected, isBirthday, isDatagram = false }: DialTarget,
    { isResetting }: PortCount,
  ): boolean {
    const limit = isDatagram ? UDP_LIMITS.maxSockets : PUNCH_LIMITS.maxTries;
    return isExpected && (isBirthday || isResetting) && this.#expected < limit;
  }
}

/** The budgets of the peers that this host has searched paths to lately. */
export class DialBudgets {
  readonly #budgets = new Map<string, DialBudget>();
  readonly #sessions = new SessionBudget();

  /** The budget of a peer, for a search that starts now. */
  begin(peer: string, nowMs: number): DialBudget {
    const budget = this.#budgets.get(peer) ?? new DialBudget(this.#sessions);
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

/** See {@linkcode UDP_LIMITS}: 512 were too many for some routers. */
const MAX_SESSIONS = 256;

/** How long a search counts for the next one with the same peer. */
const MEMORY_MS = 60_000;

/** Chosen by us: more peers than anyone accepts in a minute. */
const MAX_PEERS = 1024;
