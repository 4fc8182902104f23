/**
 * Virtual time: while a {@linkcode VirtualTime} is in use, `setTimeout`, `setInterval`, `Date`,
 * `performance.now` and `AbortSignal.timeout` use its clock, which stands still while code runs and jumps to
 * the next timer when all code waits. An hour of waiting takes microseconds, and every run of
 * a deterministic program is the same.
 *
 * Only promises and timers are taken into account. Real I/O is not part of virtual time: the clock
 * may jump ahead while a file, a real socket or `crypto.subtle` is still busy.
 *
 * @module
 */

import { replaceProperty } from "./replace_property.ts";
import { type Timer, TimerQueue } from "./timer_queue.ts";

/** Replaces the platform's clock until it is disposed of. */
export class VirtualTime implements Disposable {
  readonly #timers = new TimerQueue();
  readonly #restore: (() => void)[];
  readonly #realTurn: () => Promise<void>;
  #nowMs = 0;
  #wallOffsetMs = 0;

  constructor() {
    const { setImmediate } = globalThis;
    this.#realTurn = () => new Promise((resolve) => setImmediate(resolve));

    const set = (handler: Handler, delayMs?: number, ...args: unknown[]) =>
      this.#set({ run: () => handler(...args), delayMs });
    const setRepeating = (handler: Handler, delayMs?: number, ...args: unknown[]) =>
      this.#set({ run: () => handler(...args), delayMs, repeats: true });
    const clear = (id?: number) => this.#timers.delete(Number(id));

    this.#restore = [
      replaceProperty(globalThis, "setTimeout", set),
      replaceProperty(globalThis, "setInterval", setRepeating),
      replaceProperty(globalThis, "clearTimeout", clear),
      replaceProperty(globalThis, "clearInterval", clear),
      replaceProperty(globalThis, "Date", this.#virtualDate()),
      replaceProperty(Performance.prototype, "now", () => this.#nowMs),
      replaceProperty(AbortSignal, "timeout", (delayMs: number) => this.#timeoutSignal(delayMs)),
    ];
  }

  /** Milliseconds since the start of this clock. */
  get nowMs(): number {
    return this.#nowMs;
  }

  /** Sets the wall clock ahead, or back if negative. */
  jumpWallClock(byMs: number): void {
    this.#wallOffsetMs += byMs;
  }

  /** The number of pending timers, for tests that check that none is left. */
  get pendingTimers(): number {
    return this.#timers.size;
  }

  /**
   * Runs until the job settles, and settles in the same way.
   *
   * @param job a promise, or a function that returns one
   * @param options `limitMs`: the virtual time that the job may take. Default: a day.
   * @throws {Error} if the job waits and no timer is left to wake it, or if it exceeds the limit
   */
  async run<T>(
    job: Promise<T> | (() => Promise<T>),
    options: { limitMs?: number } = {},
  ): Promise<T> {
    const { limitMs = DAY_MS } = options;
    const deadlineMs = this.#nowMs + limitMs;
    const promise = typeof job === "function" ? job() : job;
    let settled = false;
    const settle = () => settled = true;
    promise.then(settle, settle);

    while (true) {
      // A macrotask starts only when no microtask is left, so all code that can run now has run.
      await this.#realTurn();
      if (settled) return await promise;
      const next = this.#timers.takeDue(deadlineMs);
      if (next === undefined) throw new Error(this.#whyStuck(limitMs));
      this.#fire(next);
    }
  }

  /** Restores the platform's clock. Pending timers never fire. */
  [Symbol.dispose](): void {
    for (const restore of this.#restore.splice(0).reverse()) restore();
  }

  #set(options: { run: () => void; delayMs?: number; repeats?: boolean }): number {
    const delayMs = clampDelay(options.delayMs);
    return this.#timers.add({
      dueMs: this.#nowMs + delayMs,
      run: options.run,
      everyMs: options.repeats ? delayMs : undefined,
    });
  }

  #fire(timer: Timer): void {
    this.#nowMs = timer.dueMs;
    if (timer.everyMs !== undefined) {
      this.#timers.add({ ...timer, dueMs: timer.dueMs + timer.everyMs });
    }
    timer.run();
  }

  #whyStuck(limitMs: number): string {
    const cannot = `Cannot continue at ${this.#nowMs} ms`;
    return this.#timers.size === 0
      ? `${cannot}: the job waits and no timer is left`
      : `${cannot}: the job takes more than ${limitMs} ms`;
  }

  #timeoutSignal(delayMs: number): AbortSignal {
    const controller = new AbortController();
    const expire = () => controller.abort(new DOMException("Signal timed out.", "TimeoutError"));
    this.#set({ run: expire, delayMs });
    return controller.signal;
  }

  #virtualDate(): DateConstructor {
    const now = () => EPOCH_MS + Math.floor(this.#nowMs + this.#wallOffsetMs);
    return new Proxy(Date, {
      construct: (RealDate, args, newTarget) =>
        Reflect.construct(RealDate, args.length === 0 ? [now()] : args, newTarget),
      apply: (RealDate) => new RealDate(now()).toString(),
      get: (RealDate, key) => key === "now" ? now : Reflect.get(RealDate, key),
    });
  }
}

type Handler = (...args: unknown[]) => void;

/** Like Deno, waits at least a millisecond if no delay is requested. Unlike Deno, keeps fractions. */
function clampDelay(delayMs = 0): number {
  return delayMs > 0 ? Math.min(delayMs, MAX_DELAY_MS) : 1;
}

const DAY_MS = 24 * 60 * 60 * 1000;

/** The longest delay of the platform's timers. */
const MAX_DELAY_MS = 2 ** 31 - 1;

/** When virtual time starts: an ordinary day, the same in every run. */
const EPOCH_MS = Date.UTC(2026, 0, 1);
