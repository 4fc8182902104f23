/**
 * A bounded queue between a producer that pushes and consumers that wait.
 *
 * @module
 */

interface Waiter<T> {
  resolve(item: T): void;
  reject(reason: unknown): void;
}

/** First in, first out. A consumer that aborts its wait takes no item. */
export class WaitQueue<T> {
  readonly #capacity: number;
  readonly #items: T[] = [];
  readonly #waiting = new Set<Waiter<T>>();
  #closed: { reason: unknown } | undefined;

  /** @param capacity how many items the queue holds; further ones are dropped */
  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  /** Whether {@linkcode WaitQueue.close} was called. */
  get isClosed(): boolean {
    return this.#closed !== undefined;
  }

  /** Adds an item; `false` if the queue is full or closed. */
  push(item: T): boolean {
    if (this.#closed !== undefined) return false;
    const first = this.#waiting.size === 0 ? undefined : this.#waiting.values().next().value;
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
   * The next item; waits for one while the queue is empty.
   *
   * @throws the signal's reason on abort, or the reason given to {@linkcode WaitQueue.close}
   */
  next(signal?: AbortSignal): Promise<T> {
    if (signal?.aborted) return Promise.reject(signal.reason);
    if (this.#items.length > 0) return Promise.resolve(this.#items.shift() as T);
    if (this.#closed !== undefined) return Promise.reject(this.#closed.reason);
    if (signal === undefined) {
      return new Promise<T>((resolve, reject) => this.#waiting.add({ resolve, reject }));
    }
    return new Promise<T>((resolve, reject) => {
      const onAbort = () => {
        this.#waiting.delete(waiter);
        reject(signal.reason);
      };
      const waiter = {
        resolve: (item: T) => {
          signal.removeEventListener("abort", onAbort);
          resolve(item);
        },
        reject: (reason: unknown) => {
          signal.removeEventListener("abort", onAbort);
          reject(reason);
        },
      };
      this.#waiting.add(waiter);
      signal.addEventListener("abort", onAbort, { once: true });
    });
  }

  /**
   * The items, until the queue is closed. A reader that leaves takes no more, also if it leaves while it waits for one.
   *
   * @param hold called when the reader takes its first item; the result is disposed of when the reader leaves
   */
  items(hold?: () => Disposable): AsyncIterator<T, undefined> {
    const waiters = new Set<Waiter<T>>();
    let held: Disposable | undefined;
    let hasLeft = false;
    const leave = (): IteratorReturnResult<undefined> => {
      if (!hasLeft) held?.[Symbol.dispose]();
      hasLeft = true;
      for (const waiter of waiters) if (this.#waiting.delete(waiter)) waiter.reject(undefined);
      return { value: undefined, done: true };
    };
    const take = (waiter: Waiter<T>) => {
      if (this.#items.length > 0) return waiter.resolve(this.#items.shift() as T);
      if (this.#closed !== undefined) return waiter.reject(this.#closed.reason);
      this.#waiting.add(waiter);
      waiters.add(waiter);
    };
    const next = async (): Promise<IteratorResult<T, undefined>> => {
      if (hasLeft) return leave();
      held ??= hold?.();
      const { promise, ...waiter } = Promise.withResolvers<T>();
      take(waiter);
      try {
        return { value: await promise, done: false };
      } catch {
        return leave();
      } finally {
        waiters.delete(waiter);
      }
    };
    // deno-lint-ignore require-await -- iterators of this kind return promises
    return { next, return: async () => leave() };
  }

  /**
   * Closes the queue: pending and future calls of {@linkcode WaitQueue.next} reject once its items are taken. `false` if
   * it was closed already.
   */
  close(reason: unknown): boolean {
    if (this.#closed !== undefined) return false;
    this.#closed = { reason };
    for (const waiter of this.#waiting) waiter.reject(reason);
    this.#waiting.clear();
    return true;
  }

  /** Removes the first item that is wanted, and returns it; `undefined` if no queued one is. */
  take(isWanted: (item: T) => boolean): T | undefined {
    const index = this.#items.findIndex(isWanted);
    return index < 0 ? undefined : this.#items.splice(index, 1)[0];
  }

  /** Removes an item, if it is still queued. */
  remove(item: T): void {
    const index = this.#items.indexOf(item);
    if (index >= 0) this.#items.splice(index, 1);
  }

  /** Removes and returns all items. */
  drain(): T[] {
    return this.#items.splice(0);
  }
}
