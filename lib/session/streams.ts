/**
 * Shares the stream of a session between several: each frame is written into it whole, in turn, and each stream has a
 * window of its own, so that a slow reader stops nothing but its stream.
 *
 * As in QUIC, limits are offsets rather than increments, and a stream that the other side has reset gives its place back
 * at once (RFC 9000 §4 and §2.4). yamux adds up increments, has no reason in its reset and keeps half-closed streams for
 * minutes; its pings of each session are not needed, because the path has keep-alives.
 *
 * @module
 */

import { malformed, NetworkError } from "../base/errors.ts";
import { ResettableTimer } from "../base/timers.ts";
import { WaitQueue } from "../base/wait_queue.ts";
import { type DenoConn, toDenoConn, WrappedConnection } from "../net/deno_conn.ts";
import {
  initialMultiplexerState,
  type MultiplexerAction,
  type MultiplexerEvent,
  type MultiplexerLimits,
  multiplexerWakeAtMs,
  stepMultiplexer,
  wasOpened,
} from "./stream_engine.ts";
import type { SessionLayer, SessionLog, StreamSessionOptions } from "./options.ts";
import {
  MAX_WINDOW_BYTES,
  ReceiveStream,
  UNLIMITED_WINDOWS,
  type WindowSource,
} from "./receive_stream.ts";
import { Session } from "./session.ts";
import { SessionStream, type StreamOwner } from "./stream.ts";
import {
  encodeStreamFrame,
  FIRST_STREAM,
  INITIAL_LIMIT,
  MAX_STREAM_DATA_LENGTH,
  MAX_STREAM_FRAME_LENGTH,
  STREAM_DATA_HEADER_LENGTH,
  type StreamFrame,
  StreamFrameReader,
} from "./frame.ts";

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
      const onOver = () => signal.removeEventListener("abort", onAbort);
      stream.finished.then(onOver, onOver);
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

/** The streams of a session. */
class Multiplexer implements SessionLayer, StreamOwner {
  /** The stream that is there from the start. */
  readonly first: SessionStream;
  readonly #windowBytes: number;
  readonly #windows: WindowSource;
  readonly #limits: MultiplexerLimits;
  readonly #reader = new StreamFrameReader(
    (frame) => this.#onFrame(frame),
    (id, data) => this.#onData(id, data),
  );
  /** Those that are not over. */
  readonly #streams = new Map<number, SessionStream>();
  readonly #accepted: WaitQueue<SessionStream>;
  /** Those with frames to write; each takes its turn. */
  readonly #controls = new Set<SessionStream>();
  readonly #writable = new Set<SessionStream>();
  /** Streams that were one too many, and are to be reset. */
  readonly #refused: number[] = [];
  readonly #idleTimer = new ResettableTimer(() => this.#dispatch({ kind: "time" }));
  readonly #header = new Uint8Array(STREAM_DATA_HEADER_LENGTH);
  #state;
  #log!: SessionLog;
  #isPumping = false;
  /** `due`: the session's stream ends once what waits is written. */
  #end: "open" | "due" | "ended" = "open";
  /** Why this side has closed the session. */
  #closed: NetworkError | undefined;
  /** Why the session is over. */
  #failure: unknown;
  /** As {@linkcode SessionLayer.hasDiscarded}. */
  hasDiscarded = false;

  constructor(options: StreamSessionOptions) {
    const { role, windowBytes = MAX_WINDOW_BYTES, windows = UNLIMITED_WINDOWS } = options;
    const { maxStreams = MAX_STREAMS, idleMs = IDLE_MS } = options;
    this.#windowBytes = windowBytes;
    this.#windows = windows;
    this.#limits = { maxStreams, idleMs };
    this.#state = initialMultiplexerState(role);
    this.#accepted = new WaitQueue(maxStreams);
    this.first = this.#makeStream(FIRST_STREAM, false);
    this.#idleTimer.isReferenced = false;
  }

  /** As {@linkcode StreamOwner.addresses}. */
  get addresses(): SessionLog["addresses"] {
    return this.#log.addresses;
  }

  /** Whether more than the first stream was ever used, by either side. */
  get isUsed(): boolean {
    return this.#state.isUsed;
  }

  /** How many streams are open, the first included. */
  get size(): number {
    return this.#streams.size;
  }

  /**
   * Opens a stream.
   *
   * @throws {NetworkError} if there are too many, or the session has ended
   */
  openStream(): SessionStream {
    const [action] = this.#dispatch({ kind: "open" });
    if (action?.kind !== "open") {
      if (action?.kind === "refuse-open" && action.why === "too-many") throw tooMany(this.#limits);
      const message = "Cannot open a stream: the connection has ended";
      throw this.#closed ?? new NetworkError(message, "closed", { cause: this.#failure });
    }
    const stream = this.#makeStream(action.id, true);
    this.#controls.add(stream);
    queueMicrotask(() => this.#send()); // together with what is written until then
    return stream;
  }

  /** The streams that the other side opens, until the session ends. */
  accept(): AsyncIterator<SessionStream> {
    return this.#accepted.items(() => this.hold());
  }

  /** Keeps the session open without a stream, until the result is disposed of. */
  hold(): Disposable {
    let isHeld = true;
    this.#dispatch({ kind: "held" });
    const release = () => {
      if (isHeld) this.#dispatch({ kind: "released" });
      isHeld = false;
    };
    return { [Symbol.dispose]: release };
  }

  /** As {@linkcode SessionLayer.open}. */
  open(log: SessionLog): void {
    this.#log = log;
  }

  /** As {@linkcode SessionLayer.onBytes}. */
  onBytes(data: Uint8Array): void {
    this.#reader.push(data);
  }

  /** As {@linkcode SessionLayer.onEnd}. */
  onEnd(): void {
    if (this.#state.isRemoteEnded) return;
    const message = "Cannot continue: the other side has ended the connection";
    const reason = new NetworkError(message, "reset");
    for (const stream of [...this.#streams.values()]) {
      if (stream === this.first) continue;
      stream.cut(reason);
      this.onOver(stream);
    }
    this.#accepted.close(reason);
    if (this.#streams.has(FIRST_STREAM) && this.first.isReceiving) {
      this.first.receive({ kind: "end-received" }); // close() of the other side ends it as well
    }
    this.#dispatch({ kind: "end-received" });
    this.#send();
  }

  /** As {@linkcode SessionLayer.onRoom}. */
  onRoom(): void {
    this.#pump();
  }

  /** As {@linkcode SessionLayer.close}. */
  close(reason: NetworkError): void {
    this.#closed = reason;
    for (const stream of this.#streams.values()) {
      this.hasDiscarded ||= stream.isUnread;
      stream.stop(reason);
    }
    this.#accepted.close(reason);
    this.#dispatch({ kind: "close" });
    this.#pump();
  }

  /** As {@linkcode SessionLayer.discard}. */
  discard(reason: NetworkError): void {
    for (const stream of this.#streams.values()) stream.stop(reason);
  }

  /** As {@linkcode SessionLayer.rest}. */
  rest(): void {
    for (const stream of this.#streams.values()) stream.rest();
  }

  /** As {@linkcode SessionLayer.onSessionOver}. */
  onSessionOver(reason: unknown): void {
    this.#end = "ended";
    this.#failure = reason;
    this.#dispatch({ kind: "close" });
    this.#idleTimer.clear();
    for (const stream of this.#streams.values()) stream.cut(reason);
    this.#streams.clear();
    this.#controls.clear();
    this.#writable.clear();
    this.#accepted.close(reason);
  }

  /** As {@linkcode StreamOwner.onControl}. */
  onControl(stream: SessionStream): void {
    this.#controls.add(stream);
    this.#send();
  }

  /** As {@linkcode StreamOwner.onWritable}. */
  onWritable(stream: SessionStream): void {
    this.#writable.add(stream);
    this.#send();
  }

  /** As {@linkcode StreamOwner.onOver}. */
  onOver(stream: SessionStream): void {
    if (!this.#streams.delete(stream.id)) return;
    this.#accepted.remove(stream);
    if (stream.isResetDue) return; // it counts until that is written
    this.#dispatch({ kind: "over", id: stream.id });
  }

  #makeStream(id: number, isOpening: boolean): SessionStream {
    const leastBytes = id === FIRST_STREAM ? INITIAL_LIMIT : STREAM_LIMIT;
    const options = { leastBytes, rttMs: () => this.#log.rttMs() };
    const receiving = new ReceiveStream(this.#windowBytes, this.#windows.open(), options);
    const stream = new SessionStream(id, this, { receiving, limit: leastBytes, isOpening });
    this.#streams.set(id, stream);
    return stream;
  }

  #onFrame(frame: Exclude<StreamFrame, { kind: "data" }>): void {
    if (frame.kind === "open") {
      this.#dispatch({ kind: "open-received", id: frame.id });
      return;
    }
    const stream = this.#find(frame.id);
    if (stream === undefined) return;
    if (frame.kind === "window") stream.raiseLimit(frame.limit);
    else if (frame.kind === "end") stream.receive({ kind: "end-received" });
    else stream.receive({ kind: "reset-received", code: frame.code });
  }

  #onData(id: number, data: Uint8Array): void {
    const stream = this.#find(id);
    if (stream === undefined) return;
    if (this.#closed === undefined) stream.receive({ kind: "data-received" }, data);
    else this.hasDiscarded ||= stream.isReceiving;
  }

  /** `undefined` if the stream is over on this side: the other side may not know yet. */
  #find(id: number): SessionStream | undefined {
    const stream = this.#streams.get(id);
    if (stream === undefined && !wasOpened(this.#state, id)) {
      throw malformed("stream frame", `stream ${id} was not opened`);
    }
    return stream;
  }

  #dispatch(event: MultiplexerEvent): readonly MultiplexerAction[] {
    const nowMs = performance.now();
    const { state, actions } = stepMultiplexer(this.#state, event, nowMs, this.#limits);
    this.#state = state;
    const wakeAtMs = multiplexerWakeAtMs(state, this.#limits);
    if (wakeAtMs === Infinity) this.#idleTimer.clear();
    else if (!this.#idleTimer.isSet) this.#idleTimer.set(Math.max(0, wakeAtMs - nowMs));
    for (const action of actions) this.#execute(action);
    return actions;
  }

  #execute(action: MultiplexerAction): void {
    switch (action.kind) {
      case "accept":
        return void this.#accepted.push(this.#makeStream(action.id, false));
      case "refuse":
        return this.#refuse(action.id);
      case "end":
        if (this.#end === "open") this.#end = "due";
        return this.#send();
    }
  }

  /** A peer that opens streams faster than it reads refusals breaks the protocol. */
  #refuse(id: number): void {
    if (this.#refused.length >= this.#limits.maxStreams) {
      throw malformed("stream frame", "too many streams are opened");
    }
    this.#refused.push(id);
    this.#send();
  }

  #send(): void {
    if (this.#isPumping) return;
    this.#pump();
    this.#log.flush();
  }

  /** Writes as much as there is room for. */
  #pump(): void {
    if (this.#isPumping || this.#end === "ended") return;
    this.#isPumping = true;
    while (this.#log.room() >= LEAST_ROOM && this.#writeNext());
    this.#isPumping = false;
    if (this.#end === "due" && !this.#isLeft) {
      this.#end = "ended";
      this.#log.end();
    }
  }

  /** Frames without data first: they are short, and the other side may wait for them. */
  #writeNext(): boolean {
    const refused = this.#refused.shift();
    if (refused !== undefined) {
      this.#log.append(encodeStreamFrame({ kind: "reset", id: refused, code: TOO_MANY_STREAMS }));
      return true;
    }
    for (const stream of this.#controls) {
      this.#controls.delete(stream);
      const [{ id }, isReset] = [stream, stream.writeControl(this.#log)];
      if (isReset && !this.#streams.has(id)) this.#dispatch({ kind: "over", id });
      return true;
    }
    for (const stream of this.#writable) {
      this.#writable.delete(stream);
      const room = this.#log.room() - STREAM_DATA_HEADER_LENGTH;
      const share = this.#writable.size > 0 ? FAIR_BYTES : MAX_STREAM_DATA_LENGTH;
      const maxBytes = Math.min(room, share);
      if (stream.writeData(this.#log, maxBytes, this.#header)) this.#writable.add(stream);
      return true;
    }
    return false;
  }

  /** Whether ends, resets or data wait that this side has promised to send. */
  get #isLeft(): boolean {
    if (this.#refused.length > 0 || this.#controls.size > 0) return true;
    return [...this.#writable].some((stream) => stream.hasFrames);
  }
}

/** The code of a stream that was opened although its side had as many as it may. From 0xff00: this library's. */
export const TOO_MANY_STREAMS = 0xff02;

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

function tooMany({ maxStreams }: MultiplexerLimits): NetworkError {
  const message = `Cannot open a stream: ${maxStreams} are open already`;
  return new NetworkError(message, "other", { remedy: "Close streams that are no longer used" });
}

/** Chosen by us: a request, or the first flight of TCP, and little for 1,024 streams at once: 16 MiB. */
const STREAM_LIMIT = 16_384;

/** Chosen by us: more than a browser opens. */
const MAX_STREAMS = 1024;

/** Chosen by us. */
const IDLE_MS = 30_000;

/** Chosen by us: a turn of one among several streams; a message waits for one turn of each other stream at most. */
const FAIR_BYTES = 16_384;

/** The longest frames that are written at once: OPEN and WINDOW, or RESET. */
const LEAST_ROOM = 2 * MAX_STREAM_FRAME_LENGTH;
