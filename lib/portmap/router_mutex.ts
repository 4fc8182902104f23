/**
 * One job at a time with the routers of a network: many do badly when several callers ask at once.
 *
 * @module
 */

import type { Network } from "../net/network.ts";
import type { MapperName } from "./mapper.ts";

/** Runs one job at a time. When one fails, all that wait go ahead: a silent router needs no queue. */
export class RouterMutex {
  /** The protocol that granted last. */
  preferredProtocol: MapperName | undefined;
  #isLocked = false;
  readonly #waiting = new Set<() => void>();

  /** Runs a job once those before it are done, or it has waited for long enough. */
  async through<T>(job: () => Promise<T>): Promise<T> {
    await this.#lock();
    try {
      const result = await job();
      this.#unlock(1);
      return result;
    } catch (error) {
      this.#unlock(Infinity);
      throw error;
    }
  }

  async #lock(): Promise<void> {
    if (!this.#isLocked) {
      this.#isLocked = true;
      return;
    }
    const { promise, resolve } = Promise.withResolvers<void>();
    const go = () => {
      this.#waiting.delete(go);
      this.#isLocked = true;
      resolve();
    };
    const timer = setTimeout(go, MAX_WAIT_MS);
    this.#waiting.add(go);
    await promise;
    clearTimeout(timer);
  }

  #unlock(count: number): void {
    this.#isLocked = false;
    for (const go of [...this.#waiting].slice(0, count)) go();
  }
}

/** The mutex of a network: all calls that use the network share its routers. */
export function routerMutexOf(network: Network): RouterMutex {
  const known = MUTEXES.get(network);
  if (known !== undefined) return known;
  const mutex = new RouterMutex();
  MUTEXES.set(network, mutex);
  return mutex;
}

/** All that calls of `mapPort()` share. An entry lives as long as its network, and is empty while no call waits. */
const MUTEXES = new WeakMap<Network, RouterMutex>();

/** Chosen by us: enough for a hundred callers of a router that takes 80 ms for each. */
const MAX_WAIT_MS = 10_000;
