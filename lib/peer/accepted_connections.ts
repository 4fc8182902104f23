/**
 * The connections that a peer has accepted: which of them the other side may resume, and which search for paths runs for
 * each. Carries out what {@linkcode stepSearchQueue} decides.
 *
 * @module
 */

import { equalBytes } from "../base/bytes.ts";
import { ResettableTimer } from "../base/timers.ts";
import type { PeerConnection } from "./connection.ts";
import { resumptionId } from "./keys.ts";
import {
  EMPTY_SEARCH_QUEUE,
  type SearchQueueEvent,
  searchQueueWakeAtMs,
  stepSearchQueue,
} from "./listener_engine.ts";

/** The connections that this side has accepted. */
export class AcceptedConnections {
  /** Those that the other side may resume, by what names them. */
  readonly #resumable = new Map<string, PeerConnection>();
  readonly #searches = new WeakMap<PeerConnection, ConnectionSearches>();

  /** The connection of that name, if it belongs to the peer that asks for it. */
  find(id: string, remoteKey: Uint8Array): PeerConnection | undefined {
    const connection = this.#resumable.get(id);
    if (connection === undefined) return undefined;
    return equalBytes(connection.remoteKey, remoteKey) ? connection : undefined;
  }

  /** Lets the other side resume the connection until it has ended. */
  remember(connection: PeerConnection, connectionKey: Uint8Array): void {
    const id = resumptionId(connectionKey);
    this.#resumable.set(id, connection);
    const forget = () => this.#resumable.delete(id);
    connection.finished.then(forget, forget);
  }

  /** The searches for a connection. */
  searchesOf(connection: PeerConnection): ConnectionSearches {
    let searches = this.#searches.get(connection);
    if (searches === undefined) {
      searches = new ConnectionSearches(connection);
      this.#searches.set(connection, searches);
    }
    return searches;
  }
}

/** A search that waits for its turn, or runs. */
export interface QueuedSearch {
  /** Called when it is its turn. */
  start(): void;
  /** Ends it, started or not; {@linkcode ConnectionSearches.ended} has to follow. */
  end(reason: unknown): void;
}

/** The searches for one connection: one runs at a time, and a newer one replaces those before it. */
export class ConnectionSearches {
  readonly #searches = new Map<number, QueuedSearch>();
  readonly #timer = new ResettableTimer(() => this.#dispatch({ event: "time" }));
  #count = 0;
  #state = EMPTY_SEARCH_QUEUE;

  constructor(connection: PeerConnection) {
    const onFinished = () => {
      const reason = new DOMException("The connection has ended", "AbortError");
      for (const search of [...this.#searches.values()]) search.end(reason);
    };
    connection.finished.then(onFinished, onFinished);
  }

  /** Starts the search when it is its turn; returns its number. */
  request(search: QueuedSearch): number {
    const request = ++this.#count;
    this.#searches.set(request, search);
    this.#dispatch({ event: "requested", request });
    return request;
  }

  /** Notes that nothing of a search goes on. */
  ended(request: number): void {
    this.#searches.delete(request);
    this.#dispatch({ event: "ended", request });
  }

  #dispatch(event: SearchQueueEvent): void {
    const { state, actions } = stepSearchQueue(this.#state, event, performance.now());
    this.#state = state;
    for (const { action, request } of actions) {
      const search = this.#searches.get(request);
      if (action === "start") search?.start();
      else search?.end(new DOMException("The other side has begun anew", "AbortError"));
    }
    const wakeAtMs = searchQueueWakeAtMs(state);
    if (wakeAtMs === Infinity) this.#timer.clear();
    else this.#timer.set(Math.max(0, wakeAtMs - performance.now()));
  }
}
