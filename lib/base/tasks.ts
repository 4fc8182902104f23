/**
 * Several jobs at once, none of which outlives the call.
 *
 * @module
 */

/** What each job returns, in the order of the jobs. */
export type Results<Jobs extends readonly ((signal: AbortSignal) => Promise<unknown>)[]> = {
  -readonly [Index in keyof Jobs]: Awaited<ReturnType<Jobs[Index]>>;
};

/**
 * Runs jobs concurrently. If one fails the others are aborted and awaited, so that what they hold is released,
 * and the first failure is thrown.
 *
 * @param signal aborts them all
 */
export async function runAll<
  const Jobs extends readonly ((signal: AbortSignal) => Promise<unknown>)[],
>(jobs: Jobs, signal?: AbortSignal): Promise<Results<Jobs>> {
  const controller = new AbortController();
  const either = signal === undefined
    ? controller.signal
    : AbortSignal.any([controller.signal, signal]);
  const running = jobs.map((job) => job(either));
  try {
    return await Promise.all(running) as Results<Jobs>;
  } catch (error) {
    controller.abort(error);
    await Promise.allSettled(running);
    throw error;
  }
}

/** Runs once for all who join, and is aborted when the last of them has gone. */
export class SharedJob<T> {
  readonly #controller = new AbortController();
  readonly #result: Promise<T>;
  #waiting = 0;

  /** @param job begins at once */
  constructor(job: (signal: AbortSignal) => Promise<T>) {
    this.#result = job(this.#controller.signal);
    this.#result.catch(() => {}); // those who wait are told; nobody may be left
  }

  /** Whether everybody has gone before the end: it is too late to join. */
  get isAborted(): boolean {
    return this.#controller.signal.aborted;
  }

  /**
   * Waits for the result.
   *
   * @throws what the job throws, or the signal's reason on abort
   */
  async join(signal?: AbortSignal): Promise<T> {
    signal?.throwIfAborted();
    this.#waiting++;
    const { promise: aborted, reject } = Promise.withResolvers<never>();
    const onAbort = () => reject(signal?.reason);
    signal?.addEventListener("abort", onAbort, { once: true });
    try {
      return await Promise.race([this.#result, aborted]);
    } finally {
      signal?.removeEventListener("abort", onAbort);
      if (--this.#waiting === 0 && signal?.aborted) {
        this.#controller.abort(signal.reason);
        await this.#result.catch(() => {}); // what it holds is released before the caller goes on
      }
    }
  }
}

/** Runs jobs, some at a time, in the order in which they come. */
export class Semaphore {
  readonly #waiting: (() => void)[] = [];
  #free: number;

  /** @param atOnce how many run at a time */
  constructor(atOnce: number) {
    this.#free = atOnce;
  }

  /** Runs the job once there is room for it. */
  async through<T>(job: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free--;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    try {
      return await job();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#free++;
      else next();
    }
  }
}
