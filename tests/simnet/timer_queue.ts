/**
 * Timers in the order in which they are due.
 *
 * @module
 */

/** Something to run at a time. */
export interface Timer {
  readonly id: number;
  readonly dueMs: number;
  readonly run: () => void;
  /** The period of a timer that repeats. */
  readonly everyMs?: number;
}

/** A binary heap; timers that are due together run in the order in which they were set. */
export class TimerQueue {
  readonly #heap: Timer[] = [];
  readonly #live = new Map<number, Timer>();
  #lastId = 0;

  /** How many timers are set. */
  get size(): number {
    return this.#live.size;
  }

  /** Sets a timer. One that repeats keeps the `id` it has; otherwise it gets a new one, which is returned. */
  add(timer: Omit<Timer, "id"> & { readonly id?: number }): number {
    const added = { ...timer, id: timer.id ?? ++this.#lastId };
    this.#live.set(added.id, added);
    this.#heap.push(added);
    this.#siftUp(this.#heap.length - 1);
    return added.id;
  }

  /** Forgets a timer, if it is set. */
  delete(id: number): void {
    this.#live.delete(id);
  }

  /** The timer that is due next. */
  peek(): Timer | undefined {
    while (this.#heap.length > 0) {
      const first = this.#heap[0]!;
      if (this.#live.get(first.id) === first) return first;
      this.#removeFirst(); // it was deleted while it waited
    }
    return undefined;
  }

  #removeFirst(): void {
    const last = this.#heap.pop()!;
    if (this.#heap.length === 0) return;
    this.#heap[0] = last;
    this.#siftDown();
  }

  #siftUp(index: number): void {
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (!this.#isBefore(index, parent)) return;
      this.#swap(index, parent);
      index = parent;
    }
  }

  #siftDown(): void {
    let index = 0;
    while (true) {
      let first = index;
      for (const child of [2 * index + 1, 2 * index + 2]) {
        if (child < this.#heap.length && this.#isBefore(child, first)) first = child;
      }
      if (first === index) return;
      this.#swap(index, first);
      index = first;
    }
  }

  #isBefore(a: number, b: number): boolean {
    const left = this.#heap[a]!;
    const right = this.#heap[b]!;
    return left.dueMs < right.dueMs || (left.dueMs === right.dueMs && left.id < right.id);
  }

  #swap(a: number, b: number): void {
    [this.#heap[a], this.#heap[b]] = [this.#heap[b]!, this.#heap[a]!];
  }
}
