/**
 * Searches for one connection: the newest takes the place of the one before.
 *
 * @module
 */

import { delay } from "@std/async/delay";

/** Lets one search run at a time, however often the other side asks for another. */
export class NewestSearch {
  /** Aborted when a newer one takes the place of the last. */
  #newer = new AbortController();
  #ended: Promise<void> = Promise.resolve();
  #startedAtMs = -Infinity;

  /**
   * Ends the search before, and begins this one once nothing goes on of that. Resolves early, without a throw, when a
   * newer one takes its place.
   *
   * @throws what the search throws, or the signal's reason
   */
  async run(search: (signal: AbortSignal) => Promise<unknown>, signal: AbortSignal): Promise<void> {
    this.#newer.abort(new DOMException("The other side has begun anew", "AbortError"));
    const newer = this.#newer = new AbortController();
    const running = this.#start(search, AbortSignal.any([signal, newer.signal]));
    this.#ended = running.catch(() => {});
    try {
      await running;
    } catch (error) {
      if (signal.aborted || !newer.signal.aborted) throw error;
    }
  }

  async #start(
    search: (signal: AbortSignal) => Promise<unknown>,
    signal: AbortSignal,
  ): Promise<void> {
    await this.#ended;
    const waitMs = this.#startedAtMs + MIN_GAP_MS - performance.now();
    if (waitMs > 0) await delay(waitMs, { signal });
    signal.throwIfAborted();
    this.#startedAtMs = performance.now();
    await search(signal);
  }
}

/**
 * From one search to the next. Ours: who has lost a path seldom loses the next within that time, and each search asks
 * STUN servers, which are other people's.
 */
const MIN_GAP_MS = 500;
