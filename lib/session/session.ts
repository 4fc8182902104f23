/**
 * A byte stream between two peers that survives its path.
 *
 * @module
 */

import { concat } from "../base/bytes.ts";
import { type MalformedMessageError, NetworkError } from "../base/errors.ts";
import { optionalResolvers } from "../base/tasks.ts";
import { ResettableTimer } from "../base/timers.ts";
import type { TransportAddress } from "../net/address.ts";
import { type DenoConn, type NetAddress, toDenoConn, toNetAddress } from "../net/deno_conn.ts";
import type { TcpConnection } from "../net/network.ts";
import type { SignalChannel } from "../signal/channel.ts";
import { checkResetCode, encodeSessionFrame, INITIAL_LIMIT } from "./frame.ts";
import { MessageChannel, PathMigration } from "./migration.ts";
import type { ForwardedFrame, SessionPath } from "./path.ts";
import { MAX_WINDOW_BYTES, ReceiveStream, UNLIMITED_WINDOWS } from "./receive_stream.ts";
import { type Outgoing, SendStream } from "./send_stream.ts";
import {
  DEFAULT_SESSION_TIMINGS,
  type SessionEvent,
  type SessionLayer,
  type SessionOptions,
  type SessionTimings,
} from "./options.ts";

/**
 * A byte stream between two peers that survives its path: it moves from one path to another, and neither loses nor
 * repeats a byte.
 *
 * It is a `Deno.Conn` and a `TcpConnection`, and behaves like TCP: `closeWrite()` finishes one direction, `close()`
 * delivers in the background what was written, and resets the session if the other side keeps sending, `reset()` ends
 * both directions at once. Anything else that ends the stream is an error for both sides, never a regular end.
 *
 * @example
 * ```ts
 * import { Session } from "./session.ts";
 * import { systemNetwork } from "../net/system.ts";
 * import { assertEquals } from "@std/assert";
 *
 * using listener = await systemNetwork.listenTcp({ ip: "127.0.0.1", port: 0 });
 * await using one = new Session({ role: "controlling" });
 * await using other = new Session({ role: "controlled" });
 * async function connect() { // over another path each time
 *   const path = await systemNetwork.connectTcp(listener.local);
 *   await Promise.all([one.attach(path), other.attach(await listener.accept())]);
 * }
 * await connect();
 * await one.write(new TextEncoder().encode("hello, "));
 * await connect();
 * await one.write(new TextEncoder().encode("world"));
 * await one.closeWrite();
 * assertEquals(await new Response(other.readable).text(), "hello, world");
 * await other.closeWrite();
 * await one.finished;
 * ```
 */
export class Session implements DenoConn, AsyncDisposable {
  /** Resolves once both directions have finished and everything has arrived; rejects if the session ends before. */
  readonly finished: Promise<void>;
  readonly #finished: PromiseWithResolvers<void> = optionalResolvers();
  readonly #released: PromiseWithResolvers<void> = Promise.withResolvers();
  readonly #onEvent: (event: SessionEvent) => void;
  readonly #reasonOf: (code: number) => string | undefined;
  readonly #timings: SessionTimings;
  readonly #timeoutMs: number;
  readonly #sending: SendStream;
  readonly #receiving: ReceiveStream;
  readonly #paths: PathMigration;
  readonly #messages: MessageChannel;
  /** What uses the stream instead of `read()` and `write()`. */
  readonly #layer: SessionLayer | undefined;
  /** Not cleared when an acknowledgement goes out for another reason: that would cost more than it saves. */
  readonly #acknowledgeTimer = new ResettableTimer(() => this.#acknowledge());
  /** Set while there is no path: how long to wait for another. */
  readonly #noPathTimer = new ResettableTimer(() => this.#requirePath());
  /** Set after `close()`, and after both directions have finished: how long the session may stay. */
  readonly #closeTimer = new ResettableTimer(() => this.#onTimeUp());
  readonly #timers = [this.#acknowledgeTimer, this.#noPathTimer, this.#closeTimer];
  /** Provides `readable` and `writable`. */
  #conn: DenoConn | undefined;
  #isAcknowledgementDue = false;
  #acknowledgeWithinMs = 0;
  /** Why the last path was lost, while there is no other. */
  #lostPath: NetworkError | undefined;
  #isClosed = false;
  #isFinished = false;
  #isOtherFinished = false;
  #isEnded = false;
  #wasReset = false;
  #resetCode: number | undefined;
  #failure: NetworkError | MalformedMessageError | undefined;
  #lastPath: SessionPath | undefined;
  /** The path on which DONE was sent. */
  #donePath: SessionPath | undefined;

  /**
   * Opens a session without a path.
   *
   * @param layer @ignore what uses the stream instead of `read()` and `write()`
   * @throws {RangeError} if `windowBytes` is less than 64 KiB
   */
  constructor(options: SessionOptions, layer?: SessionLayer) {
    const { role, timings, timeoutMs = 0, windowBytes = MAX_WINDOW_BYTES, onEvent } = options;
    const { windows = UNLIMITED_WINDOWS } = options;
    if (!(windowBytes >= INITIAL_LIMIT)) {
      throw new RangeError(
        `Cannot open a session: a window of ${windowBytes} bytes is less than ${INITIAL_LIMIT}`,
      );
    }
    this.#timings = { ...DEFAULT_SESSION_TIMINGS, ...timings };
    this.#timeoutMs = timeoutMs;
    this.#onEvent = onEvent ?? (() => {});
    this.#reasonOf = options.reasonOf ?? (() => undefined);
    this.#layer = layer;
    const rttMs = () => this.#paths.current?.keepAlive.leastRttMs;
    const onRoom = layer && (() => layer.onRoom());
    this.#sending = new SendStream(windowBytes, windows.open(), { onRoom, rttMs });
    const onBytes = layer && ((data: Uint8Array) => layer.onBytes(data));
    const received = layer === undefined ? windows : UNLIMITED_WINDOWS; // a layer keeps what it needs
    this.#receiving = new ReceiveStream(windowBytes, received.open(), { onBytes, rttMs });
    this.#messages = new MessageChannel({
      onMessage: () => this.#pump(),
      rttMs: () => this.rttMs,
    });
    this.#paths = new PathMigration({
      role,
      timings: this.#timings,
      sending: this.#sending,
      receiving: this.#receiving,
      onFrame: (frame) => this.#onFrame(frame),
      onData: () => this.#onData(),
      next: () => this.#next(),
      onPing: () => layer?.rest(),
      onAttached: (path) => this.#onAttached(path),
      onStalled: (isStalled) => this.#onEvent({ event: isStalled ? "stalled" : "resumed" }),
      onLost: (error) => this.#onLost(error),
      onNotAttached: () => this.#requirePath(),
      onMalformed: (error) => this.#fail(error),
    });
    this.finished = this.#finished.promise;
    layer?.open({
      room: () => this.#sending.room,
      append: (bytes, more) => this.#sending.append(bytes, more),
      flush: () => {
        this.#isAcknowledgementDue ||= this.#receiving.isAcknowledgementUseful;
        this.#pump();
      },
      rttMs,
      end: () => void this.#sending.end(),
      addresses: this,
    });
  }

  /** This side's address of the current or last path; `0.0.0.0` and port 0 before the first. */
  get local(): TransportAddress {
    return this.#lastPath?.connection.local ?? NOWHERE;
  }

  /** The other side's address of the current or last path; `0.0.0.0` and port 0 before the first. */
  get remote(): TransportAddress {
    return this.#lastPath?.connection.remote ?? NOWHERE;
  }

  /** {@linkcode Session.local} in Deno's form. */
  get localAddr(): NetAddress {
    return toNetAddress(this.local);
  }

  /** {@linkcode Session.remote} in Deno's form. */
  get remoteAddr(): NetAddress {
    return toNetAddress(this.remote);
  }

  /** Small messages alongside the stream, over the current path. They are lost with their path. */
  get channel(): SignalChannel {
    return this.#messages;
  }

  /** @ignore sends a datagram over the current path; `false` if it was dropped */
  protected sendAsMessage(datagram: Uint8Array): boolean {
    return this.#messages.sendDatagram(datagram);
  }

  /** @ignore the other side's next datagram over any path */
  protected receiveAsMessage(): Promise<Uint8Array> {
    return this.#messages.receiveDatagram();
  }

  /** The round trip of the current path, measured by keep-alives; `undefined` until it is known. */
  get rttMs(): number | undefined {
    return this.#paths.current?.keepAlive.rttMs;
  }

  /** The other side's bytes, until it finishes. Cancelling it closes the session. */
  get readable(): ReadableStream<Uint8Array<ArrayBuffer>> {
    return (this.#conn ??= toDenoConn(this)).readable;
  }

  /** Takes the bytes to send. Closing it calls `closeWrite()`, aborting it calls `reset()`. */
  get writable(): WritableStream<Uint8Array> {
    return (this.#conn ??= toDenoConn(this)).writable;
  }

  /**
   * Moves the stream to a path. Resolves once the stream runs over it; until then it runs over the current one.
   *
   * @param path an encrypted and authenticated connection to the peer, which attaches the other end; taken over
   * @throws {NetworkError} if the path fails, a newer path replaces it, or the session has ended
   * @throws the signal's reason on abort
   */
  async attach(path: TcpConnection, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted || this.#isEnded) path.reset();
    signal?.throwIfAborted();
    if (this.#isEnded) throw this.#failure ?? closed();
    await this.#paths.attach(path, signal);
  }

  /** Checks at once whether the path is alive. If the network has changed, it has stalled until the other side answers. */
  probe({ hasChanged = false }: { readonly hasChanged?: boolean } = {}): void {
    if (this.#paths.isAttached) this.#paths.current?.keepAlive[hasChanged ? "suspect" : "probe"]();
  }

  /** @ignore pings the path while it is busy; how long the last answer took, or the next one has taken so far */
  measure(): number | undefined {
    return this.#paths.isAttached ? this.#paths.current?.keepAlive.measure() : undefined;
  }

  /**
   * Checks whether the other side is still there: `false` at once if there is no path, or if nothing arrives within the
   * time.
   */
  async answersWithin(withinMs: number): Promise<boolean> {
    const deadlineMs = performance.now() + withinMs;
    for (;;) {
      const path = this.#paths.isAttached ? this.#paths.current : undefined;
      if (this.#isEnded || path === undefined) return false;
      if (await path.keepAlive.answers(deadlineMs - performance.now())) return true;
      if (path === this.#paths.current) return false; // otherwise the stream has moved to another path
    }
  }

  /** How many bytes of the stream were received so far. */
  get receivedBytes(): number {
    return this.#receiving.received;
  }

  /** @ignore how many bytes of this side's stream have arrived, as far as it knows */
  get deliveredBytes(): number {
    return this.#sending.acknowledged;
  }

  /** Whether the other side has ended the session before it was finished: on purpose, unlike a break. */
  get wasReset(): boolean {
    return this.#wasReset;
  }

  /** Why the other side has ended it: the code that it gave to {@linkcode Session.reset}, if any. */
  get resetCode(): number | undefined {
    return this.#resetCode;
  }

  /**
   * Reads into the start of `buffer`. One call at a time.
   *
   * @returns the number of bytes, or `null` once the other side has finished
   * @throws {MalformedMessageError} if the other side breaks the protocol
   * @throws {NetworkError} the failure of the last path; `reset` if the other side ended the session, `closed` if this
   *   side did
   */
  read(buffer: Uint8Array): Promise<number | null> {
    const reading = this.#receiving.read(buffer);
    if (!this.#isEnded && this.#receiving.isAcknowledgementUrgent) this.#acknowledge();
    return reading;
  }

  /**
   * Writes all of `data`, which must not change until the call returns. Resolves once the data is being sent or waits
   * for a path.
   *
   * @returns the length of `data`
   * @throws {TypeError} after `closeWrite()`
   * @throws {NetworkError} as {@linkcode Session.read}
   */
  async write(data: Uint8Array): Promise<number> {
    if (this.#isClosed) throw closed();
    const waiting = this.#sending.write(data);
    this.#pump();
    await waiting;
    return data.length;
  }

  /** Finishes this direction. Resolves once everything written and the end were sent. The other direction stays open. */
  async closeWrite(): Promise<void> {
    if (this.#isClosed) throw closed();
    const ending = this.#sending.end();
    this.#pump();
    await ending;
  }

  /** Closes both directions; idempotent. Delivers what was written in the background, within a bounded time. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    const reason = closed();
    if (this.#layer === undefined) {
      this.#receiving.discard(reason);
      this.#sending.rejectWaiting(reason);
      this.#sending.end();
    } else this.#layer.close(reason);
    if (this.#isEnded) return;
    // A first path carries what was written even before the other side has sent HELLO.
    const hasPath = this.#lastPath !== undefined || this.#paths.current !== undefined;
    if (!hasPath) return this.#end(reason, "reset");
    if (!this.#closeTimer.isSet) this.#closeTimer.set(this.#timings.closeMs);
    this.#pump();
    this.#onProgress();
  }

  /**
   * Ends the session at once, and tells the other side if there is a path; idempotent.
   *
   * @param code why, for the other side's application: 1 to 65,535, of which those from 0xff00 are this library's
   * @throws {RangeError} if the code is not one of these
   */
  reset(code?: number): void {
    if (code !== undefined) checkResetCode(code);
    this.#isClosed = true;
    this.#layer?.discard(closed());
    this.#receiving.discard(closed());
    this.#fail(closed(), code);
  }

  /** Like `reset()`, but reads and writes fail with the given reason: for when no other path can be expected. */
  abandon(reason: NetworkError, code?: number): void {
    this.#fail(reason, code);
  }

  /** Keeps the program running while the session is open; the default. */
  ref(): void {
    this.#isReferenced = true;
  }

  /** Lets the program exit while the session is open. */
  unref(): void {
    this.#isReferenced = false;
  }

  /** Same as `close()`. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** Same as `close()`, and waits until all background work has ended. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
    await this.#released.promise;
  }

  set #isReferenced(isReferenced: boolean) {
    this.#paths.isReferenced = isReferenced;
    for (const timer of this.#timers) timer.isReferenced = isReferenced;
  }

  #pump(): void {
    this.#paths.current?.pump();
  }

  #next(): Outgoing | undefined {
    const ack = this.#isAcknowledgementDue ? this.#receiving.acknowledgement() : undefined;
    this.#isAcknowledgementDue = false;
    const message = ack === undefined ? this.#messages.next() : undefined;
    if (message !== undefined) return { bytes: encodeSessionFrame({ kind: "message", message }) };
    const outgoing = this.#sending.next({ isShort: ack !== undefined });
    if (outgoing !== undefined) this.#paths.current?.keepAlive.onAnswerDue();
    if (ack === undefined) return outgoing;
    const bytes = encodeSessionFrame({ kind: "ack", ...ack });
    return outgoing === undefined
      ? { bytes }
      : { ...outgoing, bytes: concat(bytes, outgoing.bytes) };
  }

  #acknowledge(): void {
    this.#isAcknowledgementDue = true;
    this.#pump();
  }

  #onData(): void {
    if (this.#receiving.isFinished) this.#layer?.onEnd();
    const withinMs = this.#receiving.acknowledgeWithinMs(this.#timings);
    if (withinMs === 0) this.#acknowledge();
    else if (!this.#acknowledgeTimer.isSet || withinMs < this.#acknowledgeWithinMs) {
      this.#acknowledgeTimer.set(withinMs);
      this.#acknowledgeWithinMs = withinMs;
    }
    this.#onProgress();
  }

  #onFrame(frame: ForwardedFrame): void {
    if (frame.kind === "ack") {
      this.#sending.acknowledge(frame.received, frame.limit);
      this.#pump();
    } else if (frame.kind === "message") this.#messages.deliver(frame.message);
    else if (frame.kind === "done") this.#isOtherFinished = true;
    else if (frame.kind === "abort" || frame.kind === "reset") {
      this.#wasReset = true;
      if (frame.kind === "abort") this.#resetCode = frame.code;
      return this.#end(this.#resetError(), "close");
    }
    this.#onProgress();
  }

  #resetError(): NetworkError {
    const why = this.#resetCode === undefined ? undefined : this.#reasonOf(this.#resetCode);
    const reason = why ?? "the other side was interrupted or ended the connection";
    return new NetworkError(`Cannot continue: ${reason}`, "reset", { remedy: "Connect again" });
  }

  /** Ends the session once everything is done, or as much as can be. */
  #onProgress(): void {
    if (this.#isEnded) return;
    const isSent = this.#sending.isFinished;
    const { hasDiscarded } = this.#layer ?? this.#receiving;
    if (isSent && this.#isClosed && hasDiscarded) return this.#fail(closed());
    if (!isSent || !this.#receiving.isFinished) return;
    if (!this.#isFinished) {
      this.#isFinished = true;
      this.#finished.resolve();
      this.#closeTimer.set(this.#timings.lingerMs);
    }
    const { current } = this.#paths;
    if (current === undefined) return;
    if (this.#donePath !== current) current.send({ kind: "done" });
    this.#donePath = current;
    if (this.#isOtherFinished) this.#end(undefined, "close");
  }

  #onAttached(path: SessionPath): void {
    this.#lastPath = path;
    this.#lostPath = undefined;
    this.#noPathTimer.clear();
    const { local, remote } = path.connection;
    this.#onEvent({ event: "attached", local, remote });
    this.#onProgress();
  }

  #onLost(error: NetworkError): void {
    this.#lostPath = error;
    const isDone = this.#isOtherFinished || this.#isFinished && this.#timeoutMs === 0;
    if (isDone) return this.#onTimeUp();
    this.#onEvent({ event: "lost", error });
    if (this.#isEnded) return; // by whoever was told
    if (this.#timeoutMs > 0) this.#noPathTimer.set(this.#timeoutMs);
    else this.#requirePath();
  }

  /** Fails if there is no path, none is being attached, and the time to wait for one is over. */
  #requirePath(): void {
    if (this.#isEnded || this.#lostPath === undefined || this.#noPathTimer.isSet) return;
    if (this.#paths.hasPath) return;
    if (this.#isFinished) return this.#onTimeUp();
    this.#end(this.#lostPath, "reset");
  }

  /** The session must end now. */
  #onTimeUp(): void {
    if (this.#isFinished) this.#end(undefined, "close");
    else this.#fail(closed());
  }

  /** Ends the session, and sends RESET, or ABORT with a code. */
  #fail(error: NetworkError | MalformedMessageError, code?: number): void {
    if (this.#isEnded) return;
    this.#paths.announceEnd(code === undefined ? { kind: "reset" } : { kind: "abort", code });
    this.#end(error, "close");
  }

  #end(error: NetworkError | MalformedMessageError | undefined, how: "close" | "reset"): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#failure = error;
    const reason = error ?? closed();
    for (const timer of this.#timers) timer.clear();
    this.#receiving.fail(reason);
    this.#sending.fail(reason);
    this.#messages.fail(reason);
    this.#layer?.onSessionOver(reason);
    this.#paths.end(reason, how);
    if (error !== undefined) this.#finished.reject(error);
    this.#paths.released().then(() => this.#released.resolve());
    this.#onEvent(error === undefined ? { event: "ended" } : { event: "ended", error });
  }
}

function closed(): NetworkError {
  return new NetworkError("Cannot use the session: it is closed", "closed");
}

const NOWHERE: TransportAddress = { ip: "0.0.0.0", port: 0 };
