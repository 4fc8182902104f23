/**
 * A session that several streams share. Its first stream is its own `read()` and `write()`.
 *
 * @module
 */

import type { DenoConn } from "../net/deno_conn.ts";
import { toDenoConn, WrappedConnection } from "../net/deno_conn.ts";
import { Multiplexer, type MultiplexerOptions } from "./multiplexer.ts";
import type { SessionOptions } from "./options.ts";
import { Session } from "./session.ts";
import type { SessionStream } from "./stream.ts";

/** The options of a {@linkcode StreamSession}. */
export type StreamSessionOptions = SessionOptions & MultiplexerOptions;

/**
 * A session with as many streams as its two sides like. It is a `Deno.Conn` itself: `read()`, `write()` and `closeWrite()`
 * are those of its first stream, which ends without the others. `close()`, `reset()` and disposal end the session with all
 * streams: what was written to any of them is delivered by `close()`, those that are open are then reset.
 *
 * If no other stream was ever used, it ends as a TCP connection does: once both sides have ended the first stream, or one
 * has reset it. Otherwise it ends when there have been neither streams nor anybody who waits for them for a while.
 */
export class StreamSession extends Session {
  readonly #multiplexer: Multiplexer;
  #first: DenoConn | undefined;

  /**
   * Opens a session without a path.
   *
   * @throws {RangeError} if `windowBytes` is less than 64 KiB
   */
  constructor(options: StreamSessionOptions) {
    const multiplexer = new Multiplexer(options);
    super(options, multiplexer);
    this.#multiplexer = multiplexer;
  }

  /** The bytes of the first stream, until the other side finishes it. Cancelling it closes the first stream. */
  override get readable(): ReadableStream<Uint8Array<ArrayBuffer>> {
    return this.#conn.readable;
  }

  /** Takes bytes for the first stream. Closing it calls `closeWrite()`, aborting it resets the first stream. */
  override get writable(): WritableStream<Uint8Array> {
    return this.#conn.writable;
  }

  /** The streams that the other side opens, until the connection ends. Each goes to one reader. */
  get streams(): AsyncIterable<SessionStream> {
    return { [Symbol.asyncIterator]: () => this.#multiplexer.accept() };
  }

  /**
   * Opens a stream. It costs no round trip: data can be written at once, and the other side learns of the stream with it.
   *
   * @param options.signal resets the stream when it is aborted
   * @throws {NetworkError} if 1,024 streams of this side are open, or the connection has ended
   * @throws the signal's reason on abort
   */
  // deno-lint-ignore require-await -- failures reject the promise
  async openStream(options: { readonly signal?: AbortSignal } = {}): Promise<SessionStream> {
    const { signal } = options;
    signal?.throwIfAborted();
    const stream = this.#multiplexer.openStream();
    if (signal !== undefined) {
      const onAbort = () => stream.abort(signal.reason);
      signal.addEventListener("abort", onAbort, { once: true });
      stream.over.then(() => signal.removeEventListener("abort", onAbort));
    }
    return stream;
  }

  /** How many streams are open, the first included. */
  get openStreams(): number {
    return this.#multiplexer.size;
  }

  /** @ignore keeps the session open without a stream, until the result is disposed of */
  hold(): Disposable {
    return this.#multiplexer.hold();
  }

  /** How many bytes of the first stream were received so far. */
  override get receivedBytes(): number {
    return this.#multiplexer.first.receivedBytes;
  }

  /** As {@linkcode Session.read}, from the first stream. */
  override read(buffer: Uint8Array): Promise<number | null> {
    return this.#multiplexer.first.read(buffer);
  }

  /** As {@linkcode Session.write}, to the first stream. */
  override write(data: Uint8Array): Promise<number> {
    return this.#multiplexer.first.write(data);
  }

  /** Finishes this direction of the first stream. Resolves once everything written and the end were sent. */
  override closeWrite(): Promise<void> {
    return this.#multiplexer.first.closeWrite();
  }

  get #conn(): DenoConn {
    return this.#first ??= toDenoConn(new FirstStream(this, this.#multiplexer));
  }
}

/** The first stream alone, or the whole session as long as there is nothing else in it. */
class FirstStream extends WrappedConnection {
  readonly #multiplexer: Multiplexer;

  constructor(session: StreamSession, multiplexer: Multiplexer) {
    super(session);
    this.#multiplexer = multiplexer;
  }

  override close(): void {
    if (this.#multiplexer.isUsed) this.#multiplexer.first.close();
    else super.close();
  }

  override reset(): void {
    if (this.#multiplexer.isUsed) this.#multiplexer.first.reset();
    else super.reset();
  }
}
