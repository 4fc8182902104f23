/**
 * Looks for paths for a connection, over a line to the peer, and moves the connection to them.
 *
 * @module
 */

import { CHANNELS, type Line } from "./line.ts";
import { findPaths } from "./path_finder.ts";
import type { PeerConnection } from "./peer_connection.ts";
import type { PeerContext } from "./peer_context.ts";

/**
 * Searches until there is a direct path, or nothing more is to be expected.
 *
 * @throws {UnreachableError} if there is no path
 * @throws the signal's reason on abort
 */
export async function supplyPaths(
  context: PeerContext,
  line: Line,
  connection: PeerConnection,
  options: { role: "controlling" | "controlled"; signal: AbortSignal },
): Promise<void> {
  const { network, anchors, punchOptions, relays, mayRelay, timings, logger } = context;
  const moves: Promise<void>[] = [];
  const connectionKey = line.ready.then((seal) => seal.connectionKey);
  connectionKey.catch(() => {}); // whoever waits for it is told; without a path nobody may
  await findPaths({
    ...{ network, punchOptions, relays, mayRelay, ...options },
    punchChannel: line.channel(CHANNELS.punch),
    relayChannel: line.channel(CHANNELS.relay),
    connectionKey,
    remoteKey: connection.remoteKey,
    anchor: anchors?.take(options.signal),
    timeoutMs: timings.connectMs,
    onPath: (found) => {
      const moved = connection.move(found);
      // It may be overtaken by a better one, or by the end of the connection.
      moves.push(moved.catch((error) => logger?.debug(`connect: ${error}`)));
    },
  });
  await Promise.all(moves);
}

/**
 * Waits for the first path that a search finds. The search goes on in the background, as there may be a better one.
 *
 * @param search is told to end when the connection is over, and by `signal` until there is a path
 * @throws what the search throws, once it has ended
 */
export async function firstPath(
  context: PeerContext,
  connection: PeerConnection,
  search: (signal: AbortSignal) => Promise<void>,
  signal: AbortSignal | undefined,
): Promise<void> {
  const giveUp = new AbortController();
  const onAbort = () => giveUp.abort(signal?.reason);
  signal?.addEventListener("abort", onAbort, { once: true });
  if (signal?.aborted) onAbort();
  const searching = search(AbortSignal.any([giveUp.signal, overSignal(context, connection)]));
  context.inBackground(searching);
  try {
    await Promise.race([searching, connection.connected]);
    await connection.connected; // a search that ends without a throw has found one
  } catch (error) {
    giveUp.abort(error);
    connection.reset();
    await searching.catch(() => {});
    throw error;
  } finally {
    signal?.removeEventListener("abort", onAbort); // from here on the connection is its owner's affair
  }
}

/** Aborted when nobody needs another path. */
export function overSignal(context: PeerContext, connection: PeerConnection): AbortSignal {
  const over = new AbortController();
  connection.finished.catch(() => {}).then(() => over.abort(OVER));
  return AbortSignal.any([context.closed, over.signal]);
}

const OVER = new DOMException("The connection is over", "AbortError");
