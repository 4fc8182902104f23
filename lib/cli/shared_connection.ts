/**
 * One connection to a peer for everything that a command forwards.
 *
 * @module
 */

import { messageOf } from "../base/errors.ts";
import type { TaskGroup } from "../base/tasks.ts";
import type { PeerConnection } from "../peer/connection.ts";

/** One connection to the peer for all who ask, made again for the next one after it has ended. */
export class SharedConnection {
  readonly #connect: (signal: AbortSignal) => Promise<PeerConnection>;
  readonly #tasks: TaskGroup;
  readonly #on: SharedConnectionEvents;
  #current: Promise<PeerConnection> | undefined;
  #connection: PeerConnection | undefined;
  #lastFailure: unknown;
  /** Whether this side has ended it. */
  #isReset = false;

  constructor(
    connect: (signal: AbortSignal) => Promise<PeerConnection>,
    tasks: TaskGroup,
    on: SharedConnectionEvents,
  ) {
    this.#connect = connect;
    this.#tasks = tasks;
    this.#on = on;
  }

  /** The connection, if there is one already. */
  get connection(): PeerConnection | undefined {
    return this.#connection;
  }

  get(): Promise<PeerConnection> {
    return this.#current ??= this.#open();
  }

  /** Whether this was reported already, as why there is no connection. */
  hasFailedWith(error: unknown): boolean {
    return error === this.#lastFailure;
  }

  /** Ends the connection, without an event. */
  reset(): void {
    this.#isReset = true;
    this.#connection?.reset();
  }

  #open(): Promise<PeerConnection> {
    const { promise, resolve, reject } = Promise.withResolvers<PeerConnection>();
    this.#tasks.run(async (signal) => {
      try {
        const connection = await this.#connect(signal);
        const hold = connection.hold();
        this.#connection = connection;
        this.#on.onConnected(connection);
        resolve(connection);
        const reason = await connection.finished.then(() => undefined, messageOf);
        hold[Symbol.dispose]();
        this.#current = this.#connection = undefined;
        if (!signal.aborted && !this.#isReset) this.#on.onEnded(reason);
      } catch (error) {
        this.#current = undefined;
        this.#lastFailure = error;
        reject(error);
        if (!signal.aborted) this.#on.onFailed(error);
      }
    });
    return promise;
  }
}

/** Called as the connection comes and goes. */
export interface SharedConnectionEvents {
  readonly onConnected: (connection: PeerConnection) => void;
  readonly onFailed: (error: unknown) => void;
  /** With the reason, unless both sides have ended it. */
  readonly onEnded: (reason: string | undefined) => void;
}
