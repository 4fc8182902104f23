/**
 * Whether a path lives, and how long its round trip is.
 *
 * @module
 */

import { Alarm } from "../alarm.ts";
import type { SessionTimings } from "./timings.ts";

/** What a {@linkcode KeepAlive} does. */
export interface KeepAliveOptions {
  readonly timings: SessionTimings;
  readonly onPing: (token: number) => void;
  readonly onDead: (silentMs: number) => void;
}

/** Watches one path. Its timer is not set for each message: it rings, and then sees what has happened meanwhile. */
export class KeepAlive {
  readonly #options: KeepAliveOptions;
  readonly #alarm: Alarm;
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
    this.#alarm = new Alarm(() => this.#look());
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
    this.#alarm.clear();
  }

  set isReferenced(isReferenced: boolean) {
    this.#alarm.isReferenced = isReferenced;
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
    if (this.#alarm.isSet) this.#setAlarm(); // it has begun
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
    return this.#askedAtMs === undefined ? Infinity : this.#askedAtMs + this.#patienceMs;
  }

  get #patienceMs(): number {
    const { deadAfterMs, suspectAfterMs, deadAfterRoundTrips } = this.#options.timings;
    const leastMs = this.#ping?.isProbe === true ? suspectAfterMs : deadAfterMs;
    return Math.max(leastMs, deadAfterRoundTrips * (this.#rttMs ?? 0));
  }

  /** In time for what may be sent meanwhile, too. */
  #setAlarm(): void {
    const idleMs = this.#heardAtMs + Math.min(this.#pingAfterMs, this.#patienceMs);
    const dueMs = this.#askedAtMs === undefined ? idleMs : this.#deadAtMs;
    this.#alarm.set(Math.max(1, dueMs - performance.now()));
  }
}

/** As TCP's: RFC 6298 §2. */
const SMOOTHING = 1 / 8;
