/**
 * Taking turns at the router. miniupnpd takes 80 ms for a mapping, one after another; twenty programs' worth of
 * requests at once, each repeated because no answer comes, keep it busy for longer than anybody waits.
 *
 * @module
 */

import type { Network } from "../net/network.ts";
import type { MapperName } from "./mapper.ts";

/** Lets one job run at a time. If it fails all go on: a router that is silent is no queue. */
export class Turns {
  /** Which protocol granted last. */
  favourite: MapperName | undefined;
  #isTaken = false;
  readonly #waiting = new Set<() => void>();

  /** Runs a job when it is its turn, or it has waited for long enough. */
  async take<T>(job: () => Promise<T>): Promise<T> {
    await this.#wait();
    try {
      const result = await job();
      this.#pass(1);
      return result;
    } catch (error) {
      this.#pass(Infinity);
      throw error;
    }
  }

  #pass(count: number): void {
    this.#isTaken = false;
    for (const go of [...this.#waiting].slice(0, count)) go();
  }

  async #wait(): Promise<void> {
    if (!this.#isTaken) {
      this.#isTaken = true;
      return;
    }
    const { promise, resolve } = Promise.withResolvers<void>();
    const go = () => {
      this.#waiting.delete(go);
      this.#isTaken = true;
      resolve();
    };
    const timer = setTimeout(go, PATIENCE_MS);
    this.#waiting.add(go);
    await promise;
    clearTimeout(timer);
  }
}

/** Those of a network: all calls that go over it share its routers. */
export function turnsOf(network: Network): Turns {
  const known = TURNS.get(network);
  if (known !== undefined) return known;
  const turns = new Turns();
  TURNS.set(network, turns);
  return turns;
}

/**
 * The one thing that calls of `mapPort()` share. It is kept per network, lives as long as that, and is empty whenever
 * nobody asks.
 */
const TURNS = new WeakMap<Network, Turns>();

/** Ours: a hundred callers of a router that takes 80 ms for each get their turn before. */
const PATIENCE_MS = 10_000;
