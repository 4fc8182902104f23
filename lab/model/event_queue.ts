/**
 * A queue ordered by time: a binary heap that keeps the order of events with the same time.
 *
 * @module
 */

/** Events, and when they are due. */
export class EventQueue<Event> {
  readonly #heap: Entry<Event>[] = [];
  #pushed = 0;

  get size(): number {
    return this.#heap.length;
  }

  /** When the next event is due. */
  get nextDueMs(): number | undefined {
    return this.#heap[0]?.dueMs;
  }

  push(dueMs: number, event: Event): void {
    const heap = this.#heap;
    const entry = { dueMs, order: this.#pushed++, event };
    let index = heap.length;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (!isBefore(entry, heap[parent]!)) break;
      heap[index] = heap[parent]!;
      index = parent;
    }
    heap[index] = entry;
  }

  /** Removes and returns the next event if it is due by `nowMs`. */
  popDue(nowMs: number): { readonly dueMs: number; readonly event: Event } | undefined {
    const first = this.#heap[0];
    if (first === undefined || first.dueMs > nowMs) return undefined;
    const last = this.#heap.pop()!;
    if (this.#heap.length > 0) this.#sink(last);
    return first;
  }

  /** Replaces the first entry, and sinks the new one to its place. */
  #sink(entry: Entry<Event>): void {
    const heap = this.#heap;
    let index = 0;
    while (true) {
      let child = 2 * index + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child++;
      if (!isBefore(heap[child]!, entry)) break;
      heap[index] = heap[child]!;
      index = child;
    }
    heap[index] = entry;
  }
}

interface Entry<Event> {
  readonly dueMs: number;
  readonly order: number;
  readonly event: Event;
}

function isBefore<Event>(a: Entry<Event>, b: Entry<Event>): boolean {
  return a.dueMs < b.dueMs || (a.dueMs === b.dueMs && a.order < b.order);
}
