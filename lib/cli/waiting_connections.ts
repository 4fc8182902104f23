/**
 * Connections to a forwarded port that wait for a way to the peer.
 *
 * @module
 */

import { NetworkError } from "../base/errors.ts";
import { WrappedConnection } from "../net/deno_conn.ts";
import { TaskGroup } from "../base/tasks.ts";
import { ResettableTimer } from "../base/timers.ts";
import { isShortage } from "../net/shortage.ts";
import type { Shortage, TcpConnection } from "../net/network.ts";
import {
  initialWaitingState,
  stepWaiting,
  type WaitingEvent,
  type WaitingState,
  waitingWakeAtMs,
} from "./waiting_connections_engine.ts";

/** Runs a limited number of jobs at a time, each for one connection. */
export class WaitingConnections {
  /** When each that waits starts, or is given up. */
  readonly #turns = new Map<number, PromiseWithResolvers<void>>();
  /** The jobs that run. */
  readonly #jobs = new Map<number, TaskGroup>();
  readonly #timer = new ResettableTimer(() => this.#dispatch({ kind: "time" }));
  #state: WaitingState;
  #arrived = 0;

  /** @param atOnce how many jobs may run at a time */
  constructor(atOnce: number) {
    this.#state = initialWaitingState(atOnce);
  }

  /**
   * Runs the job as soon as its turn has come.
   *
   * @param job its signal is aborted if the connection is given up
   * @throws {NetworkError} `closed` if the connection was given up because the process has too many open files
   */
  async through<T>(
    connection: ReadAhead,
    job: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    await connection.isSettled; // one that its client has closed already must not take a place
    const id = this.#arrived++;
    const turn = Promise.withResolvers<void>();
    this.#turns.set(id, turn);
    connection.onEnd = () => this.#dispatch({ kind: "ended", id });
    this.#dispatch({ kind: "arrived", id, hasEnded: connection.hasEnded });
    await turn.promise;
    const { promise: result, resolve, reject } = Promise.withResolvers<T>();
    const tasks = new TaskGroup(reject);
    this.#jobs.set(id, tasks);
    tasks.run(async (signal) => {
      try {
        resolve(await job(signal));
      } catch (error) {
        reject(error);
      }
    });
    let isShort = false;
    try {
      return await result;
    } catch (error) {
      isShort = isShortage(error);
      throw error;
    } finally {
      this.#jobs.delete(id);
      this.#dispatch({ kind: "done", id, isShort });
    }
  }

  /** Notes that the listener has too many open files, or has no longer. */
  note(shortage: Shortage): void {
    this.#dispatch({ kind: "shortage", begins: shortage === "begins" });
  }

  #dispatch(event: WaitingEvent): void {
    const { state, actions } = stepWaiting(this.#state, event, performance.now());
    this.#state = state;
    for (const { kind, id } of actions) {
      const turn = this.#turns.get(id);
      this.#turns.delete(id);
      if (kind === "start") turn!.resolve();
      else if (turn !== undefined) turn.reject(new NetworkError(SHED, "closed"));
      else this.#jobs.get(id)?.stop(new NetworkError(SHED, "closed"));
    }
    const wakeAtMs = waitingWakeAtMs(state);
    if (wakeAtMs === Infinity) this.#timer.clear();
    else this.#timer.set(Math.max(0, wakeAtMs - performance.now()));
  }
}

/** A connection that knows whether the other end is closed before anyone has read that far. */
export class ReadAhead extends WrappedConnection {
  /** Called when the other end is closed. */
  onEnd = () => {};
  readonly #chunks: Uint8Array[] = [];
  #reading: Promise<void> | undefined;
  #hasEnded = false;
  #isTaken = false;

  /** @param connection taken over */
  constructor(connection: TcpConnection) {
    super(connection);
    this.#reading = this.#readAhead();
  }

  /** Whether the other end is closed, at least for writing. */
  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  /** Resolves once what had arrived before is read. */
  get isSettled(): Promise<void> {
    return new Promise((resolve) => setTimeout(resolve));
  }

  override async read(buffer: Uint8Array): Promise<number | null> {
    this.#isTaken = true;
    if (this.#chunks.length === 0) await this.#reading;
    const [chunk] = this.#chunks;
    if (chunk === undefined) return await this.inner.read(buffer);
    const length = Math.min(chunk.length, buffer.length);
    buffer.set(chunk.subarray(0, length));
    if (length < chunk.length) this.#chunks[0] = chunk.subarray(length);
    else this.#chunks.shift();
    return length;
  }

  /** Ends when the connection is read by others, which then receive the error or the end as well. */
  async #readAhead(): Promise<void> {
    const buffer = new Uint8Array(READ_AHEAD_BYTES / MAX_CHUNKS);
    while (!this.#isTaken && this.#chunks.length < MAX_CHUNKS) {
      const length = await this.inner.read(buffer).catch(() => null); // the next read throws it again
      if (length === null) {
        this.#hasEnded = true;
        return this.onEnd();
      }
      this.#chunks.push(buffer.slice(0, length));
    }
  }
}

const SHED = "Cannot forward: this process has too many open files";

/** Chosen by us: more than a client sends before it knows that someone answers. */
const READ_AHEAD_BYTES = 16 * 1024;
const MAX_CHUNKS = 16;
