/**
 * Tries what was predicted: connects to the other side by its ticket, and closes the connection.
 *
 * @module
 */

import { messageOf, PunchlineError, UnreachableError } from "../base/errors.ts";
import { Deadline } from "../base/timers.ts";
import type { PeerConnection } from "../peer/connection.ts";
import { Peer } from "../peer/peer.ts";
import type { PeerOptions } from "../peer/options.ts";
import type { PairReport } from "./report_message.ts";

/** What happened. */
export type TriedPair = NonNullable<PairReport["tried"]>;

/**
 * Connects, sends nothing, and closes. Whatever the network or the other side does is a result.
 *
 * @param options as for any peer
 * @throws the signal's reason on abort
 */
export async function tryPair(ticket: string, options: PeerOptions): Promise<TriedPair> {
  const { signal } = options;
  const startMs = performance.now();
  const elapsed = () => performance.now() - startMs;
  try {
    await using peer = await Peer.open({ ...options, listen: false, reconnect: true });
    await using connection = await peer.connect(ticket, { signal });
    const connectedMs = elapsed();
    if (connection.path.relayed) await untilDirect(connection, signal);
    const { kind, method, transport, relayed } = connection.path;
    const by = method === null ? kind : `${kind}, ${method}`;
    return {
      outcome: relayed ? "relay" : "direct",
      isAnswered: true,
      reason: `over ${transport.toUpperCase()} (${by})`,
      elapsedMs: connectedMs,
    };
  } catch (error) {
    signal?.throwIfAborted();
    if (!(error instanceof PunchlineError)) throw error;
    const isAnswered = error instanceof UnreachableError && error.attempts.length > 0;
    return { outcome: "none", isAnswered, reason: reasonOf(error), elapsedMs: elapsed() };
  }
}

/** A connection that begins with a relay moves to a direct path as soon as there is one. */
async function untilDirect(connection: PeerConnection, signal?: AbortSignal): Promise<void> {
  using deadline = new Deadline(DIRECT_MS, signal);
  const { promise: ended, resolve } = Promise.withResolvers<void>();
  deadline.signal.addEventListener("abort", () => resolve());
  await Promise.race([ended, directOf(connection)]);
}

async function directOf(connection: PeerConnection): Promise<void> {
  for await (const event of connection.events) {
    if (event.event === "path" && !event.path.relayed) return;
  }
}

function reasonOf(error: PunchlineError): string {
  if (!(error instanceof UnreachableError) || error.attempts.length === 0) return messageOf(error);
  const reasons = error.attempts.flatMap(({ reason }) => reason ?? []);
  return reasons.length === 0 ? messageOf(error) : `${messageOf(error)}: ${reasons[0]}`;
}

/** Chosen by us: a punch that needs longer than the relay mostly ends within it. */
const DIRECT_MS = 5000;
