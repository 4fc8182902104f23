/**
 * How fast a device is asked. Home routers serve SOAP with little memory and one thread, and some stop routing when
 * they are flooded.
 *
 * @module
 */

/** Lets a device rest, after each burst of calls, for as long as the burst took. */
export class SoapPace {
  #calls = 0;
  #busyMs = 0;
  #endMs = -Infinity;

  /** For how long the device is to be left alone from now on. */
  restMs(nowMs: number): number {
    const restMs = Math.min(Math.max(this.#busyMs, MIN_REST_MS), MAX_REST_MS);
    const leftMs = this.#endMs + restMs - nowMs;
    if (leftMs > 0 && this.#calls < BURST) return 0;
    this.#calls = 0;
    this.#busyMs = 0;
    return Math.max(0, leftMs);
  }

  /** Says that a call is over. */
  took(startMs: number, endMs: number): void {
    this.#calls++;
    this.#busyMs += endMs - startMs;
    this.#endMs = endMs;
  }
}

/** Ours: to map a port takes three calls, one to ask, one to look, and one for the address. */
const BURST = 3;

/** Ours: between bursts, so that a fast device is not flooded either. */
const MIN_REST_MS = 10;

/** Ours: what geth leaves between all calls, and is known to be enough. */
const MAX_REST_MS = 200;
