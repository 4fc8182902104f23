/**
 * The round-trip time of a path (RFC 9002 §5). Pure.
 *
 * @module
 */

/** What is known about the round trip. */
export interface RoundTrip {
  /** The latest sample; `undefined` before the first. */
  readonly latestMs: number | undefined;
  /** The exponentially weighted average. */
  readonly smoothedMs: number;
  /** The mean deviation. */
  readonly variationMs: number;
  /** The lowest sample so far; `Infinity` before the first. */
  readonly minimumMs: number;
}

/**
 * The estimate before the first acknowledgement.
 *
 * @param rttMs if it is known from elsewhere, such as the probes that found the path; otherwise {@linkcode INITIAL_RTT_MS}
 */
export function initialRoundTrip(rttMs: number = INITIAL_RTT_MS): RoundTrip {
  return {
    latestMs: undefined,
    smoothedMs: rttMs,
    variationMs: rttMs / 2,
    minimumMs: Infinity,
  };
}

/**
 * Adds a sample.
 *
 * @param ackDelayMs how long the other side says that it waited; at most {@linkcode MAX_ACK_DELAY_MS} count
 */
export function afterSample(
  trip: RoundTrip,
  sampleMs: number,
  ackDelayMs: number,
): RoundTrip {
  if (trip.latestMs === undefined) {
    return {
      latestMs: sampleMs,
      smoothedMs: sampleMs,
      variationMs: sampleMs / 2,
      minimumMs: sampleMs,
    };
  }
  const minimumMs = Math.min(trip.minimumMs, sampleMs);
  const delayMs = Math.min(ackDelayMs, MAX_ACK_DELAY_MS);
  const adjustedMs = sampleMs >= minimumMs + delayMs ? sampleMs - delayMs : sampleMs;
  return {
    latestMs: sampleMs,
    variationMs: trip.variationMs * 3 / 4 + Math.abs(trip.smoothedMs - adjustedMs) / 4,
    smoothedMs: trip.smoothedMs * 7 / 8 + adjustedMs / 8,
    minimumMs,
  };
}

/** How long to wait for an acknowledgement before probing for one (RFC 9002 §6.2.1), without backoff. */
export function probeTimeoutMs({ smoothedMs, variationMs }: RoundTrip): number {
  return smoothedMs + Math.max(4 * variationMs, GRANULARITY_MS) + MAX_ACK_DELAY_MS;
}

/** How much later than a packet another one must have been sent, to prove that the first is lost (RFC 9002 §6.1.2). */
export function lossDelayMs({ latestMs, smoothedMs }: RoundTrip): number {
  return Math.max(TIME_THRESHOLD * Math.max(latestMs ?? 0, smoothedMs), GRANULARITY_MS);
}

/** RFC 9000 §18.2: the default of max_ack_delay. */
export const MAX_ACK_DELAY_MS = 25;

/** RFC 9002 §6.2.2. */
const INITIAL_RTT_MS = 333;

/** RFC 9002 §6.1.2. */
const TIME_THRESHOLD = 9 / 8;

/** RFC 9002 §6.1.2. */
const GRANULARITY_MS = 1;
