/**
 * The options of a session: its timeouts and intervals, what it tells, and what may use its stream.
 *
 * @module
 */

import type { MalformedMessageError, NetworkError } from "../base/errors.ts";
import type { TransportAddress } from "../net/address.ts";
import type { SessionRole } from "./migration_engine.ts";
import type { WindowSource } from "./receive_stream.ts";

/** The options of a {@linkcode Session}. */
export interface SessionOptions {
  /** The controlling side numbers the paths. The two sides must have different roles. */
  readonly role: SessionRole;
  /** Overrides of {@linkcode DEFAULT_SESSION_TIMINGS}. */
  readonly timings?: Partial<SessionTimings>;
  /** How long the session waits for another path after it has lost one. Default: 0, the session fails with its path. */
  readonly timeoutMs?: number;
  /**
   * The most data to keep in each direction, not acknowledged or not read: at least 64 KiB. Default: 32 MiB, of which
   * 4 MiB are used until the path has shown to need more.
   */
  readonly windowBytes?: number;
  /** Where the memory comes from that is kept beyond 64 KiB in each direction. Default: there is always enough. */
  readonly windows?: WindowSource;
  /** What a code means with which the other side resets the session, for people. Default: nothing in particular. */
  readonly reasonOf?: (code: number) => string | undefined;
  /** Called on every event. It must not throw. */
  readonly onEvent?: (event: SessionEvent) => void;
}

/** The options of a `StreamSession`. */
export type StreamSessionOptions = SessionOptions & MultiplexerOptions;

/** How a session shares its stream between several. */
export interface MultiplexerOptions {
  /** The most data to keep for the reader of a stream. Default: 32 MiB, as of a session. */
  readonly windowBytes?: number;
  /** Where the memory comes from that is kept beyond the least of each stream. Default: there is always enough. */
  readonly windows?: WindowSource;
  /** How many streams each side may have open at once, besides the first. Default: 1,024. */
  readonly maxStreams?: number;
  /** How long a session stays that has neither streams nor a holder. Default: 30 s. */
  readonly idleMs?: number;
}

/** A change of a session. */
export type SessionEvent =
  /** The stream runs over a path, its first or another. */
  | {
    readonly event: "attached";
    readonly local: TransportAddress;
    readonly remote: TransportAddress;
  }
  /** The path has not answered for a while, or is heard again. */
  | { readonly event: "stalled" | "resumed" }
  /** The path is dead or was cut. The stream waits for another. */
  | { readonly event: "lost"; readonly error: NetworkError }
  /** The session has ended; with an `error`, if it ended before both sides finished. */
  | { readonly event: "ended"; readonly error?: NetworkError | MalformedMessageError };

/** What uses the stream of a session instead of `read()` and `write()`, such as several streams over it. */
export interface SessionLayer {
  /** Whether data was discarded that the other side expected to be read. */
  readonly hasDiscarded: boolean;
  /** Called once, before anything else. */
  open(log: SessionLog): void;
  /** Bytes have arrived, in order. @throws {MalformedMessageError} if they break the protocol */
  onBytes(data: Uint8Array): void;
  /** The other side writes no more. */
  onEnd(): void;
  /** There may be room. It may write; what is written is sent afterwards. */
  onRoom(): void;
  /** This side closes the session: the layer writes what is left, and then ends the stream. */
  close(reason: NetworkError): void;
  /** Discards what has arrived and is not read. */
  discard(reason: NetworkError): void;
  /** Nothing may be under way: memory that is kept for reuse can be given back. */
  rest(): void;
  /** The session is over. */
  onSessionOver(reason: unknown): void;
}

/** The stream of a session, as its {@linkcode SessionLayer} writes to it. */
export interface SessionLog {
  /** Where the session goes. */
  readonly addresses: { readonly local: TransportAddress; readonly remote: TransportAddress };
  /** How many bytes may be appended now. */
  room(): number;
  /** Appends bytes, for which there must be room; `more` are appended next. */
  append(bytes: Uint8Array, more?: number): void;
  /** Sends what was appended. */
  flush(): void;
  /** The shortest round trip of the current path. */
  rttMs(): number | undefined;
  /** Ends the stream after what was appended. */
  end(): void;
}

/** The timeouts and intervals of a session, in milliseconds. */
export interface SessionTimings {
  /** A path is pinged after this much silence, which also keeps the mappings of NATs open. */
  readonly pingAfterMs: number;
  /** The same if stream data was arriving and has stopped. */
  readonly pingStoppedAfterMs: number;
  /** A path has stalled, and another is looked for, if an expected answer does not arrive within this time. */
  readonly stalledAfterMs: number;
  /** The same for the answer to a ping that was sent while no other answer was expected; not before four round trips. */
  readonly pingStalledAfterMs: number;
  /** A path is dead if an expected answer does not arrive within this time, */
  readonly deadAfterMs: number;
  /** or within this time after {@linkcode Session.probe}; */
  readonly suspectAfterMs: number;
  /** in either case, not before this many round trips. */
  readonly deadAfterRoundTrips: number;
  /** Received data is acknowledged after this time at the latest. */
  readonly acknowledgeAfterMs: number;
  /** The same if it is so much that a sender with little memory waits for it. */
  readonly acknowledgeSoonMs: number;
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
  pingStalledAfterMs: 500, // TCP has retransmitted once by then
  deadAfterMs: 5000, // TCP has retransmitted four times by then
  suspectAfterMs: 2000, // three times
  deadAfterRoundTrips: 4,
  acknowledgeAfterMs: 100,
  acknowledgeSoonMs: 5, // two hundred times a second at most
  attachMs: 10_000,
  closeMs: 30_000,
  lingerMs: 5000,
  goodbyeMs: 1000,
};
