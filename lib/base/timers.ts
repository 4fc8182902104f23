/**
 * Timers: deadlines, timers that can be reset, waits that can end early, and the two clocks.
 *
 * @module
 */

/**
 * A signal that aborts after a time, or together with another signal. Disposing it clears its timer, whereas the timer of
 * `AbortSignal.timeout()` keeps the process alive for as long as the signal has a listener.
 */
export class Deadline implements Disposable {
  /** Aborts with a `TimeoutError`, or with the reason of the other signal. */
  readonly signal: AbortSignal;
  readonly #controller = new AbortController(); // a signal that a timer can abort needs one
  readonly #timer: ReturnType<typeof setTimeout>;

  /**
   * @param afterMs when to abort, from now
   * @param signal another signal to abort with
   */
  constructor(afterMs: number, signal?: AbortSignal) {
    this.#timer = setTimeout(() => {
      this.expire(new DOMException(`Timed out after ${afterMs} ms`, "TimeoutError"));
    }, Math.max(0, afterMs));
    this.signal = signal === undefined
      ? this.#controller.signal
      : AbortSignal.any([this.#controller.signal, signal]);
  }

  /** Aborts with this reason, before the time is up. */
  expire(reason: unknown): void {
    this.#controller.abort(reason);
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }
}

/** A timer that fires once after it is set, and can be reset or cleared before that. */
export class ResettableTimer {
  readonly #onFire: () => void;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #isReferenced = true;

  /** @param onFire called each time it fires */
  constructor(onFire: () => void) {
    this.#onFire = onFire;
  }

  /** Whether it is going to fire. */
  get isSet(): boolean {
    return this.#timer !== undefined;
  }

  /** Sets it to fire after this time, in place of any earlier setting. */
  set(afterMs: number): void {
    this.clear();
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#onFire();
    }, afterMs);
    this.#apply();
  }

  /** Clears it, so that it does not fire. */
  clear(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /** Whether it keeps the program running until it fires. Default: `true`. */
  set isReferenced(isReferenced: boolean) {
    this.#isReferenced = isReferenced;
    this.#apply();
  }

  /** The platform's timers are objects, as in Node, although its types still declare them as numbers. */
  #apply(): void {
    const timer: unknown = this.#timer;
    if (typeof timer !== "object" || timer === null || !("ref" in timer && "unref" in timer)) {
      return;
    }
    const apply = this.#isReferenced ? timer.ref : timer.unref;
    if (typeof apply === "function") apply.call(timer);
  }
}

/** Resolves after a time, or on abort. It does not keep the program running. */
export function idleDelay(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      timer.clear();
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = new ResettableTimer(end);
    timer.isReferenced = false;
    timer.set(ms);
    signal.addEventListener("abort", end, { once: true });
    if (signal.aborted) end();
  });
}

/** A wait that can be cut short, for a loop that acts at certain times, or earlier when something happens. */
export class WakeableDelay {
  #wake: (() => void) | undefined;
  #isWoken = false;

  /** Ends the pending wait, or else the next one at its start. */
  wake(): void {
    this.#isWoken = true;
    this.#wake?.();
  }

  /**
   * Waits until the time is up or {@linkcode WakeableDelay.wake} is called. Only one call may be pending.
   *
   * @param ms with `Infinity`, only `wake()` ends the wait
   * @throws the signal's reason on abort
   */
  async wait(ms: number, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    if (!this.#isWoken) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#wake = resolve;
      const timer = new ResettableTimer(resolve);
      if (ms !== Infinity) timer.set(Math.min(Math.max(0, ms), MAX_TIMER_MS));
      const onAbort = () => resolve();
      signal?.addEventListener("abort", onAbort, { once: true });
      await promise;
      signal?.removeEventListener("abort", onAbort);
      timer.clear();
      this.#wake = undefined;
      signal?.throwIfAborted();
    }
    this.#isWoken = false;
  }
}

/** The time, by two clocks. */
export interface Clocks {
  /** Milliseconds on a clock that never goes back or jumps. */
  readonly nowMs: number;
  /** Milliseconds since 1970, by a clock that is set now and then, by a person or a server. */
  readonly wallMs: number;
}

/** What this host's clocks show. */
export function readClocks(): Clocks {
  return { nowMs: performance.now(), wallMs: Date.now() };
}

/** What the wall clock would show now if it had not been set since then. */
export function steadyTimeMs(then: Clocks, nowMs: number): number {
  return then.wallMs + nowMs - then.nowMs;
}

/** The longest wait that the platform's timers support. Longer ones would end at once. */
export const MAX_TIMER_MS = 2 ** 31 - 1;
