/**
 * What a punch may cost routers, networks and this host. All numbers are chosen by us; the reasons stand beside them.
 *
 * @module
 */

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
