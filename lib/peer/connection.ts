/**
 * A connection between two peers: one byte stream, over whatever path there is at the moment.
 *
 * @module
 */

import { toBase64url } from "../base/bytes.ts";
import { NetworkError } from "../base/errors.ts";
import type { PathKind, PunchMethodName } from "../base/path_kind.ts";
import { TokenBucket } from "../base/rate_limiter.ts";
import { ResettableTimer } from "../base/timers.ts";
import { WaitQueue } from "../base/wait_queue.ts";
import { formatTransportAddress } from "../net/address.ts";
import type { PunchRole } from "../punch/punch.ts";
import type { WindowBudget } from "../session/receive_stream.ts";
import { StreamSession } from "../session/streams.ts";
import type { PeerOptions } from "./options.ts";
import { MTU_FINDING, MtuHoleMemory } from "./path_check.ts";
import type { Route } from "./path_choice_engine.ts";
import type { FoundPath, PathReport } from "./path_search.ts";
import { type RecallSecrets, recallSecrets } from "./ticket.ts";

/** What a connection runs over. */
export interface PeerPath {
  /** The kind of path. */
  readonly kind: PathKind;
  /** How it got through the filters of both sides; `null` unless `kind` is `"punch-tcp"` or `"punch-udp"`. */
  readonly method: PunchMethodName | null;
  /** The transport protocol. */
  readonly transport: "tcp" | "udp";
  /** This side's address, such as `192.0.2.1:4000`. */
  readonly local: string;
  /** The other side's address. */
  readonly remote: string;
  /** Whether a relay carries it. */
  readonly relayed: boolean;
  /** The round-trip time in milliseconds; `null` until it is measured. */
  readonly rttMs: number | null;
}

/** How the side that listens asks the other one to search for another path. */
export interface Recall extends RecallSecrets {
  /** The signaling servers that carry the messages. */
  readonly urls: readonly string[];
  /** How often it may ask. */
  readonly rate: TokenBucket;
  /** Whether it goes on asking, now and then. */
  isRepeated: boolean;
}

/** A change of a connection's path. */
export type PeerEvent =
  /** The connection has moved to another path. */
  | { readonly event: "path"; readonly path: PeerPath }
  /** The path has not answered for a while, or the network has changed: another one is looked for beside it. */
  | { readonly event: "stalled" }
  /** The path answers again. */
  | { readonly event: "resumed" }
  /** The connection has lost its path. If it may reconnect, it waits for another. */
  | { readonly event: "lost"; readonly reason: string };

/** A connection of a peer that comes or goes. */
export type ConnectionEvent =
  /** There is a connection, requested by either side. */
  | { readonly event: "opened"; readonly connection: PeerConnection }
  /** It is over. `error` says why, and is `undefined` if both sides had finished. */
  | { readonly event: "ended"; readonly connection: PeerConnection; readonly error: unknown };

/** How to make a connection. */
export interface PeerConnectionOptions {
  readonly role: PunchRole;
  readonly remoteKey: Uint8Array;
  readonly protocol: string;
  /** How long to wait for another path after losing one; 0 ends the connection with its path. */
  readonly timeoutMs: number;
  /** The number of the ticket that it was made with, if that is on a list. */
  readonly ticketNumber?: number;
  /** The memory that the windows of all connections of this side share. */
  readonly windows: WindowBudget;
  /** Aborted when the peer is closed: after that there is no other path to wait for. */
  readonly closed: AbortSignal;
  /** Called whenever the connection has moved to a path, the first one included. */
  readonly onPath: (isRelayed: boolean) => void;
  /** Called when the direct path is worse than another one that is known. */
  readonly onSlow?: (other: Route) => void;
  /** Called when the path has stalled, or resumes, and the connection may move to another one. */
  readonly onStalled: (isStalled: boolean) => void;
  /** Called when it has lost its path and waits for another; `wasUsed` if the other side was ever heard over it. */
  readonly onLost: (wasUsed: boolean) => void;
  /** Told when a direct path by TCP swallows long packets. */
  readonly onProgress?: PeerOptions["onProgress"];
}

/**
 * An encrypted and authenticated connection to a peer; a `Deno.Conn`. It moves from a relay to a direct path, and from a
 * lost path to another one, without losing a byte.
 */
export class PeerConnection extends StreamSession {
  /** The other side's public key, which it has proved to own; 32 bytes. */
  readonly remoteKey: Uint8Array;
  /** The application's protocol, as the initiator named it; `""` if it named none. */
  readonly protocol: string;
  /** @ignore the number of the ticket that it was made with, if that is on a list */
  readonly ticketNumber: number | undefined;
  /** @ignore how the side that listens asks the other one for another path; `undefined` before the answer */
  recall: Recall | undefined;
  /** @ignore called when the program may end while the connection is open */
  onUnref: () => void = () => {};
  /** @ignore called when the path has stalled, before a search for any other begins */
  onStall: () => void = () => {};
  /** @ignore what is known of MTU holes in direct paths by TCP */
  readonly mtuHole: MtuHoleMemory;
  /** @ignore whether the other side was ever heard */
  wasHeard = false;
  /** @ignore the round trips of paths that others took the place of */
  readonly rttsMs: Partial<Record<Route, number>> = {};
  readonly #startedAtMs = performance.now();
  readonly #events = new WaitQueue<PeerEvent>(MAX_EVENTS);
  readonly #datagramsIn = new WaitQueue<Uint8Array>(MAX_DATAGRAMS);
  readonly #isControlling: boolean;
  readonly #timeoutMs: number;
  readonly #closed: AbortSignal;
  readonly #onPath: (isRelayed: boolean) => void;
  readonly #onStalled: (isStalled: boolean) => void;
  readonly #onSlow: ((other: Route) => void) | undefined;
  readonly #onLost: (wasUsed: boolean) => void;
  /** Asks the other side to answer to this side's present address, while a path over UDP has stalled. */
  readonly #probeTimer = new ResettableTimer(() => this.#probe());
  #probes = 0;
  #elapsedMs = 0;
  #hasPath = false;
  #isStalled = false;
  #current: CurrentPath | undefined;

  /** @ignore made by {@linkcode Peer} */
  constructor(options: PeerConnectionOptions) {
    const { role, remoteKey, protocol, timeoutMs, windows, closed, onPath, onLost } = options;
    super({
      role,
      timeoutMs,
      windows: windows.of(toBase64url(remoteKey)),
      reasonOf: (code) => code === TICKET_GONE ? TICKET_GONE_TEXT : undefined,
      onEvent: (event) => {
        if (event.event === "lost") this.#onPathLost(event.error);
        if (event.event === "stalled" || event.event === "resumed") {
          this.#onPathStalled(event.event === "stalled");
        }
      },
    });
    this.#timeoutMs = timeoutMs;
    this.#closed = closed;
    this.#onPath = onPath;
    this.#onStalled = options.onStalled;
    this.#onSlow = options.onSlow;
    this.#onLost = onLost;
    this.#isControlling = role === "controlling";
    this.remoteKey = remoteKey;
    this.protocol = protocol;
    this.ticketNumber = options.ticketNumber;
    this.mtuHole = new MtuHoleMemory(() => {
      options.onProgress?.({ event: "finding", finding: MTU_FINDING });
    });
    const onClosed = () => {
      if (this.#current !== undefined && !this.#hasPath) this.#abandonForGood(closed.reason);
    };
    const onFinished = () => {
      this.#probeTimer.clear();
      closed.removeEventListener("abort", onClosed);
      const message = "Cannot wait for events: the connection has ended";
      this.#events.close(new NetworkError(message, "closed"));
      this.#datagramsIn.close(new NetworkError(message, "closed"));
    };
    this.#receiveDatagrams(() => this.receiveAsMessage());
    closed.addEventListener("abort", onClosed, { once: true });
    this.finished.then(onFinished, onFinished);
  }

  /** The other side's public key as text. */
  get remoteId(): string {
    return toBase64url(this.remoteKey);
  }

  /** The current path, or the last one. */
  get path(): PeerPath {
    const { path, udp } = this.#current!;
    const rttMs = this.rttMs ?? null;
    // Either end of a path over UDP may have moved to another address.
    return udp === undefined ? { ...path, rttMs } : { ...path, ...addressesOf(udp), rttMs };
  }

  /** How that path was found. */
  get found(): PathReport {
    return this.#current!.report;
  }

  /** How long connecting took, in milliseconds. */
  get elapsedMs(): number {
    return this.#elapsedMs;
  }

  /** Changes of the path, until the connection ends. For one reader; a slow one misses the newest of more than 64. */
  get events(): AsyncIterable<PeerEvent> {
    return eventsOf(this.#events);
  }

  /**
   * Sends a message beside the stream that may be lost, is not repeated, and may arrive in any order; encrypted and
   * authenticated like the stream, and never delivered twice. A path over UDP carries it as it is. Others carry it like a
   * part of the stream, but drop it under pressure.
   *
   * @returns `false` if it was dropped at once: there is no path, or the path cannot keep up
   * @throws {RangeError} if it is longer than {@linkcode PeerConnection.maxDatagramBytes}
   * @throws {NetworkError} if the connection has ended
   */
  // deno-lint-ignore require-await -- failures reject the promise
  async sendDatagram(message: Uint8Array): Promise<boolean> {
    if (message.length > this.maxDatagramBytes) {
      throw new RangeError(
        `Cannot send a datagram of ${message.length} bytes: at most ${this.maxDatagramBytes}`,
      );
    }
    if (this.#datagramsIn.isClosed) {
      throw new NetworkError("Cannot send a datagram: the connection has ended", "closed");
    }
    if (!this.#hasPath) return false;
    const { datagrams } = this.#current!;
    try {
      return datagrams?.send(message) ?? this.sendAsMessage(message);
    } catch (error) {
      if (error instanceof NetworkError) return false; // this path is lost, and another may follow
      throw error;
    }
  }

  /**
   * The longest message for {@linkcode PeerConnection.sendDatagram} now, in bytes. It may change with the path, and is never
   * less than 1163.
   */
  get maxDatagramBytes(): number {
    return Math.max(MIN_DATAGRAM_BYTES, this.#current?.datagrams?.maxBytes ?? 0);
  }

  /** The other side's messages, until the connection ends. For one reader; of more than 64 that wait, the newest are lost. */
  get datagrams(): AsyncIterable<Uint8Array> {
    return eventsOf(this.#datagramsIn);
  }

  /** As {@linkcode Session.unref}. */
  override unref(): void {
    super.unref();
    this.onUnref();
  }

  /** @ignore whether it may move to another path, and needs one */
  get needsPath(): boolean {
    const isOver = this.#datagramsIn.isClosed;
    return this.#timeoutMs > 0 && !isOver && (this.#isStalled || !this.#hasPath);
  }

  /** @ignore whether it may move to another path */
  get mayMove(): boolean {
    return this.#timeoutMs > 0;
  }

  /** @ignore the direct path is worse than another one that is known */
  slow(other: Route): void {
    this.#onSlow?.(other);
  }

  /** @ignore what it runs over, or did last */
  get route(): Route {
    const { isRelayed, transport } = this.found;
    return isRelayed ? "relay" : transport;
  }

  /** @ignore the other side needs another path */
  recalled(): void {
    if (this.#hasPath && !this.#isStalled) this.probe({ hasChanged: true });
    else this.#onStalled(true);
  }

  /** @ignore lets the side that listens ask for another path, by messages over these signaling servers */
  enableRecall(connectionKey: Uint8Array, urls: readonly string[]): void {
    if (this.recall !== undefined) return;
    const rate = new TokenBucket(RECALL_RATE, performance.now());
    this.recall = { ...recallSecrets(connectionKey), urls, rate, isRepeated: false };
  }

  /** @ignore whether there is a path now */
  get hasPath(): boolean {
    return this.#hasPath;
  }

  /** @ignore whether this side has requested it */
  get isControlling(): boolean {
    return this.#isControlling;
  }

  /** @ignore this side's IP address, by which packets to the other side leave; `undefined` if it is not known */
  get localIp(): string | undefined {
    const { ip } = (this.#current?.udp ?? this.#current?.connection)?.local ?? this.local;
    return ip === "0.0.0.0" || ip === "::" ? undefined : ip;
  }

  /** @ignore moves to a path, which is taken over */
  async move(found: FoundPath): Promise<void> {
    const { rttMs } = this;
    if (this.#hasPath && rttMs !== undefined) this.rttsMs[this.route] = rttMs;
    const attached = this.attach(found.connection);
    const { datagrams } = found;
    if (datagrams !== undefined) this.#receiveDatagrams(() => datagrams.receive());
    // The controlling side may write over its first path at once: waiting for the other side costs a round trip.
    if (this.#isControlling && this.#current === undefined) this.#onMoved(found);
    try {
      await attached;
      this.wasHeard = true;
      if (this.#current?.connection !== found.connection) this.#onMoved(found);
    } catch (error) {
      const wasCurrent = this.#hasPath && this.#current?.connection === found.connection;
      if (wasCurrent && error instanceof NetworkError) this.#onPathLost(error, false);
      throw error;
    }
  }

  #onMoved(found: FoundPath): void {
    const { connection, datagrams, udp, ...report } = found;
    const isFirst = this.#current === undefined;
    this.#current = { report, path: describe(found), connection, datagrams, udp };
    this.#hasPath = true;
    this.#isStalled = false;
    this.#probeTimer.clear();
    if (isFirst) this.#elapsedMs = performance.now() - this.#startedAtMs;
    else this.#events.push({ event: "path", path: this.path });
    this.#onPath(found.isRelayed);
  }

  /** Until the path, or the connection, ends. */
  async #receiveDatagrams(next: () => Promise<Uint8Array>): Promise<void> {
    try {
      for (;;) {
        const message = await next();
        if (message.length <= MAX_DATAGRAM_BYTES) this.#datagramsIn.push(message);
      }
    } catch (error) {
      if (!(error instanceof Error)) throw error;
    }
  }

  #onPathLost(error: NetworkError, wasUsed = true): void {
    if (!this.#hasPath) return;
    this.#hasPath = this.#isStalled = false;
    this.#probeTimer.clear();
    this.#events.push({ event: "lost", reason: error.message });
    if (this.#timeoutMs === 0) this.abandon(wasUsed ? error : cutAtOnceError(error));
    else if (this.#closed.aborted) this.#abandonForGood(error);
    else this.#onLost(wasUsed);
  }

  #onPathStalled(isStalled: boolean): void {
    this.#probeTimer.clear();
    if (!this.#hasPath) return;
    this.#isStalled = isStalled;
    this.#probes = 0;
    if (isStalled) this.#probe();
    if (this.#timeoutMs === 0 || this.#closed.aborted) return;
    this.#events.push({ event: isStalled ? "stalled" : "resumed" });
    if (isStalled) this.onStall();
    this.#onStalled(isStalled);
  }

  #probe(): void {
    this.#current?.udp?.probe();
    if (++this.#probes < MAX_PROBES) this.#probeTimer.set(PROBE_AFTER_MS * 2 ** this.#probes);
  }

  #abandonForGood(cause: unknown): void {
    const message = "Cannot resume the connection: its path is lost, and its peer is closed";
    this.abandon(new NetworkError(message, "closed", { cause }));
  }
}

/** For a connection that cannot be resumed, so that the other side cannot say that it does not know it. */
function cutAtOnceError(cause: NetworkError): NetworkError {
  return new NetworkError(cause.message, cause.reason, { cause, remedy: UNHEARD_REMEDY });
}

/** What to do about a connection that the other side cut before it said a word: the first version does. */
export const UNHEARD_REMEDY =
  "Connect again; if that fails as well, update Punchline on the other side";

/** The code of a connection whose ticket is good no more. Those from 0xff00 are this library's, and not applications'. */
export const TICKET_GONE = 0xff01;

/** The same for people. */
export const TICKET_GONE_TEXT = "the ticket is used up, expired or revoked";

/** The open connections of a peer. */
export class OpenConnections {
  /** In the order in which they were opened. */
  readonly all = new Set<PeerConnection>();
  /** Made for the first reader: without one, it would keep connections that have ended. */
  #events: WaitQueue<ConnectionEvent> | undefined;
  #closed: { readonly reason: unknown } | undefined;

  /** Adds a connection, until it has ended. */
  add(connection: PeerConnection): void {
    const remove = (error?: unknown) => {
      this.all.delete(connection);
      this.#events?.push({ event: "ended", connection, error });
    };
    this.all.add(connection);
    this.#events?.push({ event: "opened", connection });
    connection.finished.then(() => remove(), remove);
  }

  /** Connections that come and go from now on. */
  get events(): AsyncIterable<ConnectionEvent> {
    this.#events ??= new WaitQueue(MAX_CONNECTION_EVENTS);
    if (this.#closed !== undefined) this.#events.close(this.#closed.reason);
    return eventsOf(this.#events);
  }

  /** Ends the events. */
  close(reason: unknown): void {
    this.#closed = { reason };
    this.#events?.close(reason);
  }
}

interface CurrentPath {
  readonly report: PathReport;
  readonly path: Omit<PeerPath, "rttMs">;
  readonly connection: FoundPath["connection"];
  readonly datagrams: FoundPath["datagrams"];
  readonly udp: FoundPath["udp"];
}

function describe(path: FoundPath): Omit<PeerPath, "rttMs"> {
  const { kind, method, transport, isRelayed, connection } = path;
  return {
    kind,
    method,
    transport,
    ...addressesOf(connection),
    relayed: isRelayed,
  };
}

function addressesOf({ local, remote }: Pick<FoundPath["connection"], "local" | "remote">) {
  return { local: formatTransportAddress(local), remote: formatTransportAddress(remote) };
}

/** Until the connection ends, or the peer is closed. */
function eventsOf<T>(queue: WaitQueue<T>): AsyncIterable<T> {
  return { [Symbol.asyncIterator]: () => queue.items() };
}

/** What a path over UDP carries at least: 1200 bytes, without the headers of `docs/udp.md`. */
const MIN_DATAGRAM_BYTES = 1163;

/** What no path carries: only a peer that breaks the protocol sends more, so that it is kept. */
const MAX_DATAGRAM_BYTES = 1452;

/** Chosen by us: a burst; a reader that is slower than its peer loses messages anyway. */
const MAX_DATAGRAMS = 64;

/** Chosen by us: what a network that changes causes; a hostile peer causes no more. */
const RECALL_RATE = { burst: 4, perSecond: 0.5 };

/** Chosen by us: at once, then after 100 ms and twice as long each time, until others have found a path. */
const [MAX_PROBES, PROBE_AFTER_MS] = [5, 50];

/** Chosen by us: more than a connection has in a day. */
const MAX_EVENTS = 64;

/** Chosen by us: as many as if all connections that a peer accepts by default came and went. */
const MAX_CONNECTION_EVENTS = 2048;
