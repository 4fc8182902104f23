/**
 * Finishes files in the background, while the next ones are received: to wait for the disk for each in turn would take
 * longer than to receive them.
 *
 * @module
 */

/** Runs a few jobs at a time, and reports their ends in the order in which they were added. */
export class Finisher implements AsyncDisposable {
  readonly #atOnce: number;
  readonly #running = new Set<Promise<void>>();
  #last: Promise<void> = Promise.resolve();
  #failure: { readonly error: unknown } | undefined;

  /** @param atOnce how many jobs may run at a time */
  constructor(atOnce: number) {
    this.#atOnce = atOnce;
  }

  /**
   * Starts a job, once there is room for it.
   *
   * @param then called when it and all jobs before it have ended well
   * @throws the failure of an earlier job
   */
  async add(job: () => Promise<void>, then: () => void): Promise<void> {
    while (this.#running.size >= this.#atOnce) await Promise.race(this.#running);
    this.throwIfFailed();
    const before = this.#last;
    const running = this.#observed(async () => {
      await job();
      await before;
      if (this.#failure === undefined) then();
    }).finally(() => this.#running.delete(running));
    this.#running.add(running);
    this.#last = running;
  }

  /** @throws the failure of a job, if one has failed */
  throwIfFailed(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  /**
   * Waits for all jobs.
   *
   * @throws the failure of a job, if one has failed
   */
  async end(): Promise<void> {
    await this[Symbol.asyncDispose]();
    this.throwIfFailed();
  }

  /** Waits for all jobs, whether they fail or not. */
  async [Symbol.asyncDispose](): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running);
  }

  async #observed(job: () => Promise<void>): Promise<void> {
    try {
      await job();
    } catch (error) {
      this.#failure ??= { error };
    }
  }
}
