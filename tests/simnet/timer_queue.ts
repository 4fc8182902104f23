/**
 * Timers in the order in which they are due.
 *
 * @module
 */

import { EventQueue } from "../../lab/model/event_queue.ts";

/** Something to run at a time. */
export interface Timer {
  readonly id: number;
  readonly dueMs: number;
  readonly run: () => void;
  /** The period of a timer that repeats. */
  readonly everyMs?: number;
}

/** Timers that can be deleted; those that are due together come in the order in which they were set. */
export class TimerQueue {
  readonly #queue = new EventQueue<Timer>();
  readonly #set = new Map<number, Timer>();
  #lastId = 0;

  /** How many timers are set. */
  get size(): number {
    return this.#set.size;
  }

  /** Sets a timer. One that repeats keeps the `id` it has; otherwise it gets a new one, which is returned. */
  add(timer: Omit<Timer, "id"> & { readonly id?: number }): number {
    const added = { ...timer, id: timer.id ?? ++this.#lastId };
    this.#set.set(added.id, added);
    this.#queue.push(added.dueMs, added);
    return added.id;
  }

  /** Forgets a timer, if it is set. */
  delete(id: number): void {
    this.#set.delete(id);
  }

  /** Takes out the next timer, if it is due by then. */
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
