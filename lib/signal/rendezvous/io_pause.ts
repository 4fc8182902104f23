/**
 * Pauses in which the events of all sockets come in, while some sockets alone could keep a program busy.
 *
 * Deno 2.9 asks the system for events only when it has nothing left to do, or in every 61st turn of its event loop
 * (`event_interval` of Tokio). If each turn begins the next one, as sockets of `node:net` do that are paused and resumed, and
 * takes a long time, all other sockets wait for up to 61 turns: with a hundred busy ones that was seconds.
 *
 * @module
 */

/** One for all who may keep the program busy together. */
export class IoPause {
  #endedMs = performance.now();
  #pause: Promise<void> | undefined;

  /** A pause to wait for, if one is going on, or it is time for one. */
  ifDue(): Promise<void> | undefined {
    if (this.#pause === undefined && performance.now() - this.#endedMs < BUSY_MS) return undefined;
    return this.#pause ??= this.#run();
  }

  async #run(): Promise<void> {
    for (let turn = 1; turn <= MAX_TURNS; turn++) {
      const startedMs = performance.now();
      await new Promise((resolve) => setTimeout(resolve, 0));
      if (turn > 1 && performance.now() - startedMs < IDLE_MS) break;
    }
    this.#endedMs = performance.now();
    this.#pause = undefined;
  }
}

/** Chosen by us: what a socket may wait at most. A pause takes a few milliseconds. */
const BUSY_MS = 50;

/** Chosen by us: in the first turn, sockets go on to read what they have room for, and inside of TLS in some more. */
const MAX_TURNS = 8;

/** Chosen by us: a timer of 0 ms, which takes 1, is as late as this if the program has had something else to do. */
const IDLE_MS = 2;
