/**
 * Lets few through at a time.
 *
 * @module
 */

/** Runs jobs, some at a time, in the order in which they come. */
export class Turnstile {
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
