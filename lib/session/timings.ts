/**
 * The timeouts and intervals of a session.
 *
 * @module
 */

/** The timeouts and intervals of a session, in milliseconds. */
export interface SessionTimings {
  /** A path is pinged after this much silence, which also keeps the mappings of NATs open. */
  readonly pingAfterMs: number;
  /** The same if stream data was arriving and has stopped. */
  readonly pingStoppedAfterMs: number;
  /** A path has stalled, and another is looked for, if an expected answer does not arrive within this time. */
  readonly stalledAfterMs: number;
  /** A path is dead if an expected answer does not arrive within this time, */
  readonly deadAfterMs: number;
  /** or within this time after {@linkcode Session.probe}; */
  readonly suspectAfterMs: number;
  /** in either case, not before this many round trips. */
  readonly deadAfterRoundTrips: number;
  /** Received data is acknowledged after this time at the latest. */
  readonly acknowledgeAfterMs: number;
  /** How long it may take until the stream runs over a new path. */
  readonly attachMs: number;
  /** How long `close()` continues in the background to deliver data and wait for the other side's end. */
  readonly closeMs: number;
  /** How long a finished session stays open, in case the other side does not know yet that everything arrived. */
  readonly lingerMs: number;
  /** How long the last frames on a path may take. */
  readonly goodbyeMs: number;
}

/** The default timings. */
export const DEFAULT_SESSION_TIMINGS: SessionTimings = {
  pingAfterMs: 5000, // often enough for any NAT, for about a hundred bytes
  pingStoppedAfterMs: 500, // so that a side that only receives detects a dead path about as early as the sender
  stalledAfterMs: 1000, // TCP has retransmitted twice by then; a search that was not needed costs some messages
  deadAfterMs: 5000, // TCP has retransmitted four times by then
  suspectAfterMs: 2000, // three times
  deadAfterRoundTrips: 4,
  acknowledgeAfterMs: 100,
  attachMs: 10_000,
  closeMs: 30_000,
  lingerMs: 5000,
  goodbyeMs: 1000,
};
