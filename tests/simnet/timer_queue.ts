/**
 * A queue of timers, by due time.
 *
 * @module
 */

import { EventQueue } from "../../lab/model/event_queue.ts";

/** A callback that is due at some time. */
export interface Timer {
  readonly id: number;
  readonly dueMs: number;
  readonly run: () => void;
  /** The period of a repeating timer. */
  readonly everyMs?: number;
}

/** Timers that can be deleted. Those with the same due time keep the order in which they were set. */
export class TimerQueue {
  readonly #queue = new EventQueue<Timer>();
  readonly #set = new Map<number, Timer>();
  #lastId = 0;

  /** The number of pending timers. */
  get size(): number {
    return this.#set.size;
  }

  /** Sets a timer, and returns its `id`: a new one unless the timer has one already. */
  add(timer: Omit<Timer, "id"> & { readonly id?: number }): number {
    const added = { ...timer, id: timer.id ?? ++this.#lastId };
    this.#set.set(added.id, added);
    this.#queue.push(added.dueMs, added);
    return added.id;
  }

  /** Deletes a timer, if it is pending. */
  delete(id: number): void {
    this.#set.delete(id);
  }

  /** Removes and returns the next timer, if it is due by then. */
  takeDue(untilMs: number): Timer | undefined {
    for (let next = this.#pop(untilMs); next; next = this.#pop(untilMs)) {
      if (this.#set.get(next.id) !== next) continue; // deleted while it waited
      this.#set.delete(next.id);
      return next;
    }
    return undefined;
  }

  #pop(untilMs: number): Timer | undefined {
    return this.#queue.popDue(untilMs)?.event;
  }
}
