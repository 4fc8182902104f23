/**
 * Resources that the connections of one peer share: a base socket that is ready before it is needed, and connections to
 * signaling servers, with the topics that the peer listens to there.
 *
 * @module
 */

import { Semaphore } from "../base/tasks.ts";
import { Deadline, idleDelay, ResettableTimer } from "../base/timers.ts";
import { NoMappingError } from "../portmap/mapper.ts";
import type { PortMapping } from "../portmap/mapping.ts";
import type { BaseSocket } from "../punch/punch.ts";
import type { SignalingConnection } from "../signal/transport.ts";
import { PUBLIC_BROKERS } from "../signal/open.ts";
import { MAX_RENDEZVOUS } from "./relay_message.ts";
import { abortable } from "@std/async/abortable";

/** How to prepare base sockets. */
export interface BaseSocketPoolOptions {
  /** Opens a base socket; with what is known by then, if `hurried` resolves. */
  prepare(signal: AbortSignal, hurried: Promise<void>): Promise<BaseSocket>;
  /**
   * Asks a router to forward a port of it, for TCP or UDP; `undefined` if there is no router to ask. Left out if routers
   * must not be asked.
   */
  readonly map?: (
    protocol: "tcp" | "udp",
    internalPort: number,
    signal: AbortSignal,
  ) => Promise<PortMapping | undefined>;
}

/** A base socket that is being prepared, or is ready. */
interface Preparation {
  readonly base: Promise<BaseSocket>;
  /** Lets it make do with what is known, once it has had a moment. */
  hurry(): Promise<void>;
  isHurried(): boolean;
}

/** Keeps one base socket ready, once it was asked to. */
export class BaseSocketPool implements AsyncDisposable {
  readonly #options: BaseSocketPoolOptions;
  /** Aborted when the pool is disposed of. */
  readonly #disposed = new AbortController();
  #ready: Preparation | undefined;
  /** Set while one is ready for a while only. */
  readonly #briefTimer = new ResettableTimer(() => this.discard());
  /** Calls of the router that are not over, each of which may have opened a port, and base sockets that are being closed. */
  readonly #mappings = new Set<Promise<unknown>>();

  constructor(options: BaseSocketPoolOptions) {
    this.#options = options;
  }

  /** Disposes of a base socket that is ready: what it knows about the network is no longer true. */
  discard(): void {
    const ready = this.#ready;
    this.#ready = undefined;
    this.#briefTimer.clear();
    if (ready === undefined) return;
    const disposing: Promise<void> = disposeOnceReady(ready.base)
      .finally(() => this.#mappings.delete(disposing));
    this.#mappings.add(disposing);
  }

  /** Prepares a base socket, unless there is one. A failure is thrown by the `take()` that follows. */
  warm(): void {
    if (this.#ready !== undefined || this.#disposed.signal.aborted) return;
    this.#ready = this.#begin(this.#disposed.signal);
    this.#ready.base.catch(() => {}); // perhaps no take() follows
  }

  /** As {@linkcode BaseSocketPool.warm}, for a connection that may follow soon: later it would be too old to use. */
  warmBriefly(): void {
    this.warm();
    if (this.#ready !== undefined) this.#briefTimer.set(BRIEF_MS);
  }

  /**
   * A base socket, which belongs to the caller. On abort, one that is nearly ready stays in the pool.
   *
   * @param near resolves once the peer was found on the local network, where neither servers nor a router are needed: then
   * they are waited for no longer
   * @throws the signal's reason on abort
   */
  async take(signal: AbortSignal, near?: Promise<void>): Promise<BaseSocket> {
    const either = AbortSignal.any([signal, this.#disposed.signal]);
    const ready = this.#ready ?? this.#begin(either);
    near?.then(() => ready.hurry());
    if (ready !== this.#ready) return await ready.base;
    this.#ready = undefined;
    this.#briefTimer.clear();
    try {
      return await abortable(ready.base, either);
    } catch (error) {
      if (either.aborted) await this.#putBack(ready);
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed.abort(new DOMException("The peer is closed", "AbortError"));
    this.#briefTimer.clear();
    if (this.#ready !== undefined) await disposeOnceReady(this.#ready.base);
    await Promise.all(this.#mappings); // which never reject
  }

  async #putBack(ready: Preparation): Promise<void> {
    const isWanted = this.#ready === undefined && !this.#disposed.signal.aborted;
    if (isWanted && !ready.isHurried()) this.#ready = ready;
    else await disposeOnceReady(ready.base);
  }

  #begin(signal: AbortSignal): Preparation {
    const { promise: hurried, resolve } = Promise.withResolvers<void>();
    const startedAtMs = performance.now();
    let isHurried = false;
    const hurry = async () => {
      isHurried = true;
      const leftMs = startedAtMs + UNHURRIED_MS - performance.now();
      if (leftMs > 0) await idleDelay(leftMs, signal);
      resolve();
    };
    return { base: this.#prepare(signal, hurried), hurry, isHurried: () => isHurried };
  }

  async #prepare(signal: AbortSignal, hurried: Promise<void>): Promise<BaseSocket> {
    const base = await this.#options.prepare(signal, hurried);
    // If the external port is known already, a mapping adds nothing: leave the router alone.
    const { map } = this.#options;
    const needy = [base, base.udp].filter((each) => each?.needsMapping);
    if (needy.length === 0 || map === undefined) return base;
    const mappings = needy.map((each) =>
      this.#addMapping(each!, each === base ? "tcp" : "udp", map)
    );
    const adding: Promise<unknown> = Promise.all(mappings)
      .finally(() => this.#mappings.delete(adding));
    this.#mappings.add(adding);
    using deadline = new Deadline(MAPPING_TIMEOUT_MS, signal);
    hurried.then(() => deadline.expire(new DOMException("The peer is near", "AbortError")));
    try {
      await abortable(adding, deadline.signal);
    } catch { /* too late for the first offer, but not for a later one */ }
    return base;
  }

  /** Never rejects. */
  async #addMapping(
    base: Pick<BaseSocket, "description" | "addMapped">,
    protocol: "tcp" | "udp",
    map: NonNullable<BaseSocketPoolOptions["map"]>,
  ): Promise<void> {
    try {
      const { punchPort } = base.description;
      const mapping = await map(protocol, punchPort, this.#disposed.signal);
      if (mapping !== undefined) await base.addMapped(mapping.external, mapping);
    } catch { /* most routers forward no ports */ }
  }
}

/**
 * Remembers for a minute that no router answers on this network, so that no connection waits for one there, until one does
 * answer or the network changes.
 */
export class RouterMemory {
  /** The addresses of this host on the network without a router. */
  #absentOn: string | undefined;
  #absentUntilMs = 0;

  /**
   * Maps a port, unless no router is known to answer here.
   *
   * @param here this host's addresses
   * @param map rejects with `attempts` that all timed out if no router answers
   */
  async map(
    here: () => Promise<string>,
    map: () => Promise<PortMapping>,
  ): Promise<PortMapping | undefined> {
    const addresses = await here();
    const isAbsent = this.#absentOn === addresses && performance.now() < this.#absentUntilMs;
    if (isAbsent) return undefined;
    try {
      const mapping = await map();
      this.#absentOn = undefined;
      return mapping;
    } catch (error) {
      const isSilent = error instanceof NoMappingError &&
        error.attempts.every(({ outcome }) => outcome === "timed-out");
      this.#absentOn = isSilent ? addresses : undefined;
      this.#absentUntilMs = performance.now() + ABSENT_MS;
      throw error;
    }
  }
}

async function disposeOnceReady(base: Promise<BaseSocket>): Promise<void> {
  const [prepared] = await Promise.allSettled([base]);
  if (prepared.status === "fulfilled") await prepared.value[Symbol.asyncDispose]();
}

/** A share in a signaling connection; disposing gives it back. */
export interface SignalingLease extends AsyncDisposable {
  /** Rejects if the connection cannot be opened. */
  readonly signaling: Promise<SignalingConnection>;
}

/** Shares signaling connections, and closes each a while after its last lease was given back: another may follow. */
export class SignalingPool implements AsyncDisposable {
  readonly #open: (url: string, signal: AbortSignal) => Promise<SignalingConnection>;
  readonly #entries = new Map<string, Entry>();
  readonly #closing = new Set<Promise<void>>();
  /** What is known of the servers, also of those that are not connected now. */
  readonly memory: ServerMemory;

  /** @param open opens a connection to a URL as tickets name it */
  constructor(
    open: (url: string, signal: AbortSignal) => Promise<SignalingConnection>,
    record?: ServerRecord,
  ) {
    this.#open = open;
    this.memory = new ServerMemory(record);
  }

  /** A lease of the connection to this URL, which is opened if necessary. */
  lease(url: string): SignalingLease {
    const entry = this.#entries.get(url) ?? this.#enter(url);
    if (entry.idleTimer.isSet) {
      entry.idleTimer.clear();
      entry.opened?.check?.(); // it was left alone for a while
    }
    entry.leases++;
    let isReturned = false;
    return {
      signaling: entry.signaling,
      [Symbol.asyncDispose]: async () => {
        if (isReturned) return;
        isReturned = true;
        if (--entry.leases > 0 || this.#entries.get(url) !== entry) return; // or it is closed
        if (entry.opened === undefined) return await this.#close(url, entry); // it may never open
        entry.idleTimer.set(KEPT_MS);
      },
    };
  }

  /** The round trip to a server in milliseconds, if a connection has measured it. */
  rttMsOf(url: string): number | undefined {
    this.#noteRtt(url, this.#entries.get(url));
    const rttMs = this.memory.rttMsOf(url);
    return rttMs === undefined ? undefined : Math.round(rttMs);
  }

  /**
   * Checks that all connections are alive: what cut the connection to a peer may have cut those to servers. A peer waits,
   * so that an answer has less time than otherwise.
   *
   * @param isLost whether they are certain to be dead
   */
  check({ isLost = false }: { readonly isLost?: boolean } = {}): void {
    for (const { signaling } of this.#entries.values()) {
      signaling.then((signaling) => {
        const withinMs = Math.max(MIN_CHECK_MS, CHECK_ROUND_TRIPS * (signaling.rttMs ?? Infinity));
        signaling.check?.(isLost ? 0 : withinMs === Infinity ? undefined : withinMs);
      }, () => {}); // if one cannot be opened, its leases report that
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const [url, entry] of this.#entries) this.#close(url, entry);
    await Promise.all([...this.#closing, this.memory.keep()]);
  }

  #enter(url: string): Entry {
    // Ends the opening of this connection only, when its last lease is given back.
    const controller = new AbortController();
    const signaling = this.#open(url, controller.signal);
    const idleTimer = new ResettableTimer(() => {
      this.#close(url, entry).catch(() => {}); // nothing waits for it, and it is not needed any more
    });
    const entry: Entry = { signaling, controller, idleTimer, leases: 0 };
    this.#entries.set(url, entry);
    const forget = () => {
      entry.idleTimer.clear();
      if (this.#entries.get(url) === entry) this.#entries.delete(url);
    };
    // A connection that has ended is not leased again; its present users find out when they use it.
    entry.signaling.then((signaling) => (entry.opened = signaling).finished).then(forget, forget);
    return entry;
  }

  #noteRtt(url: string, entry: Entry | undefined): void {
    const rttMs = entry?.opened?.rttMs;
    if (rttMs !== undefined) this.memory.noteRtt(url, rttMs);
  }

  async #close(url: string, entry: Entry): Promise<void> {
    this.#noteRtt(url, entry);
    entry.idleTimer.clear();
    if (this.#entries.get(url) === entry) this.#entries.delete(url);
    entry.controller.abort(new DOMException("The connection is not needed any more", "AbortError"));
    const closing = entry.signaling.then((signaling) => signaling[Symbol.asyncDispose](), () => {})
      .finally(() => this.#closing.delete(closing));
    this.#closing.add(closing);
    await closing;
  }
}

interface Entry {
  readonly signaling: Promise<SignalingConnection>;
  readonly controller: AbortController;
  /** Set while nothing uses it. */
  readonly idleTimer: ResettableTimer;
  leases: number;
  /** Once it is open. */
  opened?: SignalingConnection;
}

/**
 * Remembers how signaling servers did, so that the next connection uses those that work. Times are as `performance.now()`
 * tells them.
 */
export class ServerMemory {
  readonly #servers = new Map<string, KnownServer>();
  readonly #record: ServerRecord | undefined;

  /** @param record what earlier runs of the program have learned */
  constructor(record?: ServerRecord) {
    this.#record = record;
  }

  /** A server could be reached. */
  noteOpened(url: string): void {
    this.#change(url, { works: true, failedAtMs: undefined });
  }

  /** A server could not be reached. */
  noteFailed(url: string, nowMs: number): void {
    this.#change(url, { works: false, failedAtMs: nowMs });
  }

  /** The round trip to a server was measured; one that was slower before does not count. */
  noteRtt(url: string, rttMs: number): void {
    this.#change(url, { rttMs: Math.min(rttMs, this.rttMsOf(url) ?? Infinity) });
  }

  /** The round trip to a server in milliseconds, if it was ever measured. */
  rttMsOf(url: string): number | undefined {
    return this.#known(url)?.rttMs;
  }

  /**
   * The servers to connect to, of those that a ticket names: the rendezvous servers that worked last time first, the nearest of
   * them before the others, of which at most {@linkcode MAX_RENDEZVOUS} are for now, and the rest is to replace those that
   * fail; and no public broker that was dead a moment ago, if another server works. If none does, this host may have been
   * offline, which says nothing about the brokers.
   */
  choose(urls: readonly string[], nowMs: number): { now: string[]; spare: string[] } {
    const isDead = (url: string) =>
      PUBLIC_BROKERS.includes(url) &&
      nowMs - (this.#known(url)?.failedAtMs ?? -Infinity) < DEAD_MS;
    const works = (url: string) => !WITHOUT_SERVER.test(url) && this.#known(url)?.works;
    const alive = urls.filter((url) => !isDead(url));
    const usable = alive.some(works) ? alive : urls;
    const rendezvous = usable.filter((url) => /^wss?:/i.test(url));
    const ranked = rendezvous.toSorted((a, b) => this.#rank(a) - this.#rank(b));
    const others = usable.filter((url) => !rendezvous.includes(url));
    return {
      now: [...ranked.slice(0, MAX_RENDEZVOUS), ...others],
      spare: ranked.slice(MAX_RENDEZVOUS),
    };
  }

  /** Has what this run has learned kept for later ones. */
  async keep(): Promise<void> {
    if (this.#servers.size > 0) await this.#record?.keep(this.#servers);
  }

  #known(url: string): KnownServer | undefined {
    return this.#servers.get(url) ?? this.#record?.recall(url);
  }

  /** Smaller is better: the round trip of those that work, then those that are not known, then those that failed. */
  #rank(url: string): number {
    const { works, rttMs = UNKNOWN_RTT_MS } = this.#known(url) ?? {};
    return works === undefined ? 2 * UNKNOWN_RTT_MS : works ? rttMs : 3 * UNKNOWN_RTT_MS;
  }

  /** The one that was used longest ago is forgotten if there are too many: a peer may get any number of tickets. */
  #change(url: string, change: Partial<KnownServer>): void {
    const known = this.#known(url);
    this.#servers.delete(url);
    this.#servers.set(url, { ...known, ...change });
    if (this.#servers.size <= MAX_KNOWN) return;
    const [oldest] = this.#servers.keys();
    this.#servers.delete(oldest!);
  }
}

/** How a server did. */
export interface KnownServer {
  /** Whether it could be reached last. */
  readonly works?: boolean;
  /** When it could not be reached, as `performance.now()` tells it. */
  readonly failedAtMs?: number;
  readonly rttMs?: number;
}

/** What a program keeps of signaling servers from one run to the next. */
export interface ServerRecord {
  /** What earlier runs have learned of a server. */
  recall(url: string): KnownServer | undefined;
  /** Keeps what this run has learned. Called once, as the peer is closed. */
  keep(servers: ReadonlyMap<string, KnownServer>): Promise<void>;
}

/** Takes a message, and the topic that it was published under. */
export type TopicMessageHandler = (
  message: Uint8Array,
  signaling: SignalingConnection,
  topic: string,
) => void;

/** Listens to a set of topics that changes now and then. */
export class TopicSubscriptions {
  readonly #signaling: SignalingConnection;
  readonly #onMessage: TopicMessageHandler;
  readonly #subscriptions = new Map<string, AsyncDisposable>();
  readonly #mutex = new Semaphore(1);

  constructor(signaling: SignalingConnection, onMessage: TopicMessageHandler) {
    this.#signaling = signaling;
    this.#onMessage = onMessage;
  }

  /**
   * Subscribes to these topics and unsubscribes from all others. A topic that the server refuses does not affect the rest:
   * a holder of the ticket may have taken all places under one topic, and must not keep the peer from the others.
   *
   * @returns why some topics were refused
   * @throws the first reason, if no topic is left
   * @throws the signal's reason on abort
   */
  renew(topics: readonly string[], signal: AbortSignal): Promise<unknown[]> {
    return this.#mutex.through(() => this.#renew(topics, signal));
  }

  async #renew(topics: readonly string[], signal: AbortSignal): Promise<unknown[]> {
    const added = topics.filter((topic) => !this.#subscriptions.has(topic));
    const results = await Promise.allSettled(added.map(async (topic) => {
      const onMessage = (message: Uint8Array) => this.#onMessage(message, this.#signaling, topic);
      this.#subscriptions.set(topic, await this.#signaling.subscribe(topic, onMessage, { signal }));
    }));
    signal.throwIfAborted();
    for (const [topic, subscription] of this.#subscriptions) {
      if (topics.includes(topic)) continue;
      this.#subscriptions.delete(topic);
      await subscription[Symbol.asyncDispose]();
    }
    const refused = results.flatMap((each) => each.status === "rejected" ? [each.reason] : []);
    if (this.#subscriptions.size === 0 && refused.length > 0) throw refused[0];
    return refused;
  }
}

/** How long the answer to a check may take while a peer waits. Chosen by us: a packet may be lost. */
const [MIN_CHECK_MS, CHECK_ROUND_TRIPS] = [250, 4];

/** As long as a base socket is used without being renewed. */
const BRIEF_MS = 25_000;

/** Chosen by us: most names are resolved, and most servers have answered by then. */
const UNHURRIED_MS = 250;

/** Chosen by us: PCP and NAT-PMP answer within 20 ms, UPnP within 200 ms. What takes longer is added when it comes. */
const MAPPING_TIMEOUT_MS = 300;

/** Chosen by us: a router that starts anew is back by then, and asking it once a minute costs next to nothing. */
const ABSENT_MS = 60_000;

/**
 * How long a signaling connection stays open without a user. Chosen by us: a program that connects to several peers, or to
 * one again, spares two round trips each time, and a server has to keep few.
 */
const KEPT_MS = 30_000;

/** Chosen by us: a broker that restarts is back by then, and one that is gone costs an attempt every ten minutes. */
const DEAD_MS = 600_000;

/** Ways to meet that work offline, too. */
const WITHOUT_SERVER = /^(?:lan|hand):/i;

/** Chosen by us: more than any round trip. */
const UNKNOWN_RTT_MS = 60_000;

/** Chosen by us: eight servers of each of a few dozen tickets. */
const MAX_KNOWN = 256;
