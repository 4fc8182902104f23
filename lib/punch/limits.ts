/**
 * What a punch may cost routers, networks and this host, as data. All of it is ours; the reasons stand beside.
 *
 * @module
 */

/** Caps on one punch. */
export interface PunchLimits {
  /** Sockets on fresh ports that one side opens; each takes a file descriptor here and an entry in the router. */
  readonly maxSockets: number;
  /** Ports of the peer that one side sprays. */
  readonly maxSprayedPorts: number;
  /** SYNs of a spray, of both sides together; and, with all that are repeated after resets, of one group of dials. */
  readonly maxSyns: number;
  /** SYNs that one side sends in a second. */
  readonly maxSynsPerSecond: number;
  /** From the first SYN of a spray until its sockets are given up. */
  readonly sprayMs: number;
  /** Addresses of the peer's own interfaces that are dialled. */
  readonly maxHostTargets: number;
  /** How often one target is dialled if each dial is reset. */
  readonly maxTries: number;
  /** Ports that one side dials for a predicted one, or pairs of ports where both are predicted. */
  readonly maxPredictedPorts: number;
  /** How long a side waits for the other's SYN. */
  readonly timeoutMs: number;
}

/**
 * The caps with some of them changed. Both sides plan by the caps, so both should have the same.
 *
 * @throws {RangeError} if one is negative, or not a finite number; a rate of 0 is none
 */
export function punchLimits(changes: Partial<PunchLimits> = {}): PunchLimits {
  const limits = { ...PUNCH_LIMITS, ...changes };
  for (const [name, value] of Object.entries(limits)) {
    const isValid = Number.isFinite(value) && value >= (name === "maxSynsPerSecond" ? 1 : 0);
    if (!isValid) throw new RangeError(`Cannot plan punch: ${name} must not be ${value}`);
  }
  return limits;
}

/** How often each of so many dials may be made, if all are reset each time. */
export function triesFor(limits: PunchLimits, dials: number): number {
  return Math.max(1, Math.min(limits.maxTries, Math.floor(limits.maxSyns / Math.max(1, dials))));
}

/** The caps that hold unless others are given. */
export const PUNCH_LIMITS: PunchLimits = {
  /** Four times what one page of a browser opens. More helps little: 256 and 1024 meet in 98.3 % over all ports. */
  maxSockets: 256,
  maxSprayedPorts: 1024,
  /** A quarter of the 5000 sessions at which home routers were seen to fail. */
  maxSyns: 1300,
  /** Lets 1024 leave while the peer's sockets wait for them; a burst of half a second, never kept up. */
  maxSynsPerSecond: 2000,
  /** The system sends each SYN again after 1 s (RFC 6298 §2.1), which would double the cost. */
  sprayMs: 980,
  /** Hosts with more have virtual interfaces that nobody else can reach. */
  maxHostTargets: 8,
  /** A second of skew at round trips of 10 ms, and as much again; then somebody resets who is not the peer. */
  maxTries: 200,
  /** Covers what others behind the NAT take in three seconds at ten new connections a second. */
  maxPredictedPorts: 32,
  /** Skew between the sides of 10 s, and some round trips. NATs keep the opening for longer: RFC 5382 REQ-5. */
  timeoutMs: 12_000,
};
