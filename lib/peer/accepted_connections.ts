/**
 * The connections that a peer has accepted: how many there are, which of them the other side may resume, and which search
 * for paths runs. Carries out what {@linkcode stepAdmission} and {@linkcode stepSearchQueue} decide.
 *
 * @module
 */

import { equalBytes, toHex } from "../base/bytes.ts";
import type { Network } from "../net/network.ts";
import { mayOpenSockets } from "../net/shortage.ts";
import { type Clocks, readClocks, ResettableTimer, steadyTimeMs } from "../base/timers.ts";
import {
  type AdmissionEvent,
  admissionWakeAtMs,
  EMPTY_ADMISSION,
  stepAdmission,
} from "./admission_engine.ts";
import { PeerConnection, TICKET_GONE } from "./connection.ts";
import type { PeerContext } from "./context.ts";
import {
  EMPTY_SEARCH_QUEUE,
  mayHaveConnection,
  type RequestEvent,
  type SearchQueueEvent,
  searchQueueWakeAtMs,
  stepSearchQueue,
} from "./listener_engine.ts";
import type { ResumedConnection } from "./replay_guard.ts";
import type { ConnectionRequest } from "./signaling_message.ts";
import { resumptionId } from "./ticket.ts";
import type { ListenedTicket } from "./tickets.ts";

/** The connections that this side has accepted. */
export class AcceptedConnections {
  /** Those that the other side may resume, by what names them; the oldest first. */
  readonly #resumable = new Map<string, ResumableConnection>();
  readonly #searches = new WeakMap<PeerConnection, ConnectionSearches>();
  /** How many connections each key has. */
  readonly #counts = new Map<string, number>();
  #count = 0;
  /** Those that were given up for another connection, by what names them: the other side may have had a path. */
  readonly #turnedAway = new Set<string>();
  /** Who may search for the first path of a connection. */
  readonly admission: Admission;
  readonly #max: number;
  /** The look for files under way. */
  #looking: Promise<boolean> | undefined;

  /** @param max how many there may be at a time */
  constructor(max: number) {
    this.#max = max;
    this.admission = new Admission(Math.max(MIN_KNOWN_KEYS, max));
  }

  /** Whether a key may have another connection. */
  hasRoomFor(remoteKey: Uint8Array): boolean {
    const key = toHex(remoteKey);
    const ofKey = this.#counts.get(key) ?? 0;
    const isKnown = this.admission.knows(key);
    return mayHaveConnection({ ofKey, ofAll: this.#count, isKnown }, this.#max);
  }

  /** Whether there are so many that this process may be short of files. */
  get hasMany(): boolean {
    return this.#count >= MANY;
  }

  /**
   * Whether this process may not open the files that a search takes. The other side would wait for half a minute for an answer
   * that says nothing. Those who ask at the same time share one look, since it takes files itself.
   */
  async isShortOfFiles(network: Network): Promise<boolean> {
    this.#looking ??= mayOpenSockets(network, SOCKETS_PER_SEARCH)
      .finally(() => this.#looking = undefined);
    return !await this.#looking;
  }

  /** Makes a connection. It keeps nothing of the request, which has a handshake and a search with all that they needed. */
  open(request: MadeFor, options: AcceptedConnectionOptions): PeerConnection {
    const { context, ticket, remoteKey, protocol, timeoutMs } = options;
    const connection: PeerConnection = new PeerConnection({
      role: "controlled",
      remoteKey,
      protocol,
      timeoutMs,
      ticketNumber: ticket.number,
      windows: context.windows,
      closed: context.closed,
      onPath: () => request.tell?.({ kind: "path" }),
      // The other side will request the connection again, by itself once it notices, too.
      onStalled: (isStalled) => {
        if (isStalled) recallSoon(context, connection);
      },
      onProgress: context.onProgress,
      onLost: () => context.signaling.check(),
    });
    const ended = (reason?: unknown) => request.tell?.({ kind: "ended", reason });
    connection.finished.then(() => ended(), ended);
    this.#add(connection);
    endWhenRevoked(connection, ticket);
    return connection;
  }

  /** Counts the connection until it has ended. */
  #add(connection: PeerConnection): void {
    const key = toHex(connection.remoteKey);
    const count = (difference: number) => {
      const ofKey = (this.#counts.get(key) ?? 0) + difference;
      if (ofKey > 0) this.#counts.set(key, ofKey);
      else this.#counts.delete(key);
      this.#count += difference;
    };
    count(+1);
    const onFinished = () => count(-1);
    connection.finished.then(onFinished, onFinished);
  }

  /** The connection of that name, if it belongs to the peer that asks for it. */
  find(id: string, remoteKey: Uint8Array): PeerConnection | undefined {
    const connection = this.#resumable.get(id)?.connection;
    if (connection === undefined) return undefined;
    return equalBytes(connection.remoteKey, remoteKey) ? connection : undefined;
  }

  /** What a {@linkcode ReplayGuard} has to know about the connection that a request resumes. */
  resumedBy({ resumes, ageMs }: ConnectionRequest): ResumedConnection | null {
    const resumable = resumes === null ? undefined : this.#resumable.get(resumes);
    if (resumable === undefined || ageMs === null) return null;
    const { madeAt, lastAgeMs } = resumable;
    return { madeAt, lastAgeMs, ageMs };
  }

  /** Notes that a request to resume a connection has passed. */
  noteRequest({ resumes, ageMs }: ConnectionRequest): void {
    const resumable = resumes === null ? undefined : this.#resumable.get(resumes);
    if (resumable !== undefined && ageMs !== null) resumable.lastAgeMs = ageMs;
  }

  /**
   * What the wall clock would show if it had not been set since a connection was made, for each connection of the ticket
   * where that is another time. The newest connection is first.
   */
  otherTimesMs(ticket: ListenedTicket, { nowMs, wallMs }: Clocks): number[] {
    return [...this.#resumable.values()].reverse()
      .filter((each) => each.ticket === ticket)
      .map(({ madeAt }) => steadyTimeMs(madeAt, nowMs))
      .filter((timeMs) => Math.abs(timeMs - wallMs) > SAME_TIME_MS);
  }

  /** Lets the other side resume the connection until it has ended. */
  remember(connection: PeerConnection, connectionKey: Uint8Array, ticket: ListenedTicket): void {
    const id = resumptionId(connectionKey);
    this.#resumable.set(id, { connection, ticket, madeAt: readClocks(), lastAgeMs: -1 });
    const forget = () => this.#resumable.delete(id);
    connection.finished.then(forget, forget);
  }

  /** Notes that a connection is given up for another one. */
  turnAway(connection: PeerConnection): void {
    for (const [id, each] of this.#resumable) {
      if (each.connection === connection) this.#turnedAway.add(id);
    }
    const [oldest] = this.#turnedAway;
    if (this.#turnedAway.size > MAX_TURNED_AWAY) this.#turnedAway.delete(oldest!);
  }

  /** Why the connection of that name cannot go on; `undefined` if it can. */
  whyNotResumed(id: string, remoteKey: Uint8Array): "unknown" | "busy" | undefined {
    if (this.find(id, remoteKey) !== undefined) return undefined;
    return this.#turnedAway.has(id) ? "busy" : "unknown";
  }

  /** The searches for a connection. */
  searchesOf(connection: PeerConnection): ConnectionSearches {
    let searches = this.#searches.get(connection);
    if (searches === undefined) {
      searches = new ConnectionSearches(connection);
      this.#searches.set(connection, searches);
    }
    return searches;
  }
}

/** What a connection needs that is made for a request. */
export interface AcceptedConnectionOptions {
  readonly context: PeerContext;
  /** The ticket that the other side used. */
  readonly ticket: ListenedTicket;
  /** As of a {@linkcode PeerConnection}. */
  readonly remoteKey: Uint8Array;
  /** As of a {@linkcode PeerConnection}. */
  readonly protocol: string;
  /** As of `PeerConnectionOptions`. */
  readonly timeoutMs: number;
}

/** The request that a connection is made for. */
export interface MadeFor {
  /** Tells it what happens to the connection; `undefined` once the request is over. */
  tell: ((event: Extract<RequestEvent, { kind: "path" | "ended" }>) => void) | undefined;
}

/** A ticket that is taken back takes the connections with it that were made with it. */
function endWhenRevoked(connection: PeerConnection, { revoked }: ListenedTicket): void {
  const onRevoked = () => connection.abandon(revoked.reason, TICKET_GONE);
  const forget = () => revoked.removeEventListener("abort", onRevoked);
  revoked.addEventListener("abort", onRevoked, { once: true });
  connection.finished.then(forget, forget);
}

function recallSoon(context: PeerContext, connection: PeerConnection): void {
  context.inBackground(async () => (await import("./roaming.ts")).recall(context, connection));
}

/** A connection that the other side may resume. */
interface ResumableConnection {
  readonly connection: PeerConnection;
  /** The ticket that it was made with. */
  readonly ticket: ListenedTicket;
  /** When it was made. */
  readonly madeAt: Clocks;
  /** How old it was when it was last requested, by the other side's clock; `-1` before that. */
  lastAgeMs: number;
}

/** The searches for the first path of a connection: a few at a time, and a newcomer may replace one without a path. */
export class Admission {
  readonly #searches = new Map<number, AdmissionRequest>();
  readonly #timer = new ResettableTimer(() => this.#dispatch({ kind: "time" }));
  /** The keys that have connected before; the one that did so last is last. */
  readonly #knownKeys = new Set<string>();
  readonly #maxKnownKeys: number;
  #count = 0;
  #state = EMPTY_ADMISSION;

  /** @param maxKnownKeys how many keys it remembers */
  constructor(maxKnownKeys: number) {
    this.#maxKnownKeys = maxKnownKeys;
  }

  /** Starts the search when there is a place for it; returns its number. */
  request(remoteKey: Uint8Array, search: AdmissionRequest): number {
    const id = ++this.#count;
    const key = toHex(remoteKey);
    this.#searches.set(id, search);
    this.#dispatch({ kind: "requested", id, key, isKnown: this.#knownKeys.has(key) });
    return id;
  }

  /** Notes that the search of this number no longer needs its place. */
  done(id: number): void {
    if (this.#searches.delete(id)) this.#dispatch({ kind: "done", id });
  }

  /** Notes that the other side has given up, so that another may take the place of this search. */
  cancelled(id: number): void {
    if (this.#searches.has(id)) this.#dispatch({ kind: "cancelled", id });
  }

  /** Whether a key has connected before. */
  knows(key: string): boolean {
    return this.#knownKeys.has(key);
  }

  /** Notes that there is a connection with this key. */
  remember(remoteKey: Uint8Array): void {
    const key = toHex(remoteKey);
    this.#knownKeys.delete(key);
    this.#knownKeys.add(key);
    const [oldest] = this.#knownKeys;
    if (this.#knownKeys.size > this.#maxKnownKeys) this.#knownKeys.delete(oldest!);
  }

  #dispatch(event: AdmissionEvent): void {
    const nowMs = performance.now();
    const { state, actions } = stepAdmission(this.#state, event, nowMs);
    this.#state = state;
    const wakeAtMs = admissionWakeAtMs(state, nowMs);
    if (wakeAtMs === Infinity) this.#timer.clear();
    else this.#timer.set(wakeAtMs - nowMs);
    for (const { kind, id } of actions) {
      const search = this.#searches.get(id);
      if (kind === "displace") this.#searches.delete(id);
      // In the next turn, since its number is not known to the caller yet.
      queueMicrotask(() => {
        if (kind === "displace") search?.displace();
        else if (this.#searches.has(id)) search?.start();
      });
    }
  }
}

/** What to do with a search. */
export interface AdmissionRequest {
  /** Called when there is a place for it. */
  start(): void;
  /** Called when another takes its place, started or not. */
  displace(): void;
}

/** A search that waits for its turn, or runs. */
export interface QueuedSearch {
  /** Called when it is its turn. */
  start(): void;
  /** Ends it, started or not; {@linkcode ConnectionSearches.ended} has to follow. */
  end(reason: unknown): void;
}

/** The searches for one connection: one runs at a time, and a newer one replaces those before it. */
export class ConnectionSearches {
  readonly #searches = new Map<number, QueuedSearch>();
  readonly #timer = new ResettableTimer(() => this.#dispatch({ kind: "time" }));
  #count = 0;
  #state = EMPTY_SEARCH_QUEUE;

  constructor(connection: PeerConnection) {
    const onFinished = () => {
      const reason = new DOMException("The connection has ended", "AbortError");
      for (const search of [...this.#searches.values()]) search.end(reason);
    };
    connection.finished.then(onFinished, onFinished);
  }

  /** Starts the search when it is its turn; returns its number. */
  request(search: QueuedSearch): number {
    const request = ++this.#count;
    this.#searches.set(request, search);
    this.#dispatch({ kind: "requested", request });
    return request;
  }

  /** Notes that nothing of a search goes on. */
  ended(request: number): void {
    this.#searches.delete(request);
    this.#dispatch({ kind: "ended", request });
  }

  #dispatch(event: SearchQueueEvent): void {
    const { state, actions } = stepSearchQueue(this.#state, event, performance.now());
    this.#state = state;
    for (const { kind, request } of actions) {
      const search = this.#searches.get(request);
      if (kind === "start") search?.start();
      else search?.end(new DOMException("The other side has begun anew", "AbortError"));
    }
    const wakeAtMs = searchQueueWakeAtMs(state);
    if (wakeAtMs === Infinity) this.#timer.clear();
    else this.#timer.set(Math.max(0, wakeAtMs - performance.now()));
  }
}

/** Chosen by us: the topics of one time serve another that is this near. */
const SAME_TIME_MS = 10 * 60 * 1000;

/** Chosen by us: with fewer, no system has a limit that matters. */
const MANY = 16;

/** Chosen by us: those of a search that finds a path at once; one with a spray takes more. */
const SOCKETS_PER_SEARCH = 12;

/** Chosen by us: who comes at the same moment as others asks again within seconds, to hear why its path was cut. */
const MAX_TURNED_AWAY = 64;

/** Chosen by us: more friends than a person has. A peer that accepts more connections remembers as many. */
const MIN_KNOWN_KEYS = 1024;
