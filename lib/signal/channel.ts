/**
 * The seam between two peers who want to meet and whatever carries their messages until they have.
 *
 * @module
 */

import { equalBytes } from "../base/bytes.ts";

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

/**
 * Agrees with the other end, which calls this too, on who is controlling: each says a random number, and the larger
 * one is. Both have to be there, and the channel must not lose or reorder messages: a {@linkcode WebSocketChannel}
 * whose peer is present does not.
 *
 * @throws {NetworkError} if the channel is closed or broken
 * @throws the signal's reason on abort
 */
export async function agreeOnRole(
  channel: SignalChannel,
  options: { signal?: AbortSignal } = {},
): Promise<"controlling" | "controlled"> {
  for (;;) {
    const ours = crypto.getRandomValues(new Uint8Array(LENGTH));
    await channel.send(ours);
    let theirs = await channel.receive(options);
    while (theirs.length !== LENGTH) theirs = await channel.receive(options); // not for us
    if (!equalBytes(ours, theirs)) return isLarger(ours, theirs) ? "controlling" : "controlled";
  }
}

function isLarger(a: Uint8Array, b: Uint8Array): boolean {
  const index = a.findIndex((byte, index) => byte !== b[index]);
  return a[index]! > b[index]!;
}

const LENGTH = 16;
