/**
 * A connection between two peers: one stream, over whatever path there is at the moment.
 *
 * @module
 */

import { toBase64url } from "../base/bytes.ts";
import { NetworkError } from "../base/errors.ts";
import type { PathKind, PunchMethodName } from "../base/path_kind.ts";
import { WaitQueue } from "../base/wait_queue.ts";
import { formatTransportAddress } from "../net/address.ts";
import type { PunchRole } from "../punch/punch.ts";
import { Session } from "../session/session.ts";
import type { FoundPath, PathReport } from "./paths.ts";

/** How a connection runs at the moment. */
export interface PeerPath {
  /** The kind of path. */
  readonly kind: PathKind;
  /** How it got through the filters of both sides; `null` unless `kind` is `"punch-tcp"`. */
  readonly method: PunchMethodName | null;
  /** The transport protocol. */
  readonly transport: "tcp";
  /** This side's end, `192.0.2.1:4000`. */
  readonly local: string;
  /** The other side's end. */
  readonly remote: string;
  /** Whether a relay carries it. */
  readonly relayed: boolean;
  /** A round trip; `null` while none was measured. */
  readonly rttMs: number | null;
}

/** What becomes of a connection. */
export type PeerEvent =
  /** It runs over another path now. */
  | { readonly event: "path"; readonly path: PeerPath }
  /** Its path is gone. Another one is looked for, if the connection is one that is reconnected. */
  | { readonly event: "lost"; readonly reason: string };

/** What a connection is made with. */
export interface PeerConnectionOptions {
  readonly role: PunchRole;
  readonly remoteKey: Uint8Array;
  readonly protocol: string;
  /** How long it waits for another path once it has none, */
  readonly timeoutMs: number;
  /** unless this is aborted: then nobody looks for one any more. */
  readonly closed: AbortSignal;
  /** Called when it has none. */
  readonly onLost: () => void;
}

/**
 * A connection to a peer, encrypted and authenticated: a `Deno.Conn`. It moves from a relay to a direct path, and
 * from a path that is gone to another one, without losing a byte.
 */
export class PeerConnection extends Session {
  /** The other side's public key, which it has proved to have. */
  readonly remoteKey: Uint8Array;
  /** What both sides speak, as the initiator has named it; `""` if it has not. */
  readonly protocol: string;
  readonly #startedAtMs = performance.now();
  readonly #events = new WaitQueue<PeerEvent>(MAX_EVENTS);
  readonly #first = Promise.withResolvers<void>();
  readonly #isControlling: boolean;
  readonly #timeoutMs: number;
  readonly #closed: AbortSignal;
  readonly #onLost: () => void;
  #elapsedMs = 0;
  #hasPath = false;
  #found: Found | undefined;

  /** @ignore made by {@linkcode Peer} */
  constructor(options: PeerConnectionOptions) {
    const { role, remoteKey, protocol, timeoutMs, closed, onLost } = options;
    super({
      role,
      timeoutMs,
      onEvent: (event) => {
        if (event.event === "lost") this.#onPathLost(event.error);
      },
    });
    this.#timeoutMs = timeoutMs;
    this.#closed = closed;
    this.#onLost = onLost;
    this.#isControlling = role === "controlling";
    this.remoteKey = remoteKey;
    this.protocol = protocol;
    this.#first.promise.catch(() => {}); // whoever waits for it is told
    const over = new NetworkError("Cannot wait for events: the connection is over", "closed");
    const onClosed = () => {
      if (this.#found !== undefined && !this.#hasPath) this.#abandonForGood(closed.reason);
    };
    closed.addEventListener("abort", onClosed, { once: true });
    this.finished.catch((error) => this.#first.reject(error)).finally(() => {
      this.#events.close(over);
      closed.removeEventListener("abort", onClosed);
    });
  }

  /** The other side's public key as text. */
  get remoteId(): string {
    return toBase64url(this.remoteKey);
  }

  /** How the connection runs now, or ran last. */
  get path(): PeerPath {
    return { ...this.#found!.path, rttMs: this.rttMs ?? null };
  }

  /** How the path came about that it runs over now. */
  get found(): PathReport {
    return this.#found!.how;
  }

  /** From the call until it was there. */
  get elapsedMs(): number {
    return this.#elapsedMs;
  }

  /** What becomes of the connection, until it is over; for one reader. Who reads too late misses the newest. */
  get events(): AsyncIterable<PeerEvent> {
    return eventsOf(this.#events);
  }

  /** @ignore resolves once it runs over a path */
  get connected(): Promise<void> {
    return this.#first.promise;
  }

  /** @ignore whether it runs over a path now */
  get hasPath(): boolean {
    return this.#hasPath;
  }

  /** @ignore moves to this path, which is taken over */
  async move(found: FoundPath): Promise<void> {
    const attached = this.attach(found.connection);
    // The controlling side may speak on its first path at once: to wait for an answer would cost a round trip.
    if (this.#isControlling && this.#found === undefined) this.#onMoved(found);
    try {
      await attached;
      if (this.#found?.connection !== found.connection) this.#onMoved(found);
    } catch (error) {
      const wasTaken = this.#hasPath && this.#found?.connection === found.connection;
      if (wasTaken && error instanceof NetworkError) this.#onPathLost(error);
      throw error;
    }
  }

  #onPathLost(error: NetworkError): void {
    if (!this.#hasPath) return;
    this.#hasPath = false;
    this.#events.push({ event: "lost", reason: error.message });
    if (this.#timeoutMs === 0) this.abandon(error);
    else if (this.#closed.aborted) this.#abandonForGood(error);
    else this.#onLost();
  }

  #abandonForGood(cause: unknown): void {
    const message = "Cannot go on over another path: the peer is closed, and looks for none";
    this.abandon(new NetworkError(message, "closed", { cause }));
  }

  #onMoved(found: FoundPath): void {
    const { connection, ...how } = found;
    const isFirst = this.#found === undefined;
    this.#found = { how, path: describe(found), connection };
    this.#hasPath = true;
    if (!isFirst) return void this.#events.push({ event: "path", path: this.path });
    this.#elapsedMs = performance.now() - this.#startedAtMs;
    this.#first.resolve();
  }
}

interface Found {
  readonly how: PathReport;
  readonly path: Omit<PeerPath, "rttMs">;
  readonly connection: FoundPath["connection"];
}

function describe(path: FoundPath): Omit<PeerPath, "rttMs"> {
  const { kind, method, transport, isRelayed, connection } = path;
  return {
    kind,
    method,
    transport,
    local: formatTransportAddress(connection.local),
    remote: formatTransportAddress(connection.remote),
    relayed: isRelayed,
  };
}

async function* eventsOf(queue: WaitQueue<PeerEvent>): AsyncGenerator<PeerEvent> {
  try {
    for (;;) yield await queue.next();
  } catch { /* over */ }
}

/** Ours: more than a connection has in a day. */
const MAX_EVENTS = 64;
