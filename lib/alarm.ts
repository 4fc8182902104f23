/**
 * A timer that is set again and again.
 *
 * @module
 */

/** Rings once after it was set, unless it is set anew or cleared before. */
export class Alarm {
  readonly #onRing: () => void;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #isReferenced = true;

  constructor(onRing: () => void) {
    this.#onRing = onRing;
  }

  /** Whether it will ring. */
  get isSet(): boolean {
    return this.#timer !== undefined;
  }

  /** Rings so much later. */
  set(afterMs: number): void {
    this.clear();
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#onRing();
    }, afterMs);
    this.#apply();
  }

  /** Does not ring. */
  clear(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /** Whether the program goes on until it rings, which is so by default. */
  set isReferenced(isReferenced: boolean) {
    this.#isReferenced = isReferenced;
    this.#apply();
  }

  /** Timers of the platform are objects by now, as those of Node, and were numbers; the types still say so. */
  #apply(): void {
    const timer: unknown = this.#timer;
    if (typeof timer !== "object" || timer === null || !("ref" in timer && "unref" in timer)) {
      return;
    }
    const apply = this.#isReferenced ? timer.ref : timer.unref;
    if (typeof apply === "function") apply.call(timer);
  }
}
