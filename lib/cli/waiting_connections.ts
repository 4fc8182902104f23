/**
 * Connections to a forwarded port that wait for a way to the peer.
 *
 * @module
 */

import { NetworkError } from "../base/errors.ts";

/**
 * Runs a limited number of jobs at a time. When one is done, the newest that waits is next: after a flood, the oldest have
 * been given up by whoever opened them, and a newcomer would wait for all of them.
 */
export class NewestFirst {
  readonly #waiting: PromiseWithResolvers<void>[] = [];
  #free: number;

  /** @param atOnce how many jobs may run at a time */
  constructor(atOnce: number) {
    this.#free = atOnce;
  }

  /**
   * Runs the job as soon as its turn has come.
   *
   * @throws {NetworkError} `closed` if {@linkcode NewestFirst.shed} has given it up
   */
  async through<T>(job: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free--;
    else {
      const turn = Promise.withResolvers<void>();
      this.#waiting.push(turn);
      await turn.promise;
    }
    try {
      return await job();
    } finally {
      const next = this.#waiting.pop();
      if (next === undefined) this.#free++;
      else next.resolve();
    }
  }

  /** Gives up the oldest jobs that wait, until so many are left. */
  shed(left: number): void {
    const oldest = this.#waiting.splice(0, Math.max(0, this.#waiting.length - left));
    for (const { reject } of oldest) reject(shedError());
  }
}

function shedError(): NetworkError {
  return new NetworkError("Cannot forward: this process has too many open files", "closed");
}
