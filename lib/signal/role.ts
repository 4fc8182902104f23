/**
 * Decides which end of a channel is controlling, for two programs that were started alike.
 *
 * @module
 */

import { equalBytes } from "../base/bytes.ts";
import type { SignalChannel } from "./channel.ts";

/**
 * Agrees with the other end, which calls this too, on which of the two is controlling: each sends a random number, and
 * the larger one wins. Both ends have to be present, and the channel must not lose or reorder messages, which holds for
 * a {@linkcode WebSocketChannel} whose peer is present.
 *
 * @throws {NetworkError} if the channel is closed or broken
 * @throws the signal's reason on abort
 *
 * @example
 * ```ts ignore
 * import { agreeOnRole, openWebSocketChannel } from "@punchline/punchline/signal";
 *
 * await using channel = await openWebSocketChannel("ws://192.0.2.1:3480", "kitchen");
 * await channel.peerPresent();
 * const role = await agreeOnRole(channel);
 * ```
 */
export async function agreeOnRole(
  channel: SignalChannel,
  options: { signal?: AbortSignal } = {},
): Promise<"controlling" | "controlled"> {
  for (;;) {
    const own = crypto.getRandomValues(new Uint8Array(NUMBER_BYTES));
    await channel.send(own);
    let other = await channel.receive(options);
    while (other.length !== NUMBER_BYTES) other = await channel.receive(options); // another message
    if (!equalBytes(own, other)) return isLarger(own, other) ? "controlling" : "controlled";
  }
}

function isLarger(a: Uint8Array, b: Uint8Array): boolean {
  const index = a.findIndex((byte, index) => byte !== b[index]);
  return a[index]! > b[index]!;
}

/** Chosen by us: two numbers of this length are never equal by chance. */
const NUMBER_BYTES = 16;
