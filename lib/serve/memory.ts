/**
 * Keeps a server's memory small during a flood, and returns it to the system afterwards.
 *
 * @module
 */

import { initialMemoryState, type MemoryAction, stepMemory } from "./memory_engine.ts";

/** What to watch, and how to collect. */
export interface MemoryOptions {
  /** How many connections there have been so far, refused ones included. */
  readonly connections: () => number;
  /** Collects garbage. */
  readonly collect: (what: MemoryAction["what"]) => void;
}

/** Collects garbage when the load calls for it, until it is disposed. */
export function watchMemory({ connections, collect }: MemoryOptions): Disposable {
  let state = initialMemoryState(performance.now());
  const timer = setInterval(() => {
    const event = { kind: "counted", connections: connections() } as const;
    const next = stepMemory(state, event, performance.now());
    state = next.state;
    for (const { what } of next.actions) collect(what);
  }, REVIEW_MS);
  return { [Symbol.dispose]: () => clearInterval(timer) };
}

/** Chosen by us: a flood brings a thousand connections in this time. */
const REVIEW_MS = 200;
