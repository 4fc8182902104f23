/**
 * Those who come to a command that has room for one of them.
 *
 * @module
 */

import type { IncomingConnection } from "../connect/incoming.ts";
import type { Peer } from "../connect/peer.ts";
import type { PeerConnection } from "../connect/peer_connection.ts";

/**
 * Lets in all who come until one of them is through: who came first may have left again, and the next should not have
 * to wait for that to show. The others are told so.
 *
 * @param accept aborted when another one is through; `undefined` is a failure that has been told
 * @throws what `accept` throws
 * @throws the signal's reason, if nobody has come before that does get through
 */
export async function firstThrough(
  peer: Peer,
  accept: (
    incoming: IncomingConnection,
    signal: AbortSignal,
  ) => Promise<PeerConnection | undefined>,
  { signal }: { signal: AbortSignal },
): Promise<PeerConnection> {
  const first = Promise.withResolvers<PeerConnection>();
  const tooLate = new AbortController();
  const take = async (incoming: IncomingConnection) => {
    const connection = await accept(incoming, tooLate.signal);
    if (tooLate.signal.aborted) return connection?.reset();
    if (connection === undefined) return;
    tooLate.abort(new DOMException("Somebody else was faster", "AbortError"));
    first.resolve(connection);
  };
  const takeAll = async () => {
    const taken: Promise<void>[] = [];
    const open = AbortSignal.any([signal, tooLate.signal]);
    try {
      for (;;) taken.push(take(await peer.nextIncoming({ signal: open })).catch(first.reject));
    } catch (error) {
      await Promise.all(taken);
      first.reject(error);
    }
  };
  takeAll();
  return await first.promise;
}

/** Tells all who come that somebody else is there, until the signal. */
export async function refuseOthers(peer: Peer, { signal }: { signal: AbortSignal }): Promise<void> {
  try {
    for (;;) (await peer.nextIncoming({ signal })).refuse("busy");
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}
