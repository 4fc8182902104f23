/**
 * The seam between two peers who want to meet and whatever carries their messages until they have.
 *
 * @module
 */

/**
 * Carries small messages between exactly two parties. It may lose, duplicate, delay and reorder them; what is
 * said over it survives that. Nothing that arrives is trusted for having arrived.
 */
export interface SignalChannel {
  /**
   * Sends one message, at most {@linkcode MAX_SIGNAL_BYTES} long. Resolves when it is on its way, which does not
   * mean that it will arrive, nor that anybody is there.
   *
   * @throws {NetworkError} if the channel is closed or broken
   */
  send(message: Uint8Array): Promise<void>;

  /**
   * The next message. An aborted call loses none.
   *
   * @throws {NetworkError} if the channel is closed or broken
   */
  receive(options?: { signal?: AbortSignal }): Promise<Uint8Array>;

  /** A round trip between the parties, or an upper bound; `undefined` while nothing is known. */
  readonly rttMs?: number;

  /** Whether people carry the messages: as few as possible then, and each may take minutes. */
  readonly isManual?: boolean;
}

/** What every channel carries in one message; longer ones are refused by both ends. */
export const MAX_SIGNAL_BYTES = 4096;
