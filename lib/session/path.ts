/**
 * One path of a session: frames over a connection, and whether it lives.
 *
 * @module
 */

import { concat } from "../base/bytes.ts";
import { MalformedMessageError, NetworkError } from "../base/errors.ts";
import { ResettableTimer } from "../base/timers.ts";
import { formatTransportAddress } from "../net/address.ts";
import type { TcpConnection } from "../net/network.ts";
import { writeAll } from "../base/reader.ts";
import { encodeFrame, type Frame, FrameReader } from "./frame.ts";
import type { Outgoing } from "./send_stream.ts";

/** In milliseconds. */
export interface SessionTimings {
  /** A path over which nothing came for so long is asked whether it lives; that also holds the mappings of NATs. */
  readonly pingAfterMs: number;
  /** The same where the stream was flowing, and has stopped. */
  readonly pingStoppedAfterMs: number;
  /** A path is dead if nothing comes for so long after something that is to be answered, */
  readonly deadAfterMs: number;
  /** or so long after {@linkcode Session.probe}; */
  readonly suspectAfterMs: number;
  /** in either case not before so many round trips have passed. */
  readonly deadAfterRoundTrips: number;
  /** What has come is acknowledged so much later, unless much comes. */
  readonly acknowledgeAfterMs: number;
  /** How long a new path may take until the stream runs over it. */
  readonly attachMs: number;
  /** How long `close()` goes on in the background to deliver what was written, and waits for the other side's end. */
  readonly closeMs: number;
  /** How long a session that is finished stays for an other side that may not know it yet. */
  readonly lingerMs: number;
  /** How long the last words on a path may take. */
  readonly goodbyeMs: number;
}

/** What there is unless told otherwise. */
export const DEFAULT_SESSION_TIMINGS: SessionTimings = {
  pingAfterMs: 5000, // often enough for any NAT, and a hundred bytes or so
  pingStoppedAfterMs: 1000, // whoever only receives notices a dead path no later than who sends, but for that
  deadAfterMs: 5000, // TCP has repeated itself four times by then
  suspectAfterMs: 2000, // three times
  deadAfterRoundTrips: 4,
  acknowledgeAfterMs: 100,
  attachMs: 10_000,
  closeMs: 30_000,
  lingerMs: 5000,
  goodbyeMs: 1000,
};

/** What a {@linkcode KeepAlive} does. */
export interface KeepAliveOptions {
  readonly timings: SessionTimings;
  readonly onPing: (token: number) => void;
  readonly onDead: (silentMs: number) => void;
}

/** Watches one path. Its timer is not set for each message: it rings, and then sees what has happened meanwhile. */
export class KeepAlive {
  readonly #options: KeepAliveOptions;
  readonly #timer: ResettableTimer;
  #heardAtMs = 0;
  /** Whether the stream has come since the other side last answered. */
  #isFlowing = false;
  /** When that was sent for which the other side owes us something. */
  #askedAtMs: number | undefined;
  #ping:
    | { readonly token: number; readonly sentAtMs: number; readonly isProbe: boolean }
    | undefined;
  #lastToken = 0;
  #rttMs: number | undefined;

  constructor(options: KeepAliveOptions) {
    this.#options = options;
    this.#timer = new ResettableTimer(() => this.#look());
  }

  /** The round trip of the path, smoothed; with what waits on its way before it. */
  get rttMs(): number | undefined {
    return this.#rttMs;
  }

  /** Begins, with a first ping. */
  start(): void {
    this.#heardAtMs = performance.now();
    this.#sendPing(false);
    this.#setAlarm();
  }

  /** Ends. */
  stop(): void {
    this.#timer.clear();
  }

  set isReferenced(isReferenced: boolean) {
    this.#timer.isReferenced = isReferenced;
  }

  /** Asks at once, and is less patient until the answer comes. */
  probe(): void {
    this.#askedAtMs = performance.now();
    this.#sendPing(true);
    this.#setAlarm();
  }

  /** Something came. */
  onHeard(): void {
    this.#heardAtMs = performance.now();
    if (this.#ping?.isProbe !== true) this.#askedAtMs = undefined;
  }

  /** Part of the stream came: unlike what keeps a path alive, it is not expected to pause. */
  onFlow(): void {
    if (this.#isFlowing) return;
    this.#isFlowing = true;
    if (this.#timer.isSet) this.#setAlarm(); // it has begun
  }

  /** Something was sent that the other side will answer. */
  onAsked(): void {
    this.#askedAtMs ??= performance.now();
  }

  /** A ping was answered. */
  onPong(token: number): void {
    const ping = this.#ping;
    if (ping?.token !== token) return;
    const measuredMs = performance.now() - ping.sentAtMs;
    this.#rttMs = this.#rttMs === undefined
      ? measuredMs
      : this.#rttMs + (measuredMs - this.#rttMs) * SMOOTHING;
    this.#ping = this.#askedAtMs = undefined;
    this.#isFlowing = false;
  }

  #sendPing(isProbe: boolean): void {
    const token = this.#lastToken = (this.#lastToken + 1) >>> 0;
    const sentAtMs = performance.now();
    this.#ping = { token, sentAtMs, isProbe };
    this.#askedAtMs ??= sentAtMs;
    this.#options.onPing(token);
  }

  #look(): void {
    const nowMs = performance.now();
    if (nowMs >= this.#deadAtMs) {
      this.#options.onDead(nowMs - this.#heardAtMs);
      return;
    }
    if (this.#askedAtMs === undefined && nowMs >= this.#heardAtMs + this.#pingAfterMs) {
      this.#sendPing(false);
    }
    this.#setAlarm();
  }

  get #pingAfterMs(): number {
    const { pingAfterMs, pingStoppedAfterMs } = this.#options.timings;
    return this.#isFlowing ? Math.min(pingAfterMs, pingStoppedAfterMs) : pingAfterMs;
  }

  get #deadAtMs(): number {
    return this.#askedAtMs === undefined ? Infinity : this.#askedAtMs + this.#timeoutMs;
  }

  get #timeoutMs(): number {
    const { deadAfterMs, suspectAfterMs, deadAfterRoundTrips } = this.#options.timings;
    const leastMs = this.#ping?.isProbe === true ? suspectAfterMs : deadAfterMs;
    return Math.max(leastMs, deadAfterRoundTrips * (this.#rttMs ?? 0));
  }

  /** In time for what may be sent meanwhile, too. */
  #setAlarm(): void {
    const idleMs = this.#heardAtMs + Math.min(this.#pingAfterMs, this.#timeoutMs);
    const dueMs = this.#askedAtMs === undefined ? idleMs : this.#deadAtMs;
    this.#timer.set(Math.max(1, dueMs - performance.now()));
  }
}

/** As TCP's: RFC 6298 §2. */
const SMOOTHING = 1 / 8;

/** Who has the path. None of this may throw, but for what comes, if it is malformed. */
export interface PathOwner {
  onFrame(link: SessionPath, frame: LinkFrame): void;
  onData(link: SessionPath, offset: number, data: Uint8Array): void;
  /** The path carries nothing more; it is closed already. */
  onFailure(link: SessionPath, error: NetworkError | MalformedMessageError): void;
  /** What is to be written next, after what the link says itself. */
  nextFor(link: SessionPath): Outgoing | undefined;
  /** Whether the other side has yet to acknowledge something that was written. */
  isOwed(link: SessionPath): boolean;
}

/** What the owner sees. */
export type LinkFrame = Exclude<Frame, { kind: "data" | "ping" | "pong" }>;

/** Reads and writes a connection until it fails, or is closed or cut. */
export class SessionPath {
  readonly connection: TcpConnection;
  readonly keepAlive: KeepAlive;
  /** The number that the controlling side gave it; 0 until that is known. */
  generation = 0;
  /** Whether the other side has said hello. */
  isGreeted = false;
  /** Settles when the stream runs over it. */
  readonly attached: PromiseWithResolvers<void> = Promise.withResolvers();
  /** Settles when the connection is closed. */
  readonly released: Promise<void>;
  /** Which part of the other side's stream comes next; `undefined` until it starts. */
  receiveOffset: number | undefined;
  readonly #owner: PathOwner;
  readonly #goodbyeMs: number;
  readonly #attachAlarm: ResettableTimer;
  #words: Uint8Array[] = [];
  #pongToken: number | undefined;
  #isWriting = false;
  /** `leaving` writes what there is, reads until the other side leaves too, and heeds nothing. */
  #state: "open" | "leaving" | "closed" = "open";
  #onLeft = () => {};

  /** @param connection taken over */
  constructor(connection: TcpConnection, owner: PathOwner, timings: SessionTimings) {
    this.connection = connection;
    this.#owner = owner;
    this.#goodbyeMs = timings.goodbyeMs;
    this.keepAlive = new KeepAlive({
      timings,
      onPing: (token) => this.say({ kind: "ping", token }),
      onDead: (silentMs) => this.#fail(`nothing came for ${Math.round(silentMs)} ms`, "timed-out"),
    });
    const { attachMs } = timings;
    this.#attachAlarm = new ResettableTimer(() => {
      this.#fail(`the other side did not take it within ${attachMs} ms`, "timed-out");
    });
    this.#attachAlarm.set(attachMs);
    this.attached.promise.catch(() => {}); // whoever attached it is told
    this.released = this.#run();
  }

  /** Whether it was neither closed nor cut, and has not failed. */
  get isOpen(): boolean {
    return this.#state === "open";
  }

  /** The stream runs over it. */
  attach(): void {
    this.#attachAlarm.clear();
    this.keepAlive.start();
    this.attached.resolve();
  }

  /** Writes a frame as soon as the connection takes it. */
  say(frame: Exclude<Frame, { kind: "data" }>): void {
    this.#words.push(encodeFrame(frame));
    this.pump();
  }

  /** Writes what there is. */
  pump(): void {
    if (this.#isWriting || this.#state === "closed") return;
    const outgoing = this.#next();
    if (outgoing === undefined) return;
    this.#isWriting = true;
    this.#write(outgoing);
  }

  /** Says what it was told to say, and closes; who waits for it to be attached is told the reason. */
  leave(reason: unknown): void {
    if (this.#state !== "open") return;
    this.#end("leaving", reason);
    const timer = new ResettableTimer(() => this.#close());
    timer.set(this.#goodbyeMs);
    this.#onLeft = () => timer.clear();
    if (!this.#isWriting) this.#closeWrite();
  }

  /** Closes at once. */
  cut(reason: unknown): void {
    if (this.#state !== "closed") this.#end("closed", reason);
    this.#onLeft();
    this.connection.reset();
  }

  #end(state: "leaving" | "closed", reason: unknown): void {
    this.#state = state;
    this.#attachAlarm.clear();
    this.keepAlive.stop();
    this.attached.reject(reason);
  }

  #close(): void {
    this.#state = "closed";
    this.#onLeft();
    this.connection.close();
  }

  #next(): Outgoing | undefined {
    if (this.#pongToken !== undefined) {
      this.#words.push(encodeFrame({ kind: "pong", token: this.#pongToken }));
      this.#pongToken = undefined;
    }
    if (this.#words.length > 0) return { bytes: concat(...this.#words.splice(0)) };
    return this.#state === "open" ? this.#owner.nextFor(this) : undefined;
  }

  async #write(first: Outgoing): Promise<void> {
    try {
      for (let next: Outgoing | undefined = first; next !== undefined; next = this.#next()) {
        const written = await this.connection.write(next.bytes);
        if (written < next.bytes.length) {
          await writeAll(this.connection, next.bytes.subarray(written));
        }
        next.onWritten?.();
        if (this.#state === "closed") return;
      }
      this.#isWriting = false;
      if (this.#state === "leaving") this.#closeWrite();
    } catch (error) {
      this.#isWriting = false;
      this.#lose(error);
    }
  }

  #closeWrite(): void {
    this.connection.closeWrite().catch(() => this.#close());
  }

  async #run(): Promise<void> {
    const reader = new FrameReader(this.connection);
    try {
      while (await reader.fill()) {
        if (this.#state === "closed") return;
        if (this.#state === "leaving") {
          reader.clear();
          continue;
        }
        this.keepAlive.onHeard();
        this.#dispatch(reader);
        if (this.#owner.isOwed(this)) this.keepAlive.onAsked();
      }
      if (this.#state === "leaving") this.#close();
      else this.#fail("the path was cut", "reset");
    } catch (error) {
      this.#lose(error);
    }
  }

  #dispatch(reader: FrameReader): void {
    try {
      while (this.#state === "open") {
        const part = reader.next();
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
    if (offset === undefined) throw new MalformedMessageError("Cannot go on: data before START");
    this.receiveOffset = offset + data.length;
    this.keepAlive.onFlow();
    this.#owner.onData(this, offset, data);
  }

  #onFrame(frame: Exclude<Frame, { kind: "data" }>): void {
    if (frame.kind === "ping") {
      this.#pongToken = frame.token;
      this.pump();
    } else if (frame.kind === "pong") {
      this.keepAlive.onPong(frame.token);
    } else {
      this.#owner.onFrame(this, frame);
    }
  }

  /** The connection does not go on. */
  #lose(error: unknown): void {
    if (this.#state !== "open") {
      this.cut(error);
      return;
    }
    const reason = error instanceof NetworkError ? error.reason : "other";
    const why = error instanceof Error ? error.message : String(error);
    this.#fail(why, reason, error);
  }

  #fail(why: string, reason: NetworkError["reason"], cause?: unknown): void {
    if (this.#state !== "open") return;
    const { local, remote } = this.connection;
    const path = `${formatTransportAddress(local)} to ${formatTransportAddress(remote)}`;
    const options = cause === undefined ? {} : { cause };
    const error = new NetworkError(`Cannot use the path from ${path}: ${why}`, reason, options);
    this.cut(error);
    this.#owner.onFailure(this, error);
  }
}
