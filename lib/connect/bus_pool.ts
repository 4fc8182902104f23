/**
 * The ways to signal that a peer has open: each once, and for as long as somebody needs it.
 *
 * @module
 */

import type { SignalBus } from "../signal/transport.ts";

/** What somebody has of a bus; disposing gives it back. */
export interface BusLease extends AsyncDisposable {
  /** Rejects if it cannot be opened. */
  readonly bus: Promise<SignalBus>;
}

/** Opens buses, and closes those that nobody has any more. */
export class BusPool implements AsyncDisposable {
  readonly #open: (url: string, signal: AbortSignal) => Promise<SignalBus>;
  readonly #entries = new Map<string, Entry>();
  readonly #closing = new Set<Promise<void>>();

  /** @param open by the URL that a ticket has */
  constructor(open: (url: string, signal: AbortSignal) => Promise<SignalBus>) {
    this.#open = open;
  }

  /** The bus of this URL, opened unless it is open. */
  lease(url: string): BusLease {
    const entry = this.#entries.get(url) ?? this.#enter(url);
    entry.leases++;
    let isGivenBack = false;
    return {
      bus: entry.bus,
      [Symbol.asyncDispose]: async () => {
        if (isGivenBack) return;
        isGivenBack = true;
        if (--entry.leases === 0) await this.#close(url, entry);
      },
    };
  }

  /** Suspects all of them: what killed a connection to a peer may have killed those to servers. */
  check(): void {
    for (const { bus } of this.#entries.values()) {
      bus.then((bus) => bus.check?.(), () => {}); // those who wait for it are told
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const [url, entry] of this.#entries) this.#close(url, entry);
    await Promise.all(this.#closing);
  }

  #enter(url: string): Entry {
    const controller = new AbortController();
    const entry: Entry = { bus: this.#open(url, controller.signal), controller, leases: 0 };
    this.#entries.set(url, entry);
    const forget = () => {
      if (this.#entries.get(url) === entry) this.#entries.delete(url);
    };
    // One that has ended is not leased again; those who have it are told by what they do.
    entry.bus.then((bus) => bus.finished).then(forget, forget);
    return entry;
  }

  async #close(url: string, entry: Entry): Promise<void> {
    if (this.#entries.get(url) === entry) this.#entries.delete(url);
    entry.controller.abort(new DOMException("Nobody needs the bus any more", "AbortError"));
    const closing = entry.bus.then((bus) => bus[Symbol.asyncDispose](), () => {})
      .finally(() => this.#closing.delete(closing));
    this.#closing.add(closing);
    await closing;
  }
}

interface Entry {
  readonly bus: Promise<SignalBus>;
  readonly controller: AbortController;
  leases: number;
}
