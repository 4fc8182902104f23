/**
 * One of the streams that share a session.
 *
 * @module
 */

import { partOf } from "../base/bytes.ts";
import { NetworkError } from "../base/errors.ts";
import { optionalResolvers } from "../base/tasks.ts";
import { ResettableTimer } from "../base/timers.ts";
import type { TransportAddress } from "../net/address.ts";
import { type DenoConn, type NetAddress, toDenoConn, toNetAddress } from "../net/deno_conn.ts";
import { checkResetCode } from "./frame.ts";
import type { SessionLog } from "./options.ts";
import type { ReceiveStream } from "./receive_stream.ts";
import { OPEN_STREAM, stepStream, type StreamAction, type StreamEvent } from "./stream_engine.ts";
import { encodeStreamFrame, writeStreamDataHeader } from "./frame.ts";

/** What a stream needs from what it shares with others. */
export interface StreamOwner {
  /** Where the session goes. */
  readonly addresses: { readonly local: TransportAddress; readonly remote: TransportAddress };
  /** The stream has a frame without data to write. */
  onControl(stream: SessionStream): void;
  /** The stream has data to write, or its end. */
  onWritable(stream: SessionStream): void;
  /** Both directions have ended. */
  onOver(stream: SessionStream): void;
}

/**
 * One of the streams of a connection: a `Deno.Conn` that is opened for nothing, and ends by itself. It behaves like a TCP
 * connection: `closeWrite()` finishes one direction, `close()` delivers what was written, and resets the stream if the
 * other side keeps sending, `reset()` ends both directions at once.
 *
 * @example
 * ```ts ignore
 * using stream = await connection.openStream();
 * await stream.write(new TextEncoder().encode("GET / HTTP/1.0\r\n\r\n"));
 * await stream.closeWrite();
 * console.log(await new Response(stream.readable).text());
 * ```
 */
export class SessionStream implements DenoConn {
  /** Its number within the connection: 0 for the connection's first stream. */
  readonly id: number;
  readonly #owner: StreamOwner;
  readonly #receiving: ReceiveStream;
  readonly #writes: PendingWrite[] = [];
  readonly #ending: PromiseWithResolvers<void> = optionalResolvers();
  readonly #finished: PromiseWithResolvers<void> = optionalResolvers();
  #state = OPEN_STREAM;
  #sentBytes = 0;
  #limit: number;
  /** The frames without data that are to be written. */
  #isOpenDue: boolean;
  #isWindowDue = false;
  #isEndDue = false;
  #dueResetCode: number | undefined;
  #failure: { readonly reason: unknown } | undefined;
  #resetCode: number | undefined;
  /** Set while this side has closed it, and the other side has to end it as well. */
  #closeTimer: ResettableTimer | undefined;
  #conn: DenoConn | undefined;
  #wasReset = false;

  /** @ignore made by a connection */
  constructor(id: number, owner: StreamOwner, options: StreamOptions) {
    this.id = id;
    this.#owner = owner;
    this.#receiving = options.receiving;
    this.#limit = options.limit;
    this.#isOpenDue = options.isOpening;
  }

  /** Resolves once both directions have ended; rejects if the stream or its connection ends before. */
  get finished(): Promise<void> {
    return this.#finished.promise;
  }

  /** This side's address of the connection's path. */
  get local(): TransportAddress {
    return this.#owner.addresses.local;
  }

  /** The other side's address of the connection's path. */
  get remote(): TransportAddress {
    return this.#owner.addresses.remote;
  }

  /** {@linkcode SessionStream.local} in Deno's form. */
  get localAddr(): NetAddress {
    return toNetAddress(this.local);
  }

  /** {@linkcode SessionStream.remote} in Deno's form. */
  get remoteAddr(): NetAddress {
    return toNetAddress(this.remote);
  }

  /** The other side's bytes, until it finishes. Cancelling it closes the stream. */
  get readable(): ReadableStream<Uint8Array<ArrayBuffer>> {
    return (this.#conn ??= toDenoConn(this)).readable;
  }

  /** Takes the bytes to send. Closing it calls `closeWrite()`, aborting it calls `reset()`. */
  get writable(): WritableStream<Uint8Array> {
    return (this.#conn ??= toDenoConn(this)).writable;
  }

  /** How many bytes were received so far. */
  get receivedBytes(): number {
    const { received, isFinished } = this.#receiving;
    return received - (isFinished ? 1 : 0);
  }

  /** Why the other side has reset the stream: the code that it gave to `reset()`, 0 if it gave none. */
  get resetCode(): number | undefined {
    return this.#resetCode;
  }

  /**
   * Reads into the start of `buffer`. One call at a time.
   *
   * @returns the number of bytes, or `null` once the other side has finished
   * @throws {NetworkError} `reset` if the other side has reset the stream, `closed` if this side has closed it; or why the
   * connection has ended
   */
  read(buffer: Uint8Array): Promise<number | null> {
    const reading = this.#receiving.read(buffer);
    this.#updateWindow();
    return reading;
  }

  /**
   * Writes all of `data`, which must not change until the call returns. Resolves once the data is being sent or waits for a
   * path.
   *
   * @returns the length of `data`
   * @throws {TypeError} after `closeWrite()`
   * @throws {NetworkError} as {@linkcode SessionStream.read}
   */
  async write(data: Uint8Array): Promise<number> {
    if (this.#failure !== undefined) throw this.#failure.reason;
    if (this.#state.sending !== "open") throw new TypeError("Cannot write: the stream was ended");
    if (data.length === 0) return 0;
    const write: PendingWrite = { rest: data, done: undefined };
    this.#writes.push(write);
    this.#owner.onWritable(this);
    if (write.rest.length > 0) {
      await new Promise<void>((resolve, reject) => write.done = { resolve, reject });
    }
    return data.length;
  }

  /** Finishes this direction. Resolves once everything written and the end were sent. The other direction stays open. */
  async closeWrite(): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure.reason;
    this.#step({ kind: "write-closed" });
    await this.#ending.promise;
  }

  /** Closes both directions; idempotent. What was written is delivered. */
  close(): void {
    this.#rejectWrites(closed());
    this.#failure ??= { reason: closed() };
    this.#step({ kind: "closed", hasUnread: this.#receiving.hasUnread });
  }

  /**
   * Ends both directions at once, and tells the other side; idempotent.
   *
   * @param code why, for the other side's application: 1 to 65,535, of which those from 0xff00 are this library's
   * @throws {RangeError} if the code is not one of these
   */
  reset(code?: number): void {
    if (code !== undefined) checkResetCode(code);
    this.abort(closed(), code);
  }

  /** @ignore as `reset()`; reads and writes fail with the reason */
  abort(reason: unknown, code = 0): void {
    this.#failure ??= { reason };
    this.#step({ kind: "reset", code });
  }

  /** Does nothing: the connection keeps the program running, or lets it exit. */
  ref(): void {}

  /** Does nothing, as {@linkcode SessionStream.ref}. */
  unref(): void {}

  /** Same as `close()`. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** @ignore whether data waits to be read, and more may arrive */
  get isUnread(): boolean {
    return this.#receiving.hasUnread && this.isReceiving;
  }

  /** @ignore whether the other side has not ended it */
  get isReceiving(): boolean {
    return this.#state.receiving === "open";
  }

  /** @ignore whether data or the end wait to be written */
  get hasFrames(): boolean {
    return this.#isEndDue || this.#writes.length > 0;
  }

  /** @ignore whether the other side is to be told of a reset */
  get isResetDue(): boolean {
    return this.#dueResetCode !== undefined;
  }

  /** @ignore a frame of the other side */
  receive(event: StreamEvent, data?: Uint8Array): void {
    this.#step(event, data);
  }

  /** @ignore gives back the memory that nothing needs now */
  rest(): void {
    this.#receiving.rest();
  }

  /** @ignore the other side may send up to this offset */
  raiseLimit(limit: number): void {
    this.#limit = Math.max(this.#limit, limit);
    if (this.#writes.length > 0) this.#owner.onWritable(this);
  }

  /** @ignore the connection is over, or its other side has ended it: what has arrived can still be read */
  cut(reason: unknown): void {
    this.#failure ??= { reason };
    this.#state = { ...OPEN_STREAM, sending: "ended", receiving: "ended", isClosed: true };
    this.#isEndDue = this.#isOpenDue = this.#isWindowDue = false;
    this.#dueResetCode = undefined;
    this.#rejectWrites(this.#failure.reason);
    this.#ending.reject(this.#failure.reason);
    this.#receiving.fail(this.#failure.reason);
    this.#closeTimer?.clear();
    this.#finished.reject(this.#failure.reason); // unless it is over
  }

  /** @ignore the connection is closed by this side: what has arrived is not read any more, nor what waits written */
  stop(reason: unknown): void {
    this.#failure ??= { reason };
    this.#rejectWrites(reason);
    this.#receiving.discard(reason);
  }

  /** @ignore writes the frames without data; returns whether RESET was one */
  writeControl(log: SessionLog): boolean {
    const { id, isResetDue } = this;
    if (this.#isOpenDue) log.append(encodeStreamFrame({ kind: "open", id }));
    this.#isOpenDue = false;
    if (this.#dueResetCode !== undefined) {
      log.append(encodeStreamFrame({ kind: "reset", id, code: this.#dueResetCode }));
      this.#dueResetCode = undefined;
      this.#isEndDue = this.#isWindowDue = false;
    } else if (this.#isWindowDue) {
      const { limit } = this.#receiving.acknowledgement();
      log.append(encodeStreamFrame({ kind: "window", id, limit }));
      this.#isWindowDue = false;
    }
    return isResetDue;
  }

  /**
   * @ignore writes one DATA frame, or the end
   *
   * @param maxBytes of data
   * @param header memory for a header
   * @returns whether there is more that may be written
   */
  writeData(log: SessionLog, maxBytes: number, header: Uint8Array): boolean {
    const write = this.#writes[0];
    if (write !== undefined) {
      const { id } = this;
      const bytes = partOf(write.rest, 0, Math.min(maxBytes, this.#limit - this.#sentBytes));
      if (bytes.length === 0) return false;
      writeStreamDataHeader(header, id, bytes.length);
      log.append(header, bytes.length);
      log.append(bytes);
      this.#sentBytes += bytes.length;
      write.rest = partOf(write.rest, bytes.length);
      if (write.rest.length === 0) {
        this.#writes.shift();
        write.done?.resolve();
      }
    } else if (this.#isEndDue) {
      log.append(encodeStreamFrame({ kind: "end", id: this.id }));
      this.#isEndDue = false;
      this.#ending.resolve();
      this.#step({ kind: "end-written" });
    }
    if (this.#writes.length > 0) return this.#sentBytes < this.#limit;
    return this.#isEndDue;
  }

  #step(event: StreamEvent, data?: Uint8Array): void {
    const { state, actions } = stepStream(this.#state, event);
    this.#state = state;
    for (const action of actions) this.#execute(action, data);
  }

  #execute(action: StreamAction, data: Uint8Array | undefined): void {
    switch (action.kind) {
      case "deliver":
        this.#receiving.accept(this.#receiving.received, data!);
        if (!this.#receiving.noteUnread()) return this.abort(tooMuchUnread(), TOO_MUCH_UNREAD);
        return this.#updateWindow();
      case "end-reading":
        return this.#receiving.finish(this.#receiving.received);
      case "discard":
        return this.#receiving.discard(this.#failure?.reason ?? closed());
      case "write-end":
        this.#isEndDue = true;
        return this.#owner.onWritable(this);
      case "write-reset":
        this.#wasReset = true;
        this.#dueResetCode = action.code;
        return this.#owner.onControl(this);
      case "fail":
        return this.#onReset(action.code);
      case "start-timer":
        return this.#startTimer();
      case "over":
        return this.#onOver();
    }
  }

  #onReset(code: number): void {
    this.#wasReset = true;
    this.#resetCode = code;
    const why = code === 0 ? "" : ` with code ${code}`;
    const reason = new NetworkError(`Cannot continue: the stream was reset${why}`, "reset");
    this.#failure ??= { reason };
    if (!this.#receiving.isFinished) this.#receiving.discard(reason);
    this.#isEndDue = false;
  }

  #onOver(): void {
    const reason = this.#failure?.reason ?? closed();
    this.#rejectWrites(reason);
    this.#ending.reject(reason); // unless the end was sent
    if (!this.#receiving.isFinished) this.#receiving.fail(reason);
    this.#closeTimer?.clear();
    if (this.#wasReset) this.#finished.reject(reason);
    else this.#finished.resolve();
    this.#owner.onOver(this);
  }

  #startTimer(): void {
    this.#closeTimer = new ResettableTimer(() => this.#step({ kind: "time-up" }));
    this.#closeTimer.isReferenced = false;
    this.#closeTimer.set(CLOSE_MS);
  }

  #updateWindow(): void {
    if (this.#isWindowDue || this.#state.isClosed || !this.#receiving.isLimitDue) return;
    this.#isWindowDue = true;
    this.#owner.onControl(this);
  }

  #rejectWrites(reason: unknown): void {
    for (const { done } of this.#writes.splice(0)) done?.reject(reason);
  }
}

/** How a stream begins. */
export interface StreamOptions {
  /** Its receiving half. */
  readonly receiving: ReceiveStream;
  /** How much this side may send before the other side says more. */
  readonly limit: number;
  /** Whether the other side does not know of it yet. */
  readonly isOpening: boolean;
}

interface PendingWrite {
  rest: Uint8Array;
  /** Absent until somebody waits. */
  done: { resolve(): void; reject(reason: unknown): void } | undefined;
}

function tooMuchUnread(): NetworkError {
  return new NetworkError("Cannot use the stream: too much data of this peer is unread", "other", {
    remedy: "Close streams that are not read, or read them",
  });
}

function closed(): NetworkError {
  return new NetworkError("Cannot use the stream: it is closed", "closed");
}

/** The code of a stream for whose data there is no memory, because too many are not read. From 0xff00: this library's. */
const TOO_MUCH_UNREAD = 0xff07;

/** How long the other side may take to end a stream that this side has closed. Chosen by us, as for a session. */
const CLOSE_MS = 30_000;
