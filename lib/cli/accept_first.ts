/**
 * Incoming connections for a command that serves one of them: the first that gets through is the one, and the others
 * are refused.
 *
 * @module
 */

import { NetworkError, PunchlineError, RefusedError } from "../base/errors.ts";
import { TaskGroup } from "../base/tasks.ts";
import type { PeerConnection } from "../peer/connection.ts";
import { REJECTION_CODES } from "../peer/rejection.ts";
import type { IncomingConnection } from "../peer/incoming.ts";
import { RESET_CODES } from "./pipe.ts";

/** A source of incoming connections, such as a {@linkcode Peer}. */
export interface IncomingSource {
  /** As {@linkcode Peer.nextIncoming}. */
  nextIncoming(options?: { signal?: AbortSignal }): Promise<IncomingConnection>;
}

/** Accepts a connection; `undefined` if that failed and was reported. */
export type Accept = (
  incoming: IncomingConnection,
  signal: AbortSignal,
) => Promise<PeerConnection | undefined>;

/**
 * Accepts incoming connections until one of them gets through. Several are tried at a time, because the first peer may
 * be gone and the next one should not have to wait for that to show. A peer that comes again replaces its own attempt;
 * among different ones the source decides.
 *
 * @param accept its signal is aborted when another connection gets through or takes its place
 * @throws what `accept` throws
 * @throws the signal's reason on abort, once none of the attempts runs any more
 */
export async function acceptFirst(
  source: IncomingSource,
  accept: Accept,
  { signal, turnAway = sayBusy }: {
    readonly signal: AbortSignal;
    /** Tells a peer that got through too late. Default: its connection is reset, with the reason. */
    readonly turnAway?: (connection: PeerConnection) => void;
  },
): Promise<PeerConnection> {
  return await new Attempts(accept, turnAway, signal).run(source);
}

/** Ends a connection for which there is no place. */
export function sayBusy(connection: PeerConnection): void {
  connection.reset(RESET_CODES.busy);
}

/** Hands each incoming connection to `take`, until the signal aborts or the source is closed. */
export async function forEachIncoming(
  source: IncomingSource,
  take: (incoming: IncomingConnection) => void,
  { signal }: { signal: AbortSignal },
): Promise<void> {
  try {
    for (;;) take(await source.nextIncoming({ signal }));
  } catch (error) {
    const isClosed = error instanceof NetworkError && error.reason === "closed";
    if (!signal.aborted && !isClosed) throw error;
  }
}

/**
 * Accepts a connection; `undefined` if no path works, or the other side has left or violates the protocol.
 *
 * @param report called with the error in these cases
 * @throws the signal's reason on abort
 */
export async function acceptOrReport(
  incoming: IncomingConnection,
  report: (error: Error) => void,
  { signal }: { signal: AbortSignal },
): Promise<PeerConnection | undefined> {
  try {
    return await incoming.accept({ signal });
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof PunchlineError)) throw error;
    report(error);
    return undefined;
  }
}

/** The connections that are being accepted. */
class Attempts {
  readonly #accept: Accept;
  readonly #turnAway: (connection: PeerConnection) => void;
  /** The caller's. */
  readonly #signal: AbortSignal;
  readonly #first = Promise.withResolvers<PeerConnection>();
  /** Takes connections from the source. Stopped when the race is decided. */
  readonly #taking = new TaskGroup((error) => this.#decide(() => this.#first.reject(error)));
  /** At most one for each peer, by its ID; the oldest first. */
  readonly #current = new Map<string, AbortController>();
  readonly #running = new Set<Promise<void>>();

  constructor(
    accept: Accept,
    turnAway: (connection: PeerConnection) => void,
    signal: AbortSignal,
  ) {
    this.#accept = accept;
    this.#turnAway = turnAway;
    this.#signal = signal;
  }

  async run(source: IncomingSource): Promise<PeerConnection> {
    this.#taking.run(async (decided) => {
      const open = AbortSignal.any([this.#signal, decided]);
      try {
        for (;;) this.#begin(await source.nextIncoming({ signal: open }));
      } catch (error) {
        await Promise.all(this.#running); // if the source is closed, one of them may still get through
        throw error;
      }
    });
    return await this.#first.promise;
  }

  #begin(incoming: IncomingConnection): void {
    const running = this.#attempt(incoming).finally(() => this.#running.delete(running));
    this.#running.add(running);
  }

  async #attempt(incoming: IncomingConnection): Promise<void> {
    const decided = this.#taking.signal;
    if (decided.aborted) return incoming.refuse("busy");
    const { remoteId } = incoming;
    const replaced = this.#replace(remoteId);
    try {
      const signal = AbortSignal.any([this.#signal, decided, replaced.signal]);
      const connection = await this.#accept(incoming, signal);
      if (connection === undefined) return;
      if (this.#signal.aborted || replaced.signal.aborted) return connection.reset();
      if (decided.aborted) return this.#turnAway(connection);
      this.#decide(() => this.#first.resolve(connection));
    } catch (error) {
      if (this.#signal.aborted || replaced.signal.aborted) return; // `run` or the new attempt goes on
      this.#decide(() => this.#first.reject(error));
    } finally {
      if (this.#current.get(remoteId) === replaced) this.#current.delete(remoteId);
    }
  }

  /** Ends the attempt of the same peer, which the new one replaces. */
  #replace(remoteId: string): AbortController {
    this.#current.get(remoteId)?.abort(REPLACED);
    this.#current.delete(remoteId);
    const replaced = new AbortController(); // one attempt ends and the others go on
    this.#current.set(remoteId, replaced);
    return replaced;
  }

  #decide(how: () => void): void {
    if (this.#taking.signal.aborted) return;
    how();
    this.#taking.stop(DECIDED);
  }
}

const REPLACED = new DOMException("Another connection took its place", "AbortError");
const DECIDED = new RefusedError(
  "Cannot accept: another connection got through first",
  REJECTION_CODES.busy,
);

/**
 * How many connections are being made at a time. Chosen by us: as many as the other side lets one key search for; each
 * takes a port and connections to STUN servers, which accept only a few from one address.
 */
export const MAX_PENDING = 8;
