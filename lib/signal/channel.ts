/**
 * The seam between two peers that want to connect and whatever carries their messages until they have.
 *
 * @module
 */

import type { Rate } from "../base/rate_limiter.ts";

/**
 * Carries small messages between exactly two parties. It may lose, duplicate, delay and reorder them: the protocols
 * that use it survive that. A message is not trusted because it arrived.
 */
export interface SignalChannel {
  /**
   * Sends one message of at most {@linkcode MAX_SIGNAL_BYTES}. Resolves when it is on its way, which means neither that
   * it will arrive nor that anyone is there.
   *
   * @throws {NetworkError} if the channel is closed or broken
   * @throws {RangeError} if the message is too long
   */
  send(message: Uint8Array): Promise<void>;

  /**
   * The next message. An aborted call loses none.
   *
   * @throws {NetworkError} if the channel is closed or broken
   * @throws the signal's reason on abort
   */
  receive(options?: { signal?: AbortSignal }): Promise<Uint8Array>;

  /** A round trip between the two parties or an upper bound of it, in milliseconds; `undefined` if it is not known. */
  readonly rttMs?: number;

  /** Whether people carry the messages: then as few as possible are sent, and each may take minutes. */
  readonly isManual?: boolean;
}

/** The longest message of every channel, in bytes; both ends refuse longer ones. */
export const MAX_SIGNAL_BYTES = 4096;

/**
 * How many messages of a server a client handles. Chosen by us: more than a busy peer gets. Without a limit, a server that
 * sends without a pause would keep the program from everything else, other servers included.
 */
export const MESSAGE_RATE: Rate = { burst: 8192, perSecond: 4096 };
