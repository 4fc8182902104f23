/**
 * Serves the connections of a peer, as `Deno.serve` does: each is handed to a handler, and a visitor that vanishes or a
 * handler that fails ends nothing but its own connection.
 *
 * @module
 */

import { toBase64url } from "../base/bytes.ts";
import { messageOf } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import { TaskGroup } from "../base/tasks.ts";
import type { PeerConnection } from "./connection.ts";
import { requireConnections } from "./context.ts";
import type { AcceptEarlier } from "./crossing_requests.ts";
import type { IncomingConnection } from "./incoming.ts";
import { abortable } from "@std/async/abortable";

/** Handles one connection, which is closed when this returns. */
export type ConnectionHandler = (connection: PeerConnection) => unknown;

/** The options of {@linkcode Peer.serve}. */
export interface ServeOptions {
  /** Ends serving, and resets the connections that are still handled. */
  readonly signal?: AbortSignal;
  /**
   * Called with what went wrong: what a handler threw, with its connection; or why a visitor was not connected, without.
   * Default: the peer's logger.
   */
  readonly onError?: (error: unknown, connection?: PeerConnection) => void;
  /** How many connections are handled or made at once; others are told that this side is busy. Default: 1,024. */
  readonly maxConnections?: number;
  /** The same for those of one key. Default: 16. */
  readonly maxPerKey?: number;
}

/** What a {@linkcode ConnectionServer} needs from its peer. */
export interface VisitorSource {
  /** As {@linkcode Peer.nextIncoming}. */
  nextIncoming(signal: AbortSignal): Promise<IncomingConnection>;
  /** Aborted when the peer is closed. */
  readonly closed: AbortSignal;
  /** Nothing is served any more. */
  onFinished(): void;
}

/** Serves the connections of a peer until it is shut down, or the peer is closed. */
export class ConnectionServer implements AsyncDisposable {
  /** Resolves once nothing is served any more, and every handler has returned. */
  readonly finished: Promise<void>;
  readonly #handler: ConnectionHandler;
  readonly #onError: (error: unknown, connection?: PeerConnection) => void;
  readonly #limits: { readonly connections: number; readonly perKey: number };
  /** Takes visitors. */
  readonly #taking: TaskGroup;
  /** Connects and handles them. */
  readonly #handling: TaskGroup;
  /** Visitors whose connections are being made. */
  readonly #visits = new Set<Visit>();
  readonly #counts = new Map<string, number>();
  #count = 0;
  #wake = () => {};

  /** @ignore made by {@linkcode Peer.serve} */
  constructor(
    source: VisitorSource,
    handler: ConnectionHandler,
    options: ServeOptions & { readonly logger?: Logger },
  ) {
    const { logger, signal } = options;
    const { onError = (error) => logger?.warn(`serve: ${messageOf(error)}`) } = options;
    const { maxConnections = MAX_CONNECTIONS, maxPerKey = MAX_PER_KEY } = options;
    this.#handler = handler;
    this.#onError = onError;
    this.#limits = {
      connections: requireConnections("maxConnections", maxConnections),
      perKey: requireConnections("maxPerKey", maxPerKey),
    };
    this.#taking = new TaskGroup(onError);
    this.#handling = new TaskGroup(onError);
    const { promise, resolve } = Promise.withResolvers<void>();
    this.finished = promise;
    this.#taking.run(async (stopped) => {
      const all = [stopped, source.closed, ...signal === undefined ? [] : [signal]];
      const ends = AbortSignal.any(all);
      const onAbort = () => void this.#handling.stop(signal?.reason);
      signal?.addEventListener("abort", onAbort, { once: true });
      try {
        for (;;) this.#take(await source.nextIncoming(ends));
      } catch (error) {
        if (!ends.aborted) throw error;
      } finally {
        source.onFinished();
        while (this.#count > 0) await new Promise<void>((resolve) => this.#wake = resolve);
        signal?.removeEventListener("abort", onAbort);
        resolve();
      }
    });
    if (signal?.aborted) void this.#handling.stop(signal.reason);
  }

  /** @ignore takes a connection that is being made from the handler, as {@linkcode AcceptEarlier} describes */
  readonly acceptEarlier: AcceptEarlier = (isWanted, signal) => {
    const visit = [...this.#visits].find((each) => each.isFree && isWanted(each.incoming));
    return visit?.claim(signal);
  };

  /** Takes no more visitors, and resolves once every handler has returned. */
  async shutdown(): Promise<void> {
    await this.#taking.stop(new DOMException("The server is shut down", "AbortError"));
    await this.finished;
  }

  /** Same as {@linkcode ConnectionServer.shutdown}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.shutdown();
  }

  #take(incoming: IncomingConnection): void {
    const key = toBase64url(incoming.remoteKey);
    const ofKey = this.#counts.get(key) ?? 0;
    if (this.#count >= this.#limits.connections || ofKey >= this.#limits.perKey) {
      return incoming.refuse("busy");
    }
    this.#note(key, +1);
    this.#handling.run(async (stopped) => {
      try {
        await this.#serve(incoming, stopped);
      } finally {
        this.#note(key, -1);
      }
    });
  }

  async #serve(incoming: IncomingConnection, stopped: AbortSignal): Promise<void> {
    const visit = new Visit(incoming);
    this.#visits.add(visit);
    const accepting = visit.accept(stopped).finally(() => this.#visits.delete(visit));
    const connection = await accepting;
    if (connection === undefined) return; // `connect()` has got it
    using _hold = connection.hold();
    const onStop = () => connection.reset();
    stopped.addEventListener("abort", onStop, { once: true });
    try {
      await this.#handler(connection);
      connection.close();
    } catch (error) {
      connection.reset();
      if (!stopped.aborted) this.#onError(error, connection);
    }
    try {
      await connection[Symbol.asyncDispose]();
    } finally {
      stopped.removeEventListener("abort", onStop);
    }
  }

  #note(key: string, difference: number): void {
    const ofKey = (this.#counts.get(key) ?? 0) + difference;
    if (ofKey > 0) this.#counts.set(key, ofKey);
    else this.#counts.delete(key);
    this.#count += difference;
    this.#wake();
  }
}

/** A visitor whose connection is being made, for the handler unless it is claimed. */
class Visit {
  readonly incoming: IncomingConnection;
  #claim: PromiseWithResolvers<PeerConnection> & { readonly signal?: AbortSignal } | undefined;
  #isOver = false;

  constructor(incoming: IncomingConnection) {
    this.incoming = incoming;
  }

  /** Whether the connection may still be claimed. */
  get isFree(): boolean {
    return !this.#isOver && this.#claim === undefined;
  }

  /** Gets the connection. If the caller gives up before, the handler gets it. */
  async claim(signal: AbortSignal | undefined): Promise<PeerConnection> {
    const { promise } = this.#claim = { ...Promise.withResolvers<PeerConnection>(), signal };
    try {
      return await (signal === undefined ? promise : abortable(promise, signal));
    } catch (error) {
      this.#claim = undefined;
      throw error;
    }
  }

  /** The connection for the handler; `undefined` if it was claimed, as is the reason why there is no connection. */
  async accept(signal: AbortSignal): Promise<PeerConnection | undefined> {
    const over = () => {
      this.#isOver = true; // a claim after this would wait in vain
      return this.#claim?.signal?.aborted ? undefined : this.#claim;
    };
    try {
      const connection = await this.incoming.accept({ signal });
      const claim = over();
      if (claim === undefined) return connection;
      claim.resolve(connection);
    } catch (error) {
      const claim = over();
      if (claim === undefined) throw error;
      claim.reject(error);
    }
    return undefined;
  }
}

/** Chosen by us: as many as wait to be accepted. */
const MAX_CONNECTIONS = 1024;

/** Chosen by us: a few programs of one person. */
const MAX_PER_KEY = 16;
