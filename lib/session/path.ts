/**
 * One path of a session: frames over a connection.
 *
 * @module
 */

import { concat } from "../base/bytes.ts";
import { MalformedMessageError, NetworkError } from "../base/errors.ts";
import { writeAll } from "../base/reader.ts";
import { optionalResolvers } from "../base/tasks.ts";
import { ResettableTimer } from "../base/timers.ts";
import { formatTransportAddress } from "../net/address.ts";
import type { TcpConnection } from "../net/network.ts";
import { type ControlFrame, encodeSessionFrame, SessionFrameReader } from "./frame.ts";
import { KeepAlive } from "./keep_alive.ts";
import type { Outgoing } from "./send_stream.ts";
import type { SessionTimings } from "./timings.ts";

/** The frames that a path passes on; it handles pings itself. */
export type ForwardedFrame = Exclude<ControlFrame, { kind: "ping" | "pong" }>;

/** What a path needs from its owner. `onFrame` and `onData` may throw a `MalformedMessageError`, nothing else may throw. */
export interface PathOwner {
  onFrame(path: SessionPath, frame: ForwardedFrame): void;
  /** Stream data was received; `offset` is that of its first byte. */
  onData(path: SessionPath, offset: number, data: Uint8Array): void;
  /** The path has failed. A path that failed with a `NetworkError` is closed already. */
  onFailure(path: SessionPath, error: NetworkError | MalformedMessageError): void;
  /** What to write next, once the path's own frames are written. */
  nextFor(path: SessionPath): Outgoing | undefined;
  /** Whether something was written that the other side has not acknowledged. */
  isAnswerDue(path: SessionPath): boolean;
}

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
      onPing: (token) => this.send({ kind: "ping", token }),
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
    const reader = new SessionFrameReader(this.connection);
    try {
      while (await reader.fill()) {
        if (this.#state === "closed") return;
        if (this.#state === "closing") {
          reader.clear();
          continue;
        }
        this.keepAlive.onReceived();
        this.#dispatch(reader);
        if (this.#owner.isAnswerDue(this)) this.keepAlive.onAnswerDue();
      }
      if (this.#state === "closing") this.#closeNow();
      else this.#fail("the path was cut", "reset");
    } catch (error) {
      this.#onConnectionFailure(error);
    }
  }

  #dispatch(reader: SessionFrameReader): void {
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
    if (offset === undefined) throw new MalformedMessageError("Cannot continue: DATA before START");
    this.receiveOffset = offset + data.length;
    this.keepAlive.onStreamData();
    this.#owner.onData(this, offset, data);
  }

  #onFrame(frame: ControlFrame): void {
    if (frame.kind === "ping") {
      this.#pongToken = frame.token;
      this.pump();
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
    const why = error instanceof Error ? error.message : String(error);
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
