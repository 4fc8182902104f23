/**
 * Whether the relay of a rendezvous server carries long messages as well as short ones: the link to it may swallow long
 * packets (an "MTU hole", RFC 2923 §2.1).
 *
 * @module
 */

import { NetworkError } from "../../base/errors.ts";
import { writeAll } from "../../base/reader.ts";
import { runAll } from "../../base/tasks.ts";
import { Deadline } from "../../base/timers.ts";
import type { Network, TcpConnection } from "../../net/network.ts";
import { RELAY_TOKEN_BYTES } from "./message.ts";
import { openRelayConnection } from "./relay_connection.ts";

/**
 * Joins two connections of this host at the relay, and sends from one to the other and back: short messages, then long
 * ones.
 *
 * @returns `"stalls"` if short messages pass and long ones do not
 * @throws as {@linkcode openRelayConnection}, or {@linkcode NetworkError} if the relay ends the connections
 * @throws the signal's reason on abort, if no message had passed by then
 */
export async function checkRelay(
  url: string,
  { network, signal }: { readonly network: Network; readonly signal: AbortSignal },
): Promise<"works" | "stalls"> {
  const token = crypto.getRandomValues(new Uint8Array(RELAY_TOKEN_BYTES));
  let hasPassedShort = false;
  try {
    const open = () => openRelayConnection(url, { network, token, signal });
    const ends = await Promise.allSettled([open(), open()]);
    using opened = new DisposableStack();
    for (const end of ends) if (end.status === "fulfilled") opened.use(end.value);
    const [a, b] = ends.map((end) => {
      if (end.status === "rejected") throw end.reason;
      return end.value;
    }) as [TcpConnection, TcpConnection];
    const reset = () => opened.dispose();
    signal.addEventListener("abort", reset, { once: true });
    try {
      await pass(a, b, SHORT_BYTES);
      await pass(b, a, SHORT_BYTES);
      hasPassedShort = true;
      using stall = new Deadline(STALL_MS, signal);
      stall.signal.addEventListener("abort", reset, { once: true });
      await runAll([() => pass(a, b, LONG_BYTES), () => pass(b, a, LONG_BYTES)]);
      stall.signal.removeEventListener("abort", reset);
    } finally {
      signal.removeEventListener("abort", reset);
    }
    return "works";
  } catch (error) {
    if (hasPassedShort) return "stalls";
    signal.throwIfAborted();
    throw error;
  }
}

async function pass(from: TcpConnection, to: TcpConnection, bytes: number): Promise<void> {
  await writeAll(from, new Uint8Array(bytes));
  const buffer = new Uint8Array(bytes);
  for (let received = 0; received < bytes;) {
    const count = await to.read(buffer);
    if (count === null) throw new NetworkError("Cannot relay: the relay ended it", "reset");
    received += count;
  }
}

/** Chosen by us: short messages fit any packet; long ones fill several of the longest. */
const SHORT_BYTES = 16;
const LONG_BYTES = 8192;

/** As for paths: what has not come in a second is lost, not late. */
const STALL_MS = 1200;
