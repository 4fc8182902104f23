/**
 * Timers: deadlines, timers that are set anew, and waits that end early.
 *
 * @module
 */

/**
 * A signal that aborts after a while, or with another, and leaves no timer: that of `AbortSignal.timeout` keeps the
 * process alive for as long as anybody listens to it.
 */
export class Deadline implements Disposable {
  readonly signal: AbortSignal;
  readonly #timer: ReturnType<typeof setTimeout>;

  /** @param afterMs from now */
  constructor(afterMs: number, signal?: AbortSignal) {
    const controller = new AbortController();
    this.#timer = setTimeout(() => {
      controller.abort(new DOMException(`Gave up after ${afterMs} ms`, "TimeoutError"));
    }, Math.max(0, afterMs));
    this.signal = AbortSignal.any([controller.signal, ...signal ? [signal] : []]);
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }
}

/** Rings once after it was set, unless it is set anew or cleared before. */
export class ResettableTimer {
  readonly #onRing: () => void;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #isReferenced = true;

  constructor(onRing: () => void) {
    this.#onRing = onRing;
  }

  /** Whether it will ring. */
  get isSet(): boolean {
    return this.#timer !== undefined;
  }

  /** Rings so much later. */
  set(afterMs: number): void {
    this.clear();
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#onRing();
    }, afterMs);
    this.#apply();
  }

  /** Does not ring. */
  clear(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /** Whether the program goes on until it rings, which is so by default. */
  set isReferenced(isReferenced: boolean) {
    this.#isReferenced = isReferenced;
    this.#apply();
  }

  /** Timers of the platform are objects by now, as those of Node, and were numbers; the types still say so. */
  #apply(): void {
    const timer: unknown = this.#timer;
    if (typeof timer !== "object" || timer === null || !("ref" in timer && "unref" in timer)) {
      return;
    }
    const apply = this.#isReferenced ? timer.ref : timer.unref;
    if (typeof apply === "function") apply.call(timer);
  }
}

/** Resolves after a while, or on abort. A program that has nothing else to do ends before. */
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

/** A wait that can be cut short, for a loop that has something to do at a time, or earlier if something happens. */
export class WakeableDelay {
  #wake: (() => void) | undefined;
  #isWoken = false;

  /** Ends the wait that is going on, or else the next one at its start. */
  wake(): void {
    this.#isWoken = true;
    this.#wake?.();
  }

  /**
   * Waits until the time is over or {@linkcode WakeableDelay.wake} is called. One call at a time.
   *
   * @param ms `Infinity` waits for `wake()` alone
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

/** The longest wait of the platform's timers: longer ones would end at once. */
export const MAX_TIMER_MS = 2 ** 31 - 1;
