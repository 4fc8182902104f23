/**
 * One path of a session: frames over a connection, and the keep-alive that detects whether it is dead.
 *
 * @module
 */

import { concat } from "../base/bytes.ts";
import { MalformedMessageError, messageOf, NetworkError } from "../base/errors.ts";
import { ChunkReader, writeAll } from "../base/reader.ts";
import { optionalResolvers } from "../base/tasks.ts";
import { ResettableTimer } from "../base/timers.ts";
import { formatTransportAddress } from "../net/address.ts";
import type { TcpConnection } from "../net/network.ts";
import { type ControlFrame, encodeSessionFrame, SessionFrameReader } from "./frame.ts";
import type { Outgoing } from "./send_stream.ts";
import type { SessionTimings } from "./options.ts";

/** What a path needs from its owner. `onFrame` and `onData` may throw a `MalformedMessageError`, nothing else may throw. */
export interface PathOwner {
  onFrame(path: SessionPath, frame: ForwardedFrame): void;
  /** Stream data was received; its first byte is at `offset` in the stream. */
  onData(path: SessionPath, offset: number, data: Uint8Array): void;
  /** The path has failed. A path that failed with a `NetworkError` is closed already. */
  onFailure(path: SessionPath, error: NetworkError | MalformedMessageError): void;
  /** The path has stalled, or goes on. */
  onStalled(path: SessionPath, isStalled: boolean): void;
  /** The path was pinged, by either side: after a silence, or a few times a second. */
  onPing(): void;
  /** What to write next, once the path's own frames are written. */
  nextFor(path: SessionPath): Outgoing | undefined;
  /** Whether something was written that the other side has not acknowledged. */
  isAnswerDue(path: SessionPath): boolean;
}

/** The frames that a path passes on; it handles pings itself. */
export type ForwardedFrame = Exclude<ControlFrame, { kind: "ping" | "pong" }>;

/** Reads and writes a connection until it fails or is closed. */
export class SessionPath {
  /** Identifies the path within its session; not the number in HELLO. */
  readonly id: number;
  /** The connection below. */
  readonly connection: TcpConnection;
  /** Detects whether the path is alive. */
  readonly keepAlive: KeepAlive;
  /** Resolves once the stream runs over the path. */
  readonly attached: Promise<void>;
  /** Resolves once the connection is closed. */
  readonly released: Promise<void>;
  /** The offset of the next byte of the other side's stream; `undefined` until START. */
  receiveOffset: number | undefined;
  readonly #attached: PromiseWithResolvers<void> = optionalResolvers();
  readonly #owner: PathOwner;
  readonly #goodbyeMs: number;
  readonly #attachTimer: ResettableTimer;
  /** Encoded control frames that wait to be written. */
  #outbox: Uint8Array[] = [];
  #pongToken: number | undefined;
  #isWriting = false;
  /** `closing` writes what is waiting, and reads and ignores everything until the other side closes too. */
  #state: "open" | "closing" | "closed" = "open";
  /** Set while closing. */
  #goodbyeTimer: ResettableTimer | undefined;

  /** @param connection taken over */
  constructor(id: number, connection: TcpConnection, owner: PathOwner, timings: SessionTimings) {
    this.id = id;
    this.connection = connection;
    this.#owner = owner;
    this.#goodbyeMs = timings.goodbyeMs;
    this.keepAlive = new KeepAlive({
      timings,
      onPing: (token) => {
        this.send({ kind: "ping", token });
        owner.onPing();
      },
      onStalled: (isStalled) => owner.onStalled(this, isStalled),
      onDead: (silentMs) => {
        this.#fail(`nothing was received for ${Math.round(silentMs)} ms`, "timed-out");
      },
    });
    const { attachMs } = timings;
    this.#attachTimer = new ResettableTimer(() => {
      this.#fail(`the other side did not accept it within ${attachMs} ms`, "timed-out");
    });
    this.#attachTimer.set(attachMs);
    this.attached = this.#attached.promise;
    this.released = this.#run();
  }

  /** The stream runs over the path from now on. */
  attach(): void {
    if (this.#state !== "open") return;
    this.#attachTimer.clear();
    this.keepAlive.start();
    this.#attached.resolve();
  }

  /** Writes a frame as soon as the connection accepts it. */
  send(frame: ControlFrame): void {
    this.#outbox.push(encodeSessionFrame(frame));
    this.pump();
  }

  /** Writes what is waiting, here and at the owner. */
  pump(): void {
    if (this.#isWriting || this.#state === "closed") return;
    const outgoing = this.#next();
    if (outgoing === undefined) return;
    this.#isWriting = true;
    this.#write(outgoing);
  }

  /** Writes the frames that are waiting, then closes. `attached` rejects with the reason. */
  close(reason: unknown): void {
    if (this.#state !== "open") return;
    this.#end("closing", reason);
    this.#goodbyeTimer = new ResettableTimer(() => this.#closeNow());
    this.#goodbyeTimer.set(this.#goodbyeMs);
    if (!this.#isWriting) this.#closeWrite();
  }

  /** Closes at once, with RST. `attached` rejects with the reason. */
  reset(reason: unknown): void {
    if (this.#state !== "closed") this.#end("closed", reason);
    this.#goodbyeTimer?.clear();
    this.connection.reset();
  }

  #end(state: "closing" | "closed", reason: unknown): void {
    this.#state = state;
    this.#attachTimer.clear();
    this.keepAlive.stop();
    this.#attached.reject(reason);
  }

  #closeNow(): void {
    this.#state = "closed";
    this.#goodbyeTimer?.clear();
    this.connection.close();
  }

  #next(): Outgoing | undefined {
    if (this.#pongToken !== undefined) {
      this.#outbox.push(encodeSessionFrame({ kind: "pong", token: this.#pongToken }));
      this.#pongToken = undefined;
    }
    if (this.#outbox.length > 0) return { bytes: concat(...this.#outbox.splice(0)) };
    return this.#state === "open" ? this.#owner.nextFor(this) : undefined;
  }

  async #write(first: Outgoing): Promise<void> {
    try {
      for (let next: Outgoing | undefined = first; next !== undefined; next = this.#next()) {
        const written = await this.connection.write(next.bytes); // a secured connection takes all of it
        if (written < next.bytes.length) {
          await writeAll(this.connection, next.bytes.subarray(written));
        }
        next.onWritten?.();
        if (this.#state === "closed") return;
      }
      this.#isWriting = false;
      if (this.#state === "closing") this.#closeWrite();
    } catch (error) {
      this.#isWriting = false;
      this.#onConnectionFailure(error);
    }
  }

  #closeWrite(): void {
    this.connection.closeWrite().catch(() => this.#closeNow());
  }

  async #run(): Promise<void> {
    const chunks = new ChunkReader(this.connection);
    const frames = new SessionFrameReader();
    try {
      for (let chunk; (chunk = await chunks.next()) !== null;) {
        if (this.#state === "closed") return;
        if (this.#state === "closing") continue;
        this.keepAlive.onReceived();
        frames.push(chunk);
        this.#dispatch(frames);
        chunks.done(chunk);
        if (this.#owner.isAnswerDue(this)) this.keepAlive.onAnswerDue();
      }
      if (this.#state === "closing") this.#closeNow();
      else this.#fail("the path was cut", "reset");
    } catch (error) {
      this.#onConnectionFailure(error);
    }
  }

  #dispatch(frames: SessionFrameReader): void {
    try {
      while (this.#state === "open") {
        const part = frames.next();
        if (part === undefined) return;
        if (part instanceof Uint8Array) this.#onData(part);
        else this.#onFrame(part);
      }
    } catch (error) {
      if (!(error instanceof MalformedMessageError)) throw error;
      this.#owner.onFailure(this, error);
    }
  }

  #onData(data: Uint8Array): void {
    const offset = this.receiveOffset;
    if (offset === undefined) throw new MalformedMessageError("Cannot continue: DATA before START");
    this.receiveOffset = offset + data.length;
    this.keepAlive.onStreamData();
    this.#owner.onData(this, offset, data);
  }

  #onFrame(frame: ControlFrame): void {
    if (frame.kind === "ping") {
      this.#pongToken = frame.token;
      this.pump();
      this.#owner.onPing();
    } else if (frame.kind === "pong") {
      this.keepAlive.onPong(frame.token);
    } else {
      this.#owner.onFrame(this, frame);
    }
  }

  #onConnectionFailure(error: unknown): void {
    if (this.#state !== "open") {
      this.reset(error);
      return;
    }
    const reason = error instanceof NetworkError ? error.reason : "other";
    const why = messageOf(error);
    this.#fail(why, reason, error);
  }

  #fail(why: string, reason: NetworkError["reason"], cause?: unknown): void {
    if (this.#state !== "open") return;
    const { local, remote } = this.connection;
    const path = `${formatTransportAddress(local)} to ${formatTransportAddress(remote)}`;
    const options = cause === undefined ? undefined : { cause };
    const error = new NetworkError(`Cannot use the path from ${path}: ${why}`, reason, options);
    this.reset(error);
    this.#owner.onFailure(this, error);
  }
}

/** The callbacks of a {@linkcode KeepAlive}. */
export interface KeepAliveOptions {
  readonly timings: SessionTimings;
  /** Sends a PING. */
  readonly onPing: (token: number) => void;
  /** Called when an answer is overdue, with `true`, and when the other side is heard again, with `false`. */
  readonly onStalled: (isStalled: boolean) => void;
  /** Called when the path is dead, with how long nothing was received. */
  readonly onDead: (silentMs: number) => void;
}

/** Watches one path. Its timer is not reset for every message: when it fires, it looks at what happened meanwhile. */
export class KeepAlive {
  readonly #options: KeepAliveOptions;
  readonly #timer: ResettableTimer;
  /** When the timer fires. */
  #timerMs = Infinity;
  #lastReceivedMs = 0;
  /** Whether stream data has arrived since the last PONG. */
  #isStreaming = false;
  /** Since when an answer from the other side has been due. */
  #awaitingSinceMs: number | undefined;
  #ping:
    | { readonly token: number; readonly sentAtMs: number; readonly isProbe: boolean }
    | undefined;
  #lastToken = 0;
  #rttMs: number | undefined;
  /** As it was measured last. */
  #lastRttMs: number | undefined;
  #leastRttMs: number | undefined;
  /** How long answers took lately: the other side sees a long record of a slow path only at its end. */
  #answerMs = 0;
  /** `changed`: the network below the path has changed, so that what arrives may have been sent before that. */
  #stall: "none" | "overdue" | "changed" = "none";
  /** Those that wait for a sign of life. */
  #asking: readonly ((isAlive: boolean) => void)[] = NONE;
  #isStopped = false;
  /** Whether the timer was late the last time. */
  #isHeldUp = false;

  constructor(options: KeepAliveOptions) {
    this.#options = options;
    this.#timer = new ResettableTimer(() => this.#check());
  }

  /** The smoothed round trip of the path, including time in queues. */
  get rttMs(): number | undefined {
    return this.#rttMs;
  }

  /** The shortest round trip so far, most likely without queues: the first ping has the path for itself. */
  get leastRttMs(): number | undefined {
    return this.#leastRttMs;
  }

  /** Starts with a first ping. */
  start(): void {
    this.#lastReceivedMs = performance.now();
    this.#sendPing(false);
    this.#setTimer();
  }

  /** Stops for good. */
  stop(): void {
    this.#timer.clear();
    this.#isStopped = true;
    for (const resolve of this.#asking) resolve(false);
  }

  /** Whether the timer keeps the program running. */
  set isReferenced(isReferenced: boolean) {
    this.#timer.isReferenced = isReferenced;
  }

  /** Pings at once, and allows less time for the answer. */
  probe(): void {
    this.#awaitingSinceMs = performance.now();
    this.#sendPing(true);
    this.#setTimer();
  }

  /** Pings at once, unless a ping is under way. Returns how long the last one took, or this one has taken so far. */
  measure(): number | undefined {
    if (this.#ping === undefined && !this.#isStopped) {
      this.#sendPing(false);
      this.#setTimer();
    }
    const soFarMs = performance.now() - (this.#ping?.sentAtMs ?? Infinity);
    return this.#lastRttMs === undefined ? undefined : Math.max(soFarMs, this.#lastRttMs);
  }

  /** The network below has changed: pings at once, and takes the path for stalled until the answer arrives. */
  suspect(): void {
    if (this.#isStopped) return;
    this.#setStall("changed"); // who is told may make the path lead here again, so that the ping is answered
    this.#sendPing(false);
    this.#setTimer();
  }

  /**
   * Whether anything is received within this time, from now on. Pings at once; any frame will do, because the ping may wait
   * behind data.
   */
  async answers(withinMs: number): Promise<boolean> {
    if (this.#isStopped) return false;
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const timer = setTimeout(() => resolve(false), withinMs);
    this.#asking = [...this.#asking, resolve];
    try {
      if (this.#ping?.isProbe !== true) this.probe();
      return await promise;
    } finally {
      clearTimeout(timer);
      this.#asking = this.#asking.filter((each) => each !== resolve);
    }
  }

  /** Something was received. */
  onReceived(): void {
    if (this.#asking.length > 0) this.#asking.forEach((resolve) => resolve(true));
    const nowMs = this.#lastReceivedMs = performance.now();
    if (this.#awaitingSinceMs !== undefined) this.#onAnswer(nowMs - this.#awaitingSinceMs);
    if (this.#ping?.isProbe !== true) this.#awaitingSinceMs = undefined;
    if (this.#stall === "overdue") this.#setStall("none");
  }

  /** Stream data was received, which is not expected to pause: the next ping comes earlier. */
  onStreamData(): void {
    if (this.#isStreaming) return;
    this.#isStreaming = true;
    if (this.#timer.isSet) this.#setTimer();
  }

  /** Something was sent that the other side must answer. */
  onAnswerDue(): void {
    if (this.#awaitingSinceMs !== undefined) return;
    this.#awaitingSinceMs = performance.now();
    if (this.#timer.isSet && this.#stalledAtMs < this.#timerMs) this.#setTimer();
  }

  /** A PONG was received. */
  onPong(token: number): void {
    const ping = this.#ping;
    if (ping?.token !== token) return;
    const measuredMs = this.#lastRttMs = performance.now() - ping.sentAtMs;
    this.#onAnswer(measuredMs);
    this.#leastRttMs = Math.min(this.#leastRttMs ?? Infinity, measuredMs);
    this.#rttMs = this.#rttMs === undefined
      ? measuredMs
      : this.#rttMs + (measuredMs - this.#rttMs) * SMOOTHING;
    this.#ping = this.#awaitingSinceMs = undefined;
    this.#isStreaming = false;
    if (this.#stall !== "none") this.#setStall("none");
  }

  #onAnswer(afterMs: number): void {
    this.#answerMs = Math.max(afterMs, this.#answerMs * FORGETTING);
  }

  #setStall(stall: "none" | "overdue" | "changed"): void {
    const wasStalled = this.#stall !== "none";
    this.#stall = stall;
    if (wasStalled !== (stall !== "none")) this.#options.onStalled(!wasStalled);
  }

  #sendPing(isProbe: boolean): void {
    const token = this.#lastToken = (this.#lastToken + 1) >>> 0;
    const sentAtMs = performance.now();
    this.#ping = { token, sentAtMs, isProbe };
    this.#awaitingSinceMs ??= sentAtMs;
    this.#options.onPing(token);
  }

  #check(): void {
    const nowMs = performance.now();
    this.#isHeldUp = nowMs >= this.#timerMs + MAX_LATE_MS && !this.#isHeldUp;
    if (this.#isHeldUp) return this.#setTimer(); // what has arrived is read first
    if (nowMs >= this.#deadAtMs) {
      this.#options.onDead(nowMs - this.#lastReceivedMs);
      return;
    }
    if (this.#stall === "none" && nowMs >= this.#stalledAtMs) this.#setStall("overdue");
    if (this.#isStopped) return; // by whoever was told
    if (this.#awaitingSinceMs === undefined && nowMs >= this.#lastReceivedMs + this.#pingAfterMs) {
      this.#sendPing(false);
    }
    this.#setTimer();
  }

  get #pingAfterMs(): number {
    const { pingAfterMs, pingStoppedAfterMs } = this.#options.timings;
    return this.#isStreaming ? Math.min(pingAfterMs, pingStoppedAfterMs) : pingAfterMs;
  }

  get #deadAtMs(): number {
    return this.#awaitingSinceMs === undefined ? Infinity : this.#awaitingSinceMs + this.#timeoutMs;
  }

  get #timeoutMs(): number {
    const { deadAfterMs, suspectAfterMs, deadAfterRoundTrips } = this.#options.timings;
    const leastMs = this.#ping?.isProbe === true ? suspectAfterMs : deadAfterMs;
    return Math.max(leastMs, deadAfterRoundTrips * (this.#rttMs ?? 0));
  }

  /**
   * An answer that takes as long as those before it, or a little longer, is not overdue. A ping that is sent while nothing else
   * is under way has the path for itself.
   */
  get #stalledAtMs(): number {
    const { stalledAfterMs, pingStalledAfterMs } = this.#options.timings;
    const sinceMs = this.#awaitingSinceMs;
    if (sinceMs === undefined) return Infinity;
    const isPing = sinceMs === this.#ping?.sentAtMs && this.#rttMs !== undefined;
    const leastMs = isPing
      ? Math.max(pingStalledAfterMs, PING_ROUND_TRIPS * this.#rttMs!)
      : stalledAfterMs;
    return sinceMs + Math.max(Math.min(leastMs, stalledAfterMs), 2 * this.#answerMs);
  }

  /** Early enough for an answer that becomes due before the timer fires. */
  #setTimer(): void {
    const idleMs = this.#lastReceivedMs + Math.min(this.#pingAfterMs, this.#timeoutMs);
    const overdueMs = this.#stall === "none"
      ? Math.min(this.#stalledAtMs, this.#deadAtMs)
      : this.#deadAtMs;
    const nowMs = performance.now();
    const dueMs = this.#awaitingSinceMs === undefined ? idleMs : overdueMs;
    this.#timerMs = Math.max(nowMs + 1, dueMs);
    this.#timer.set(this.#timerMs - nowMs);
  }
}

/** The same as TCP's: RFC 6298 §2. */
const SMOOTHING = 1 / 8;

/** Chosen by us: a segment that is lost is sent again after two, and answered in one more. */
const PING_ROUND_TRIPS = 4;

/** How late a timer may be before it shows that the program was held up. Chosen by us. */
const MAX_LATE_MS = 100;

/** Chosen by us: one answer that took long counts for a few more. */
const FORGETTING = 3 / 4;

/** Shared, since idle paths must take little memory. */
const NONE: readonly never[] = [];
