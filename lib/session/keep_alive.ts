/**
 * Detects whether a path is alive.
 *
 * @module
 */

import { ResettableTimer } from "../base/timers.ts";
import type { SessionTimings } from "./timings.ts";

/** The callbacks of a {@linkcode KeepAlive}. */
export interface KeepAliveOptions {
  readonly timings: SessionTimings;
  /** Sends a PING. */
  readonly onPing: (token: number) => void;
  /** Called when the path is dead, with how long nothing was received. */
  readonly onDead: (silentMs: number) => void;
}

/** Watches one path. Its timer is not reset for every message: when it fires, it looks at what happened meanwhile. */
export class KeepAlive {
  readonly #options: KeepAliveOptions;
  readonly #timer: ResettableTimer;
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

  constructor(options: KeepAliveOptions) {
    this.#options = options;
    this.#timer = new ResettableTimer(() => this.#check());
  }

  /** The smoothed round trip of the path, including time in queues. */
  get rttMs(): number | undefined {
    return this.#rttMs;
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

  /** Something was received. */
  onReceived(): void {
    this.#lastReceivedMs = performance.now();
    if (this.#ping?.isProbe !== true) this.#awaitingSinceMs = undefined;
  }

  /** Stream data was received, which is not expected to pause: the next ping comes earlier. */
  onStreamData(): void {
    if (this.#isStreaming) return;
    this.#isStreaming = true;
    if (this.#timer.isSet) this.#setTimer();
  }

  /** Something was sent that the other side must answer. */
  onAnswerDue(): void {
    this.#awaitingSinceMs ??= performance.now();
  }

  /** A PONG was received. */
  onPong(token: number): void {
    const ping = this.#ping;
    if (ping?.token !== token) return;
    const measuredMs = performance.now() - ping.sentAtMs;
    this.#rttMs = this.#rttMs === undefined
      ? measuredMs
      : this.#rttMs + (measuredMs - this.#rttMs) * SMOOTHING;
    this.#ping = this.#awaitingSinceMs = undefined;
    this.#isStreaming = false;
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
    if (nowMs >= this.#deadAtMs) {
      this.#options.onDead(nowMs - this.#lastReceivedMs);
      return;
    }
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

  /** Early enough for an answer that becomes due before the timer fires. */
  #setTimer(): void {
    const idleMs = this.#lastReceivedMs + Math.min(this.#pingAfterMs, this.#timeoutMs);
    const dueMs = this.#awaitingSinceMs === undefined ? idleMs : this.#deadAtMs;
    this.#timer.set(Math.max(1, dueMs - performance.now()));
  }
}

/** The same as TCP's: RFC 6298 §2. */
const SMOOTHING = 1 / 8;
