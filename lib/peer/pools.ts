/**
 * Punch ports that are got ready before they are needed.
 *
 * @module
 */

import { Deadline } from "../base/timers.ts";
import type { PortMapping } from "../portmap/mapping.ts";
import type { BaseSocket } from "../punch/punch.ts";
import type { SignalingConnection } from "../signal/transport.ts";
import { abortable } from "@std/async/abortable";

/** How ports are got ready. */
export interface BaseSocketPoolOptions {
  /** Opens a punch port. */
  prepare(signal: AbortSignal): Promise<BaseSocket>;
  /** Has a router forward it, if there is one that does. */
  map?(internalPort: number, signal: AbortSignal): Promise<PortMapping>;
}

/** Keeps one port ready. */
export class BaseSocketPool implements AsyncDisposable {
  readonly #options: BaseSocketPoolOptions;
  readonly #ended = new AbortController();
  #ready: Promise<BaseSocket> | undefined;

  constructor(options: BaseSocketPoolOptions) {
    this.#options = options;
  }

  /** Gets a port ready, unless one is; a failure is told to who takes it. */
  warm(): void {
    if (this.#ready !== undefined) return;
    this.#ready = this.#prepare(this.#ended.signal);
    this.#ready.catch(() => {});
  }

  /**
   * A port, which is the caller's from then on; one that is about to be ready stays for others on abort.
   *
   * @throws the signal's reason on abort
   */
  async take(signal: AbortSignal): Promise<BaseSocket> {
    const either = AbortSignal.any([signal, this.#ended.signal]);
    const ready = this.#ready;
    if (ready === undefined) return await this.#prepare(either);
    this.#ready = undefined;
    try {
      return await abortable(ready, either);
    } catch (error) {
      if (either.aborted) await this.#giveBack(ready);
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended.abort(new DOMException("The peer is closed", "AbortError"));
    const base = await this.#ready?.catch(() => undefined);
    await base?.[Symbol.asyncDispose]();
  }

  async #giveBack(port: Promise<BaseSocket>): Promise<void> {
    const isWanted = this.#ready === undefined && !this.#ended.signal.aborted;
    if (isWanted) this.#ready = port;
    else await (await port.catch(() => undefined))?.[Symbol.asyncDispose]();
  }

  async #prepare(signal: AbortSignal): Promise<BaseSocket> {
    const base = await this.#options.prepare(signal);
    // A punch that needs no luck needs no router's help either, and the router is spared the trouble.
    if (!base.needsMapping || this.#options.map === undefined) return base;
    using deadline = new Deadline(TIMEOUT_MS, signal);
    const mapped = this.#addMapping(base, this.#options.map);
    await abortable(mapped, deadline.signal).catch(() => {}); // it may still come before the next offer
    return base;
  }

  /** Never rejects: most routers do not do it. */
  async #addMapping(
    base: BaseSocket,
    map: NonNullable<BaseSocketPoolOptions["map"]>,
  ): Promise<void> {
    try {
      const mapping = await map(base.description.punchPort, this.#ended.signal);
      await base.addMapped(mapping.external, mapping);
    } catch { /* as said */ }
  }
}

/** Ours: PCP and NAT-PMP answer in less than 20 ms, and UPnP in 200. */
const TIMEOUT_MS = 300;

/** What somebody has of a bus; disposing gives it back. */
export interface SignalingLease extends AsyncDisposable {
  /** Rejects if it cannot be opened. */
  readonly signaling: Promise<SignalingConnection>;
}

/** Opens buses, and closes those that nobody has any more. */
export class SignalingPool implements AsyncDisposable {
  readonly #open: (url: string, signal: AbortSignal) => Promise<SignalingConnection>;
  readonly #entries = new Map<string, Entry>();
  readonly #closing = new Set<Promise<void>>();

  /** @param open by the URL that a ticket has */
  constructor(open: (url: string, signal: AbortSignal) => Promise<SignalingConnection>) {
    this.#open = open;
  }

  /** The bus of this URL, opened unless it is open. */
  lease(url: string): SignalingLease {
    const entry = this.#entries.get(url) ?? this.#enter(url);
    entry.leases++;
    let isGivenBack = false;
    return {
      signaling: entry.signaling,
      [Symbol.asyncDispose]: async () => {
        if (isGivenBack) return;
        isGivenBack = true;
        if (--entry.leases === 0) await this.#close(url, entry);
      },
    };
  }

  /** Suspects all of them: what killed a connection to a peer may have killed those to servers. */
  check(): void {
    for (const { signaling } of this.#entries.values()) {
      signaling.then((signaling) => signaling.check?.(), () => {}); // those who wait for it are told
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const [url, entry] of this.#entries) this.#close(url, entry);
    await Promise.all(this.#closing);
  }

  #enter(url: string): Entry {
    const controller = new AbortController();
    const entry: Entry = { signaling: this.#open(url, controller.signal), controller, leases: 0 };
    this.#entries.set(url, entry);
    const forget = () => {
      if (this.#entries.get(url) === entry) this.#entries.delete(url);
    };
    // One that has ended is not leased again; those who have it are told by what they do.
    entry.signaling.then((signaling) => signaling.finished).then(forget, forget);
    return entry;
  }

  async #close(url: string, entry: Entry): Promise<void> {
    if (this.#entries.get(url) === entry) this.#entries.delete(url);
    entry.controller.abort(new DOMException("Nobody needs the bus any more", "AbortError"));
    const closing = entry.signaling.then((signaling) => signaling[Symbol.asyncDispose](), () => {})
      .finally(() => this.#closing.delete(closing));
    this.#closing.add(closing);
    await closing;
  }
}

interface Entry {
  readonly signaling: Promise<SignalingConnection>;
  readonly controller: AbortController;
  leases: number;
}
