/**
 * Memory for the windows of many sessions: each takes as much as it can use while there is plenty, and little when there
 * is not. None is left without.
 *
 * @module
 */

/** How much memory there is. */
export interface WindowLimits {
  /** For all windows together, beyond the least that each has. */
  readonly totalBytes: number;
  /** For the windows of one owner. */
  readonly perOwnerBytes: number;
}

/**
 * The memory that the windows of several sessions share. A window may have an eighth of what is free, and a quarter of what
 * is free to its owner: the more there are, the smaller they get, and there is always something left for the next.
 */
export class WindowBudget {
  readonly #limits: WindowLimits;
  readonly #byOwner = new Map<string, number>();
  #held = 0;

  constructor(limits: WindowLimits = WINDOW_LIMITS) {
    this.#limits = limits;
  }

  /** How many bytes all windows hold together. */
  get heldBytes(): number {
    return this.#held;
  }

  /** The part of one owner, such as a public key. */
  of(owner: string): WindowSource {
    return { open: () => this.#open(owner) };
  }

  #open(owner: string): Window {
    let held = 0;
    const hold = (bytes: number) => {
      const grown = Math.max(0, bytes) - held;
      if (grown === 0) return;
      held += grown;
      this.#held += grown;
      const byOwner = this.#heldBy(owner) + grown;
      if (byOwner > 0) this.#byOwner.set(owner, byOwner);
      else this.#byOwner.delete(owner);
    };
    return { mayHold: () => this.#mayHold(owner), hold };
  }

  #mayHold(owner: string): number {
    const { totalBytes, perOwnerBytes } = this.#limits;
    const free = Math.max(0, totalBytes - this.#held);
    const freeToOwner = Math.max(0, perOwnerBytes - this.#heldBy(owner));
    return Math.floor(Math.min(free / SHARE_OF_ALL, freeToOwner / SHARE_OF_OWNER));
  }

  #heldBy(owner: string): number {
    return this.#byOwner.get(owner) ?? 0;
  }
}

/** Where the windows of a session come from. */
export interface WindowSource {
  /** A window for one direction. */
  open(): Window;
}

/** One window. */
export interface Window {
  /** How many bytes it may hold now, beyond the least that it has in any case. */
  mayHold(): number;
  /** Notes how many it holds; 0 gives all of them back. */
  hold(bytes: number): void;
}

/** A source without a limit. */
export const UNLIMITED_WINDOWS: WindowSource = {
  open: () => ({ mayHold: () => Infinity, hold() {} }),
};

/** Chosen by us: a window of 4 MiB for each of the first eight busy connections, and less for more than those. */
export const WINDOW_LIMITS: WindowLimits = {
  totalBytes: 64 * 1024 * 1024,
  perOwnerBytes: 32 * 1024 * 1024,
};

/** Chosen by us. */
const SHARE_OF_ALL = 8;
const SHARE_OF_OWNER = 4;
