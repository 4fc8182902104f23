/**
 * Running jobs concurrently, so that none is forgotten: each is awaited, and its failure reported.
 *
 * @module
 */

/** The results of jobs, in the order of the jobs. */
export type Results<Jobs extends readonly ((signal: AbortSignal) => Promise<unknown>)[]> = {
  -readonly [Index in keyof Jobs]: Awaited<ReturnType<Jobs[Index]>>;
};

/**
 * Runs jobs concurrently. If one fails, the others are aborted and awaited, so that they can release what they hold, and
 * the first error is thrown.
 *
 * @param signal aborts them all
 */
export async function runAll<
  const Jobs extends readonly ((signal: AbortSignal) => Promise<unknown>)[],
>(jobs: Jobs, signal?: AbortSignal): Promise<Results<Jobs>> {
  const controller = new AbortController(); // aborts the other jobs if one fails
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

/** A job that runs once for all callers that join it, and is aborted when the last of them has left. */
export class SharedJob<T> {
  readonly #tasks = new TaskGroup(() => {}); // the one task reports its failure as the result
  readonly #result = optionalResolvers<T>();
  #waiting = 0;

  /** @param job started at once */
  constructor(job: (signal: AbortSignal) => Promise<T>) {
    this.#tasks.run(async (signal) => {
      try {
        this.#result.resolve(await job(signal));
      } catch (error) {
        this.#result.reject(error);
      }
    });
  }

  /** Whether all callers have left before the end, so that it is too late to join. */
  get isAborted(): boolean {
    return this.#tasks.signal.aborted;
  }

  /**
   * Waits for the result.
   *
   * @throws the error of the job, or the signal's reason on abort
   */
  async join(signal?: AbortSignal): Promise<T> {
    signal?.throwIfAborted();
    this.#waiting++;
    const { promise: aborted, reject } = Promise.withResolvers<never>();
    const onAbort = () => reject(signal?.reason);
    signal?.addEventListener("abort", onAbort, { once: true });
    try {
      return await Promise.race([this.#result.promise, aborted]);
    } finally {
      signal?.removeEventListener("abort", onAbort);
      if (--this.#waiting === 0 && signal?.aborted) {
        await this.#tasks.stop(signal.reason); // the job releases what it holds before the caller continues
      }
    }
  }
}

/** Runs a limited number of jobs at a time, in the order of the calls. */
export class Semaphore {
  readonly #waiting: (() => void)[] = [];
  #free: number;

  /** @param atOnce how many jobs may run at a time */
  constructor(atOnce: number) {
    this.#free = atOnce;
  }

  /** Runs the job as soon as a place is free. */
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

/** The background jobs of one owner: none outlives it, and no failure goes unnoticed. */
export class TaskGroup implements AsyncDisposable {
  /** Aborts all jobs when the group is stopped. */
  readonly #controller = new AbortController();
  readonly #running = new Set<Promise<void>>();
  readonly #onError: (error: unknown) => void;

  /** @param onError called with the error of a job, unless the group has been stopped */
  constructor(onError: (error: unknown) => void) {
    this.#onError = onError;
  }

  /** Aborted once the group is stopped. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Starts a job, unless the group has been stopped. */
  run(job: (signal: AbortSignal) => Promise<unknown>): void {
    if (this.signal.aborted) return;
    const running = this.#observed(job).finally(() => this.#running.delete(running));
    this.#running.add(running);
  }

  /** Aborts all jobs with the reason, and waits for them to end. */
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
 * As `Promise.withResolvers()`, for a result that need not be awaited: if it is rejected and nothing waits for it, that is
 * not an unhandled rejection.
 */
export function optionalResolvers<T>(): PromiseWithResolvers<T> {
  const resolvers = Promise.withResolvers<T>();
  resolvers.promise.catch(() => {}); // everything that awaits it still gets the error
  return resolvers;
}

/** A function that is called when its result is first needed, and not again. */
export function once<T>(make: () => T): () => T {
  let made: { readonly result: T } | undefined;
  return () => (made ??= { result: make() }).result;
}
