/**
 * Giving up after a while.
 *
 * @module
 */

/**
 * A signal that aborts after a while, or with another, and leaves no timer: that of `AbortSignal.timeout` keeps the
 * process alive for as long as anybody listens to it.
 */
export class GiveUp implements Disposable {
  readonly signal: AbortSignal;
  readonly #timer: ReturnType<typeof setTimeout>;

  /** @param afterMs from now */
  constructor(afterMs: number, signal?: AbortSignal) {
    const controller = new AbortController();
    this.#timer = setTimeout(() => {
      controller.abort(new DOMException(`Gave up after ${afterMs} ms`, "TimeoutError"));
    }, Math.max(0, afterMs));
    this.signal = AbortSignal.any([controller.signal, ...signal ? [signal] : []]);
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }
}
