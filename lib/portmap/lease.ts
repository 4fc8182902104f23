/**
 * When to ask for a lease again: RFC 6887 §11.2.1, which does for all three protocols.
 *
 * @module
 */

/** How long a gateway keeps a port open, and since when. */
export interface Lease {
  /** `Infinity` if it never expires. */
  readonly lifetimeSeconds: number;
  /** When the answer came, on the clock of `performance.now()`. */
  readonly grantedAtMs: number;
}

/** When a lease is over, on the clock of `performance.now()`. */
export function expiryMs({ lifetimeSeconds, grantedAtMs }: Lease): number {
  return grantedAtMs + lifetimeSeconds * 1000;
}

/**
 * When to renew a lease, on the clock of `performance.now()`: between 1/2 and 5/8 of its lifetime; if that fails
 * between 3/4 and 13/16, and so on, half of what is left each time. `Infinity` if nothing is left to try, because
 * it would be less than 4 s after the last time, or the lease never expires.
 *
 * @param attempt how many renewals of this lease have failed
 * @param random from 0 to 1, so that hosts do not ask in step
 */
export function renewalMs(lease: Lease, attempt: number, random: number): number {
  const { lifetimeSeconds, grantedAtMs } = lease;
  if (lifetimeSeconds === Infinity) return Infinity;
  const share = 2 ** -(attempt + 1);
  if (attempt > 0 && lifetimeSeconds * share < MIN_INTERVAL_SECONDS) return Infinity;
  return grantedAtMs + lifetimeSeconds * 1000 * (1 - share + random * share / 4);
}

/**
 * How long to wait before the next try to repair a mapping.
 *
 * @param failures how many tries have failed since it last worked; at least 1
 */
export function repairDelayMs(failures: number): number {
  return Math.min(MIN_INTERVAL_SECONDS * 2 ** (failures - 1), MAX_REPAIR_SECONDS) * 1000;
}

/**
 * How long to wait before mappings are made anew after the gateway has lost them all: RFC 6887 §8.5, RFC 6886 §3.7.
 *
 * @param random from 0 to 1
 */
export function restartDelayMs(random: number): number {
  return random * MAX_RESTART_DELAY_MS;
}

/** RFC 6887 §11.2.1. */
export const MIN_INTERVAL_SECONDS = 4;

/** RFC 6887 §8.5: all hosts of a home ask at once otherwise. */
const MAX_RESTART_DELAY_MS = 5000;

/** Ours: a router that comes back is noticed within minutes, and one that does not costs a few packets an hour. */
const MAX_REPAIR_SECONDS = 300;
