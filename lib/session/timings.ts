/**
 * When a session does what. All of it is ours.
 *
 * @module
 */

/** In milliseconds. */
export interface SessionTimings {
  /** A path over which nothing came for so long is asked whether it lives; that also holds the mappings of NATs. */
  readonly pingAfterMs: number;
  /** The same where the stream was flowing, and has stopped. */
  readonly pingStoppedAfterMs: number;
  /** A path is dead if nothing comes for so long after something that is to be answered, */
  readonly deadAfterMs: number;
  /** or so long after {@linkcode Session.probe}; */
  readonly suspectAfterMs: number;
  /** in either case not before so many round trips have passed. */
  readonly deadAfterRoundTrips: number;
  /** What has come is acknowledged so much later, unless much comes. */
  readonly acknowledgeAfterMs: number;
  /** How long a new path may take until the stream runs over it. */
  readonly attachMs: number;
  /** How long `close()` goes on in the background to deliver what was written, and waits for the other side's end. */
  readonly closeMs: number;
  /** How long a session that is finished stays for an other side that may not know it yet. */
  readonly lingerMs: number;
  /** How long the last words on a path may take. */
  readonly goodbyeMs: number;
}

/** What there is unless told otherwise. */
export const DEFAULT_SESSION_TIMINGS: SessionTimings = {
  pingAfterMs: 5000, // often enough for any NAT, and a hundred bytes or so
  pingStoppedAfterMs: 1000, // whoever only receives notices a dead path no later than who sends, but for that
  deadAfterMs: 5000, // TCP has repeated itself four times by then
  suspectAfterMs: 2000, // three times
  deadAfterRoundTrips: 4,
  acknowledgeAfterMs: 100,
  attachMs: 10_000,
  closeMs: 30_000,
  lingerMs: 5000,
  goodbyeMs: 1000,
};
