/**
 * How long a peer waits for what.
 *
 * @module
 */

import { BY_HAND_MS } from "../punch/manual.ts";

/** All of it in milliseconds. */
export interface PeerTimings {
  /** For a way to the other side, from the moment when both are on the line. */
  readonly connectMs: number;
  /** For a sign of the other side. */
  readonly answerMs: number;
  /** Instead of both, where people carry what the sides say. */
  readonly handMs: number;
  /** How long a connection whose path is lost waits for another one, if it is to be reconnected. */
  readonly reconnectMs: number;
  /** From one attempt to reconnect to the next, at first; twice as long each time, up to ten times that. */
  readonly retryMs: number;
  /**
   * From one search for a direct path to the next, while a relay carries the connection; twice as long each time, up to
   * sixteen times that.
   */
  readonly improveMs: number;
}

/** Ours. */
export const PEER_TIMINGS: PeerTimings = {
  /** What a punch takes with all of its rounds. */
  connectMs: 30_000,
  /** Somebody has to accept, perhaps by hand. */
  answerMs: 30_000,
  handMs: BY_HAND_MS,
  /** A laptop that is carried from one room, or network, to another. */
  reconnectMs: 120_000,
  retryMs: 1000,
  /** A spray that missed may hit, and networks change; but who has no other way has none a minute later. */
  improveMs: 60_000,
};
