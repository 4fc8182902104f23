/**
 * How long things of a relay last, and when they are refreshed.
 *
 * @module
 */

/** Times of TURN, as data so that a server with other ones, or a test, can have them. */
export interface TurnTimings {
  /** RFC 8656 §9: the Permission Lifetime, 5 minutes. */
  readonly permissionLifetimeMs: number;
  /** RFC 8656 §12: of a channel binding, 10 minutes. */
  readonly channelLifetimeMs: number;
  /** RFC 8656 §8.1: how long before its end a lifetime is renewed, a minute. At most half of the lifetime. */
  readonly refreshMarginMs: number;
  /**
   * Over UDP the allocation is refreshed at least this often, so that NATs on the way to the server keep their
   * mapping, and so that a server which has forgotten everything is noticed. Ours: NATs with 30 s are common.
   */
  readonly udpKeepaliveMs: number;
  /** RFC 6062 §4.3: for how long a server waits for ConnectionBind, 30 s. */
  readonly connectionBindMs: number;
  /** How patiently the release at the end is repeated: the waits after each request. Ours. */
  readonly releaseWaitsMs: readonly number[];
}

/** The times of the RFCs. */
export const RFC8656_TIMINGS: TurnTimings = {
  permissionLifetimeMs: 300_000,
  channelLifetimeMs: 600_000,
  refreshMarginMs: 60_000,
  udpKeepaliveMs: 25_000,
  connectionBindMs: 30_000,
  releaseWaitsMs: [250, 500, 750],
};

/** When to renew what lasts so long. */
export function renewalDelayMs(lifetimeMs: number, { refreshMarginMs }: TurnTimings): number {
  return Math.max(lifetimeMs - refreshMarginMs, lifetimeMs / 2, MIN_RENEWAL_MS);
}

/** Ours: a server that grants no time at all is not asked more often than this. */
const MIN_RENEWAL_MS = 500;

/** Ours: between something that could not be renewed and the next try. */
export const RETRY_MS = 5000;
