/**
 * A bounded queue between something that pushes and callers that wait.
 *
 * @module
 */

/** First in, first out; a caller that gives up takes nothing with it. */
export class WaitQueue<T> {
  readonly #capacity: number;
  readonly #items: T[] = [];
  readonly #waiting = new Set<{ resolve(item: T): void; reject(reason: unknown): void }>();
  #closed: { reason: unknown } | undefined;

  /** @param capacity how many items may wait; further ones are dropped */
  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  /** Whether {@linkcode WaitQueue.close} was called. */
  get isClosed(): boolean {
    return this.#closed !== undefined;
  }

  /** Whether the item was taken; a full or closed queue takes none. */
  push(item: T): boolean {
    if (this.#closed !== undefined) return false;
    const [first] = this.#waiting;
    if (first !== undefined) {
      this.#waiting.delete(first);
      first.resolve(item);
      return true;
    }
    if (this.#items.length >= this.#capacity) return false;
    this.#items.push(item);
    return true;
  }

  /**
   * The next item, waited for if there is none.
   *
   * @throws the signal's reason on abort, or the reason given to {@linkcode WaitQueue.close}
   */
  next(signal?: AbortSignal): Promise<T> {
    if (signal?.aborted) return Promise.reject(signal.reason);
    if (this.#items.length > 0) return Promise.resolve(this.#items.shift() as T);
    if (this.#closed !== undefined) return Promise.reject(this.#closed.reason);
    return new Promise<T>((resolve, reject) => {
      const onAbort = () => {
        this.#waiting.delete(waiter);
        reject(signal?.reason);
      };
      const waiter = {
        resolve: (item: T) => {
          signal?.removeEventListener("abort", onAbort);
          resolve(item);
        },
        reject: (reason: unknown) => {
          signal?.removeEventListener("abort", onAbort);
          reject(reason);
        },
      };
      this.#waiting.add(waiter);
      signal?.addEventListener("abort", onAbort, { once: true });
    });
  }

  /** Rejects who waits now or later, once the items in it are taken; `false` if it was closed already. */
  close(reason: unknown): boolean {
    if (this.#closed !== undefined) return false;
    this.#closed = { reason };
    for (const waiter of this.#waiting) waiter.reject(reason);
    this.#waiting.clear();
    return true;
  }

  /** Takes out all that waits. */
  drain(): T[] {
    return this.#items.splice(0);
  }
}
