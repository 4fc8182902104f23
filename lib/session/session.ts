/**
 * A byte stream between two peers that survives its path.
 *
 * @module
 */

import { type MalformedMessageError, NetworkError } from "../base/errors.ts";
import { ResettableTimer } from "../base/timers.ts";
import type { TransportAddress } from "../net/address.ts";
import { type DenoConn, type NetAddress, toDenoConn } from "../net/deno_conn.ts";
import type { TcpConnection } from "../net/network.ts";
import type { SignalChannel } from "../signal/channel.ts";
import { encodeFrame, INITIAL_LIMIT } from "./frame.ts";
import { MessageChannel } from "./message_channel.ts";
import { PathMigration, type SessionRole } from "./migration.ts";
import {
  DEFAULT_SESSION_TIMINGS,
  type LinkFrame,
  type SessionPath,
  type SessionTimings,
} from "./path.ts";
import { ReceiveStream } from "./receive_stream.ts";
import { type Outgoing, SendStream } from "./send_stream.ts";

export type { SessionRole } from "./migration.ts";

/** What a {@linkcode Session} takes. */
export interface SessionOptions {
  /** The controlling side numbers the paths; one side is the one, the other the other. */
  readonly role: SessionRole;
  /** Those of {@linkcode DEFAULT_SESSION_TIMINGS} unless given. */
  readonly timings?: Partial<SessionTimings>;
  /** How long the session waits for another path once it has lost the one it had; 0, which is so by default: it fails with it. */
  readonly timeoutMs?: number;
  /** How much is kept in each direction at most, of what is not acknowledged or not read: at least 64 KiB, 4 MiB unless given. */
  readonly windowBytes?: number;
  /** Hears what becomes of the session; may not throw. */
  readonly onEvent?: (event: SessionEvent) => void;
}

/** What becomes of a session. */
export type SessionEvent =
  /** The stream runs over this path, after another or as its first. */
  | {
    readonly event: "attached";
    readonly local: TransportAddress;
    readonly remote: TransportAddress;
  }
  /** The path is dead, or was cut; the stream waits for another. */
  | { readonly event: "lost"; readonly error: NetworkError }
  /** There is nothing more; `error` unless both sides have finished. */
  | { readonly event: "ended"; readonly error?: NetworkError | MalformedMessageError };

/**
 * A byte stream between two peers, which runs over one path after another, and loses and repeats nothing when it moves.
 *
 * It is a `Deno.Conn` and a `TcpConnection`, and keeps to what TCP does: `closeWrite()` finishes one direction, `close()`
 * delivers in the background what was written, and tells the other side if it goes on sending to nobody, `reset()` ends
 * all at once. Whatever else ends the stream is an error for both sides, never an end.
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
  /** Fulfilled once both directions have finished and each side has all; rejected with what ends the session before. */
  readonly finished: Promise<void>;
  readonly #finished: PromiseWithResolvers<void> = Promise.withResolvers();
  readonly #released: PromiseWithResolvers<void> = Promise.withResolvers();
  readonly #onEvent: (event: SessionEvent) => void;
  readonly #timings: SessionTimings;
  readonly #timeoutMs: number;
  readonly #sending: SendStream;
  readonly #receiving: ReceiveStream;
  readonly #paths: PathMigration;
  readonly #messages: MessageChannel;
  /** Not set anew when something else has brought an acknowledgement meanwhile: that would cost more than it saves. */
  readonly #acknowledgeAlarm = new ResettableTimer(() => this.#acknowledge());
  /** Rings when the time without a path is over. */
  readonly #silenceTimer = new ResettableTimer(() => this.#giveUpWithoutPath());
  /** Rings when the time after `close()`, or after the end of both directions, is over. */
  readonly #leaveAlarm = new ResettableTimer(() => this.#leave());
  /** For what it makes of reads and writes. */
  #conn: DenoConn | undefined;
  #isAcknowledgementDue = false;
  /** Why there is no path. */
  #lostPath: NetworkError | undefined;
  #isClosed = false;
  #isFinished = false;
  #isOtherFinished = false;
  #isEnded = false;
  #failure: NetworkError | MalformedMessageError | undefined;
  #lastPath: SessionPath | undefined;
  /** Over which path the other side was told that this one needs nothing more. */
  #doneOver: SessionPath | undefined;

  /**
   * Opens a session that has no path yet.
   *
   * @throws {RangeError} if the window is too small
   */
  constructor(options: SessionOptions) {
    const { role, timings, timeoutMs = 0, windowBytes = WINDOW_BYTES, onEvent } = options;
    if (!(windowBytes >= INITIAL_LIMIT)) {
      throw new RangeError(
        `Cannot open a session: a window of ${windowBytes} bytes is less than ${INITIAL_LIMIT}`,
      );
    }
    this.#timings = { ...DEFAULT_SESSION_TIMINGS, ...timings };
    this.#timeoutMs = timeoutMs;
    this.#onEvent = onEvent ?? (() => {});
    this.#sending = new SendStream(windowBytes);
    this.#receiving = new ReceiveStream(windowBytes);
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
      onAttached: (link) => this.#onAttached(link),
      onLost: (error) => this.#onLost(error),
      onNotAttached: () => this.#requirePath(),
      onMalformed: (error) => this.#fail(error),
    });
    this.finished = this.#finished.promise;
    this.finished.catch(() => {}); // whoever waits for it is told; nobody may
  }

  /** This side's end of the path, or of the last one; `0.0.0.0` and port 0 before the first. */
  get local(): TransportAddress {
    return this.#lastPath?.connection.local ?? NOWHERE;
  }

  /** The other side's end of the path, as {@linkcode Session.local}. */
  get remote(): TransportAddress {
    return this.#lastPath?.connection.remote ?? NOWHERE;
  }

  /** {@linkcode Session.local}, as Deno has it. */
  get localAddr(): NetAddress {
    return toNetAddress(this.local);
  }

  /** {@linkcode Session.remote}, as Deno has it. */
  get remoteAddr(): NetAddress {
    return toNetAddress(this.remote);
  }

  /** Small messages beside the stream, over whatever path there is; they get lost with their paths. */
  get channel(): SignalChannel {
    return this.#messages;
  }

  /** The round trip of the path, as measured by keep-alives; `undefined` while nothing is known. */
  get rttMs(): number | undefined {
    return this.#paths.current?.keepAlive.rttMs;
  }

  /** What the other side sends, until it finishes. Cancelling it closes the session. */
  get readable(): ReadableStream<Uint8Array<ArrayBuffer>> {
    return (this.#conn ??= toDenoConn(this)).readable;
  }

  /** What this side sends. Closing it is `closeWrite()`, aborting it `reset()`. */
  get writable(): WritableStream<Uint8Array> {
    return (this.#conn ??= toDenoConn(this)).writable;
  }

  /**
   * Moves to a path; resolves once the stream runs over it. Until then it runs over the one that there is.
   *
   * @param path an encrypted and authenticated connection to the peer, who attaches the other end; taken over
   * @throws {NetworkError} if the path fails before, a newer one is attached, or the session has ended
   * @throws the signal's reason on abort
   */
  async attach(path: TcpConnection, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted || this.#isEnded) path.reset();
    signal?.throwIfAborted();
    if (this.#isEnded) throw this.#failure ?? closed();
    await this.#paths.attach(path, signal);
  }

  /** Suspects the path, as after a change of the network: asks at once whether it lives. */
  probe(): void {
    if (this.#paths.isAttached) this.#paths.current?.keepAlive.probe();
  }

  /**
   * Fills the start of `buffer`; the number of bytes, or `null` once the other side has finished. One call at a time.
   *
   * @throws {MalformedMessageError} if the other side does not keep to the protocol
   * @throws {NetworkError} what the last path failed with; `reset` if by the other side, `closed` if by this one
   */
  read(buffer: Uint8Array): Promise<number | null> {
    const reading = this.#receiving.read(buffer);
    if (!this.#isEnded && this.#receiving.isAcknowledgementUrgent) this.#acknowledge();
    return reading;
  }

  /**
   * Writes all of `data`, which must not change until then; the number of bytes. It is on its way, or waits for a path.
   *
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

  /** Finishes this direction; resolves once that is on its way, after all that was written. Reading goes on. */
  async closeWrite(): Promise<void> {
    if (this.#isClosed) throw closed();
    const ending = this.#sending.end();
    this.#pump();
    await ending;
  }

  /**
   * Closes both directions; idempotent. What was written is still delivered in the background, within a bounded time.
   */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    const reason = closed();
    this.#receiving.discard(reason);
    this.#sending.dropWaiting(reason);
    this.#sending.end();
    if (this.#isEnded) return;
    // A first path carries what was written before the other side has greeted.
    const hasPath = this.#lastPath !== undefined || this.#paths.current !== undefined;
    if (!hasPath) return this.#end(reason, "cut");
    if (!this.#leaveAlarm.isSet) this.#leaveAlarm.set(this.#timings.closeMs);
    this.#pump();
    this.#onProgress();
  }

  /** Ends the session at once, and tells the other side if that can be done; idempotent. */
  reset(): void {
    this.#isClosed = true;
    this.#receiving.discard(closed());
    this.#fail(closed());
  }

  /** As `reset()`, for a reason that reads and writes fail with: no other path is to be expected. */
  abandon(reason: NetworkError): void {
    this.#fail(reason);
  }

  /** Keeps the program running while the session is open, which is so by default. */
  ref(): void {
    this.#isReferenced = true;
  }

  /** Lets the program end while the session is open. */
  unref(): void {
    this.#isReferenced = false;
  }

  /** As `close()`. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** As `close()`; resolves once nothing goes on in the background. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
    await this.#released.promise;
  }

  set #isReferenced(isReferenced: boolean) {
    this.#paths.isReferenced = isReferenced;
    this.#acknowledgeAlarm.isReferenced = isReferenced;
    this.#silenceTimer.isReferenced = isReferenced;
    this.#leaveAlarm.isReferenced = isReferenced;
  }

  #pump(): void {
    this.#paths.current?.pump();
  }

  #next(): Outgoing | undefined {
    if (this.#isAcknowledgementDue) {
      this.#isAcknowledgementDue = false;
      return { bytes: encodeFrame({ kind: "ack", ...this.#receiving.acknowledgement() }) };
    }
    const message = this.#messages.next();
    if (message !== undefined) return { bytes: encodeFrame({ kind: "message", message }) };
    const outgoing = this.#sending.next();
    if (outgoing !== undefined) this.#paths.current?.keepAlive.onAsked();
    return outgoing;
  }

  #acknowledge(): void {
    this.#isAcknowledgementDue = true;
    this.#pump();
  }

  #onData(): void {
    if (this.#receiving.isFinished || this.#receiving.isAcknowledgementUrgent) this.#acknowledge();
    else if (!this.#acknowledgeAlarm.isSet) {
      this.#acknowledgeAlarm.set(this.#timings.acknowledgeAfterMs);
    }
    this.#onProgress();
  }

  #onFrame(frame: LinkFrame): void {
    switch (frame.kind) {
      case "ack":
        this.#sending.acknowledge(frame.received, frame.limit);
        this.#pump();
        break;
      case "message":
        this.#messages.deliver(frame.message);
        break;
      case "done":
        this.#isOtherFinished = true;
        break;
      case "reset":
        this.#end(new NetworkError("Cannot go on: the other side has ended it", "reset"), "leave");
        return;
    }
    this.#onProgress();
  }

  /** Whether all is done, or as much of it as will be. */
  #onProgress(): void {
    if (this.#isEnded) return;
    const isSent = this.#sending.isFinished;
    if (isSent && this.#isClosed && this.#receiving.hasDiscarded) return this.#fail(closed());
    if (!isSent || !this.#receiving.isFinished) return;
    if (!this.#isFinished) {
      this.#isFinished = true;
      this.#finished.resolve();
      this.#leaveAlarm.set(this.#timings.lingerMs);
    }
    const { current } = this.#paths;
    if (current === undefined) return;
    if (this.#doneOver !== current) current.say({ kind: "done" });
    this.#doneOver = current;
    if (this.#isOtherFinished) this.#end(undefined, "leave");
  }

  #onAttached(link: SessionPath): void {
    this.#lastPath = link;
    this.#lostPath = undefined;
    this.#silenceTimer.clear();
    const { local, remote } = link.connection;
    this.#onEvent({ event: "attached", local, remote });
    this.#onProgress();
  }

  #onLost(error: NetworkError): void {
    this.#lostPath = error;
    if (this.#isOtherFinished || this.#isFinished && this.#timeoutMs === 0) return this.#leave();
    this.#onEvent({ event: "lost", error });
    if (this.#timeoutMs > 0) this.#silenceTimer.set(this.#timeoutMs);
    else this.#requirePath();
  }

  #giveUpWithoutPath(): void {
    this.#requirePath();
  }

  /** Fails if there is no path, none is coming, and the time for that is over. */
  #requirePath(): void {
    if (this.#isEnded || this.#lostPath === undefined || this.#silenceTimer.isSet) return;
    if (this.#paths.isAttached || this.#paths.isArriving) return;
    if (this.#isFinished) return this.#leave();
    this.#end(this.#lostPath, "cut");
  }

  /** There is no more time. */
  #leave(): void {
    if (this.#isFinished) this.#end(undefined, "leave");
    else this.#fail(closed());
  }

  /** Ends it, and tells the other side. */
  #fail(error: NetworkError | MalformedMessageError): void {
    if (this.#isEnded) return;
    this.#paths.current?.say({ kind: "reset" });
    this.#end(error, "leave");
  }

  #end(error: NetworkError | MalformedMessageError | undefined, how: "leave" | "cut"): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#failure = error;
    const reason = error ?? closed();
    this.#acknowledgeAlarm.clear();
    this.#silenceTimer.clear();
    this.#leaveAlarm.clear();
    this.#receiving.fail(reason);
    this.#sending.fail(reason);
    this.#messages.fail(reason);
    this.#paths.end(reason, how);
    if (error !== undefined) this.#finished.reject(error);
    this.#paths.released().then(() => this.#released.resolve());
    this.#onEvent(error === undefined ? { event: "ended" } : { event: "ended", error });
  }
}

function toNetAddress({ ip, port }: TransportAddress): NetAddress {
  return { transport: "tcp", hostname: ip, port };
}

function closed(): NetworkError {
  return new NetworkError("Cannot use the session: it is closed", "closed");
}

const NOWHERE: TransportAddress = { ip: "0.0.0.0", port: 0 };

/** Ours: 40 MiB/s over a round trip of 100 ms. */
const WINDOW_BYTES = 4_194_304;
