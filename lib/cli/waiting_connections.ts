/**
 * Connections to a forwarded port that wait for a way to the peer.
 *
 * @module
 */

import { NetworkError } from "../base/errors.ts";
import { isShortage } from "../net/shortage.ts";
import type { Shortage, TcpConnection } from "../net/network.ts";

/**
 * Runs a limited number of jobs at a time, each for one connection. When a job ends, the newest connection whose
 * client is still there goes next; those whose clients have closed come last. After a flood, the oldest have been given up by whoever opened them, and
 * a newcomer would wait for all of them.
 */
export class WaitingConnections {
  readonly #waiting: Waiting[] = [];
  #free: number;
  #isListenerShort = false;
  #jobShortUntilMs = -Infinity;

  /** @param atOnce how many jobs may run at a time */
  constructor(atOnce: number) {
    this.#free = atOnce;
  }

  /**
   * Runs the job as soon as its turn has come.
   *
   * @throws {NetworkError} `closed` if the connection was given up because the process has too many open files
   */
  async through<T>(connection: ReadAhead, job: () => Promise<T>): Promise<T> {
    await connection.isSettled; // one that its client has closed already must not take a place
    if (this.#free > 0 && !(this.#isShort && connection.hasEnded)) this.#free--;
    else {
      const turn = Promise.withResolvers<void>();
      this.#waiting.push({ connection, turn });
      connection.onEnd = () => this.#shed();
      this.#shed();
      await turn.promise;
    }
    try {
      return await job();
    } catch (error) {
      if (isShortage(error)) this.#jobShortUntilMs = performance.now() + JOB_SHORTAGE_MS;
      throw error;
    } finally {
      this.#shed();
      const next = this.#next();
      if (next === undefined) this.#free++;
      else next.turn.resolve();
    }
  }

  /** Notes that the listener has too many open files, or has no longer. */
  note(shortage: Shortage): void {
    this.#isListenerShort = shortage === "begins";
    this.#shed();
  }

  /** A listener that accepts nothing does not always know why; jobs find out sooner. */
  get #isShort(): boolean {
    return this.#isListenerShort || performance.now() < this.#jobShortUntilMs;
  }

  /**
   * In a shortage, gives up those whose client has closed its end, and the oldest others. A client may close its end and
   * still wait for an answer, but most such clients are gone, and the others need their file descriptors.
   */
  #shed(): void {
    if (!this.#isShort) return;
    const live = this.#waiting.filter(({ connection }) => !connection.hasEnded);
    const kept = live.slice(-MAX_WAITING_IN_SHORTAGE);
    for (const each of this.#waiting.splice(0)) {
      if (kept.includes(each)) this.#waiting.push(each);
      else each.turn.reject(shedError());
    }
  }

  #next(): Waiting | undefined {
    const index = this.#waiting.findLastIndex(({ connection }) => !connection.hasEnded);
    return this.#waiting.splice(index, 1)[0]; // -1 is the last
  }
}

interface Waiting {
  readonly connection: ReadAhead;
  readonly turn: PromiseWithResolvers<void>;
}

/** A connection that knows whether the other end is closed before anyone has read that far. */
export class ReadAhead implements TcpConnection {
  readonly local: TcpConnection["local"];
  readonly remote: TcpConnection["remote"];
  /** Called when the other end is closed. */
  onEnd = () => {};
  readonly #connection: TcpConnection;
  readonly #chunks: Uint8Array[] = [];
  #reading: Promise<void> | undefined;
  #hasEnded = false;
  #isTaken = false;

  /** @param connection taken over */
  constructor(connection: TcpConnection) {
    this.#connection = connection;
    this.local = connection.local;
    this.remote = connection.remote;
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

  async read(buffer: Uint8Array): Promise<number | null> {
    this.#isTaken = true;
    if (this.#chunks.length === 0) await this.#reading;
    const [chunk] = this.#chunks;
    if (chunk === undefined) return await this.#connection.read(buffer);
    const length = Math.min(chunk.length, buffer.length);
    buffer.set(chunk.subarray(0, length));
    if (length < chunk.length) this.#chunks[0] = chunk.subarray(length);
    else this.#chunks.shift();
    return length;
  }

  write(data: Uint8Array): Promise<number> {
    return this.#connection.write(data);
  }

  closeWrite(): Promise<void> {
    return this.#connection.closeWrite();
  }

  close(): void {
    this.#connection.close();
  }

  reset(): void {
    this.#connection.reset();
  }

  ref(): void {
    this.#connection.ref?.();
  }

  unref(): void {
    this.#connection.unref?.();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Ends when the connection is read by others, which then receive the error or the end as well. */
  async #readAhead(): Promise<void> {
    const buffer = new Uint8Array(READ_AHEAD_BYTES / MAX_CHUNKS);
    while (!this.#isTaken && this.#chunks.length < MAX_CHUNKS) {
      const length = await this.#connection.read(buffer).catch(() => null); // the next read throws it again
      if (length === null) {
        this.#hasEnded = true;
        return this.onEnd();
      }
      this.#chunks.push(buffer.slice(0, length));
    }
  }
}

function shedError(): NetworkError {
  return new NetworkError("Cannot forward: this process has too many open files", "closed");
}

/** Chosen by us: while there are no file descriptors, those of connections that wait are needed to dial. */
const MAX_WAITING_IN_SHORTAGE = 8;

/** Chosen by us: longer than it takes to free the file descriptors of a few hundred connections. */
const JOB_SHORTAGE_MS = 1000;

/** Chosen by us: more than a client sends before it knows that someone answers. */
const READ_AHEAD_BYTES = 16 * 1024;
const MAX_CHUNKS = 16;
