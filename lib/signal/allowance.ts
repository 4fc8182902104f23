/**
 * How much somebody may send: a token bucket for one.
 *
 * @module
 */

/** Lets so many pass at once, and so many a second after that. */
export class Allowance {
  readonly #burst: number;
  readonly #perSecond: number;
  #left: number;
  #filledMs: number;

  /** @param nowMs on a clock that never goes back */
  constructor({ burst, perSecond }: { burst: number; perSecond: number }, nowMs: number) {
    this.#burst = burst;
    this.#perSecond = perSecond;
    this.#left = burst;
    this.#filledMs = nowMs;
  }

  /** Takes one, if there is one. */
  take(nowMs: number): boolean {
    const gained = (nowMs - this.#filledMs) / 1000 * this.#perSecond;
    this.#left = Math.min(this.#burst, this.#left + gained);
    this.#filledMs = nowMs;
    if (this.#left < 1) return false;
    this.#left--;
    return true;
  }
}
