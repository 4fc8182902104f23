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

/** Background jobs of one owner: none outlives it, and none fails unnoticed. */
export class TaskGroup implements AsyncDisposable {
  readonly #controller = new AbortController();
  readonly #running = new Set<Promise<void>>();
  readonly #onError: (error: unknown) => void;

  /** @param onError called with what a job throws, unless the group was stopped before */
  constructor(onError: (error: unknown) => void) {
    this.#onError = onError;
  }

  /** Aborted once the group is stopped. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Starts a job. Once the group is stopped it starts none. */
  run(job: (signal: AbortSignal) => Promise<unknown>): void {
    if (this.signal.aborted) return;
    const running = this.#observed(job).finally(() => this.#running.delete(running));
    this.#running.add(running);
  }

  /** Aborts all jobs with the reason, and waits for their ends. */
  async stop(reason?: unknown): Promise<void> {
    this.#controller.abort(reason);
    while (this.#running.size > 0) await Promise.all(this.#running);
  }

  /** As {@linkcode TaskGroup.stop}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #observed(job: (signal: AbortSignal) => Promise<unknown>): Promise<void> {
    try {
      await job(this.signal);
    } catch (error) {
      if (!this.signal.aborted) this.#onError(error);
    }
  }
}

/**
 * As `Promise.withResolvers()`, for a result that is there for whoever asks: if it is a failure and no caller waits, the
 * program goes on.
 */
export function optionalResolvers<T>(): PromiseWithResolvers<T> {
  const resolvers = Promise.withResolvers<T>();
  resolvers.promise.catch(() => {}); // each caller that waits gets the failure
  return resolvers;
}
