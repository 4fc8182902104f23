/**
 * Port allocation: choosing an external port for a new mapping.
 *
 * @module
 */

import type { NatAllocation } from "./nat_behavior.ts";

/** What to allocate a port for, and from which ports. */
export interface PortChoice {
  readonly allocation: NatAllocation;
  readonly internalPort: number;
  /** The first and the last port. */
  readonly range: readonly [number, number];
  /** Whether the port must be odd or even as the internal one is. */
  readonly keepsParity: boolean;
  readonly isFree: (port: number) => boolean;
}

/** Chooses external ports, and remembers the last choice because some allocations depend on it. */
export class PortAllocator {
  readonly #random: () => number;
  #last: { readonly internalPort: number; readonly externalPort: number } | undefined;

  /** @param random as `Math.random` */
  constructor(random: () => number) {
    this.#random = random;
  }

  /** A free port, or `undefined` if there is none left. */
  allocate(choice: PortChoice): number | undefined {
    const externalPort = this.#firstFree(choice, this.#preferred(choice));
    if (externalPort !== undefined) {
      this.#last = { internalPort: choice.internalPort, externalPort };
    }
    return externalPort;
  }

  #preferred({ allocation, internalPort, range }: PortChoice): number {
    const last = this.#last;
    switch (allocation.kind) {
      case "preserving":
        return internalPort;
      case "offset":
        return internalPort + allocation.delta;
      case "sequential":
        return last === undefined ? this.#anyPort(range) : last.externalPort + allocation.delta;
      case "dependent":
        return last !== undefined && internalPort === last.internalPort + 1
          ? last.externalPort + allocation.delta
          : this.#anyPort(range);
      case "random":
        return this.#anyPort(range);
    }
  }

  /** Tries ports from the preferred one on, first by the allocation's delta, then one by one, until one is free. */
  #firstFree(choice: PortChoice, preferred: number): number | undefined {
    const { allocation, internalPort, keepsParity, isFree } = choice;
    const [first, last] = choice.range;
    const size = last - first + 1;
    const delta = allocation.kind === "sequential" ? allocation.delta : 1;
    const steps = delta === 1 ? [1] : [delta, 1];
    for (const step of steps) {
      for (let i = 0; i < size; i++) {
        const port = first + modulo(preferred + i * step - first, size);
        if (keepsParity && (port - internalPort) % 2 !== 0) continue;
        if (isFree(port)) return port;
      }
    }
    return undefined;
  }

  #anyPort([first, last]: readonly [number, number]): number {
    return first + Math.floor(this.#random() * (last - first + 1));
  }
}

function modulo(value: number, size: number): number {
  return ((value % size) + size) % size;
}
