/**
 * Who is who, for two ends of a channel that nobody has told.
 *
 * @module
 */

import { equalBytes } from "../base/bytes.ts";
import type { SignalChannel } from "./channel.ts";

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
