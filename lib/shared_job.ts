/**
 * A job that several callers wait for.
 *
 * @module
 */

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
