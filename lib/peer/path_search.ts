/**
 * Looks for paths for a connection, over a line to the peer, and moves the connection to them.
 *
 * @module
 */

import { NetworkError, UnreachableError } from "../base/errors.ts";
import { Deadline } from "../base/timers.ts";
import type { BaseSocket } from "../punch/punch.ts";
import type { PeerConnection } from "./connection.ts";
import type { PeerContext } from "./context.ts";
import { findPaths } from "./paths.ts";
import type { ConnectionRequest } from "./signaling_message.ts";
import { CHANNELS, type SignalingSession } from "./signaling_session.ts";
import { abortable } from "@std/async/abortable";

/**
 * Searches until there is a direct path, or nothing more is to be expected.
 *
 * @param options.wants as the knock says
 * @returns whether the connection came to run over a path: one that was found may be lost before
 * @throws {UnreachableError} if there is no path
 * @throws the signal's reason on abort
 */
export async function supplyPaths(
  context: PeerContext,
  line: SignalingSession,
  connection: PeerConnection,
  { role, wants, signal }: {
    role: "controlling" | "controlled";
    wants: ConnectionRequest["wants"];
    signal: AbortSignal;
  },
): Promise<boolean> {
  const { network, bases, punchOptions, relays, mayRelay, isHidden, timings, logger } = context;
  if (line.isManual && bases === undefined) throw onlyDirectManually();
  const moves: Promise<boolean>[] = [];
  const base = bases?.take(signal);
  if (role === "controlled") answerWithout(base, line);
  const connectionKey = line.ready.then((cipher) => cipher.connectionKey);
  connectionKey.catch(() => {}); // whoever waits for it is told; without a path nobody may
  await findPaths({
    ...{ network, role, punchOptions, relays, isHidden, signal },
    mayRelay: mayRelay && wants === "any" && !line.isManual, // by hand it would take many words
    punchChannel: line.channel(CHANNELS.punch),
    relayChannel: line.channel(CHANNELS.relay),
    connectionKey,
    remoteKey: connection.remoteKey,
    base,
    timeoutMs: line.isManual ? timings.manualMs : timings.connectMs,
    onPath: (found) => {
      const moved = connection.move(found).then(() => true, (error) => {
        logger?.debug(`connect: ${error}`); // overtaken by a better one, by the end of the connection, or lost
        return false;
      });
      moves.push(moved);
    },
  });
  // Who gives up leaves the moves that are under way to the connection.
  return (await abortable(Promise.all(moves), signal)).includes(true);
}

function onlyDirectManually(): UnreachableError {
  const message =
    "Cannot connect by hand: there are only direct ways then, and all of them are ruled out";
  return new UnreachableError(message, []);
}

/** The answer to a knock is the first offer of a punch; where there is none to be made, it says nothing. */
function answerWithout(base: Promise<BaseSocket> | undefined, line: SignalingSession): void {
  const answer = async () => {
    if (!line.isOpen) await line.channel(CHANNELS.control).send(new Uint8Array(0));
  };
  const failed = base === undefined ? answer() : base.then(() => {}, answer);
  failed.catch(() => {}); // the line is closed
}

/**
 * Waits for the first path that a search finds. The search goes on in the background, as there may be a better one.
 *
 * @param search is told to end when the connection is over, and by `signal` until there is a path
 * @param options.graceMs for another path, if all that were found are lost at once: the other side may come with one
 * @throws {NetworkError} if it does not
 * @throws what the search throws, once it has ended
 */
export async function firstPath(
  context: PeerContext,
  connection: PeerConnection,
  search: (signal: AbortSignal) => Promise<unknown>,
  { signal, graceMs }: { signal: AbortSignal | undefined; graceMs: number },
): Promise<void> {
  const deadline = new AbortController();
  const onAbort = () => deadline.abort(signal?.reason);
  signal?.addEventListener("abort", onAbort, { once: true });
  if (signal?.aborted) onAbort();
  const ended = AbortSignal.any([deadline.signal, overSignal(context, connection)]);
  const searching = search(ended);
  context.inBackground(searching);
  try {
    await Promise.race([searching, connection.connected]);
    await connectedWithin(connection, graceMs, ended);
  } catch (error) {
    deadline.abort(error);
    connection.reset();
    await searching.catch(() => {});
    throw error;
  } finally {
    signal?.removeEventListener("abort", onAbort); // from here on the connection is its owner's affair
  }
}

async function connectedWithin(
  { connected }: PeerConnection,
  ms: number,
  signal: AbortSignal,
): Promise<void> {
  using deadline = new Deadline(ms, signal);
  const over = Promise.withResolvers<never>();
  const onAbort = () => over.reject(signal.aborted ? signal.reason : lostAtOnce());
  deadline.signal.addEventListener("abort", onAbort, { once: true });
  if (deadline.signal.aborted) onAbort();
  await Promise.race([connected, over.promise]);
}

/** For paths that were found, and lost before they could be used. */
export function lostAtOnce(): NetworkError {
  return new NetworkError("Cannot connect: the path was lost before it could be used", "reset");
}

/** Aborted when nobody needs another path. */
export function overSignal(context: PeerContext, connection: PeerConnection): AbortSignal {
  const over = new AbortController();
  connection.finished.catch(() => {}).then(() => over.abort(OVER));
  return AbortSignal.any([context.closed, over.signal]);
}

const OVER = new DOMException("The connection is over", "AbortError");
