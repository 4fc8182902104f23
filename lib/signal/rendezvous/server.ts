/**
 * A rendezvous server over WebSocket: rooms of two members, each of whom receives what the other sends; topics, whose
 * subscribers receive what anyone publishes; and a relay for two connections. See docs/rendezvous.md.
 *
 * @module
 */

import { NetworkError } from "../../base/errors.ts";
import type { Logger } from "../../base/logger.ts";
import { acceptUntilClosed } from "../../net/accept.ts";
import { formatTransportAddress, type TransportAddress } from "../../net/address.ts";
import { type IpPrefix, parseIpPrefix } from "../../net/ip_prefix.ts";
import { sortConnection, type SortedConnection } from "../../net/demultiplexer.ts";
import type { Network, TcpConnection, TcpListener, TlsAcceptor } from "../../net/network.ts";
import { shortageLogger } from "../../net/shortage.ts";
import { ConnectionCounts, type ConnectionLimits, type SourceCounts } from "../../net/source.ts";
import { AccessKey } from "./access_key.ts";
import type { RendezvousBus } from "./bus.ts";
import { FairTurns, type TurnLimits } from "./fair_turns.ts";
import { isTrustedProxy } from "./forwarded.ts";
import { RELAY_PATH, TOPICS_PATH } from "./message.ts";
import { type RelayClient, type RelayLimits, type RelayPlaces, RendezvousRelay } from "./relay.ts";
import { RelayNodes } from "./relay_nodes.ts";
import { RemoteRooms } from "./remote_rooms.ts";
import { RendezvousRooms, type RoomLimits, RoomMember, type RoomPlace } from "./rooms.ts";
import {
  type ClientRequest,
  type ClientSocket,
  RendezvousSession,
  type RequestHandler,
  type SessionLimits,
  type StreamHandler,
} from "./session.ts";
import { type TopicLimits, type TopicPlace, TopicSubscriber } from "./topics.ts";

/** What a server spends on its clients; see {@linkcode DEFAULT_RENDEZVOUS_LIMITS}. */
export interface RendezvousLimits
  extends ConnectionLimits, RoomLimits, TopicLimits, RelayLimits, SessionLimits, TurnLimits {}

/** Where and how to serve. */
export interface RendezvousOptions {
  /** The sockets to use. */
  readonly network: Network;
  /** The address to listen on; with port 0 the system chooses the port. */
  readonly local: TransportAddress;
  /** Limits that differ from {@linkcode DEFAULT_RENDEZVOUS_LIMITS}. */
  readonly limits?: Partial<RendezvousLimits>;
  /**
   * Proxies that are trusted to name the client's address in `X-Forwarded-For`, each an IP address or a prefix such as
   * `10.0.0.0/8`. Default: none.
   */
  readonly trustedProxies?: readonly string[];
  /**
   * Makes the server private: clients have to use the URL with this path, `ws://HOST:PORT/KEY`. At least 16 letters,
   * digits and `-_`. Anyone with a ticket that names the URL knows it. Default: the server is open to all.
   */
  readonly accessKey?: string;
  /**
   * Accepts TLS on the port. Requests outside of TLS are then refused, but for health checks and those of trusted
   * proxies. Default: the port speaks plain HTTP, and a proxy in front of it has the certificate.
   */
  readonly tls?: TlsAcceptor;
  /** Serves the clients on the port that speak STUN, each until it ends. Default: they get an HTTP error. */
  readonly serveStun?: (connection: TcpConnection) => Promise<void>;
  /** Leads to the other nodes, if the rendezvous has several. Default: it has one. */
  readonly bus?: RendezvousBus;
  /**
   * Where clients reach this node alone, `HOST` or `HOST:PORT`: on the host of the rendezvous, or a name below its. With a
   * bus, pairs of the relay can then meet that came to different nodes. Default: they do not.
   */
  readonly nodeHost?: string;
  /** Where the relay's pairs meet, if other threads serve the same port. Default: here. */
  readonly relayPlaces?: RelayPlaces;
  /** What each source has in all threads, if there are several. Default: counted here. */
  readonly sourceCounts?: SourceCounts;
  /** Whether other servers of this program listen on the same port (SO_REUSEPORT). Default: `false`. */
  readonly sharesPort?: boolean;
  /** Receives non-fatal diagnostics, such as a shortage of file descriptors. */
  readonly logger?: Logger;
}

/** A server that runs until it is disposed. */
export interface RendezvousServer extends AsyncDisposable {
  /** The address that it listens on. */
  readonly local: TransportAddress;
  /** The URL for clients, such as `ws://192.0.2.1:3480`; with TLS, it has the name in the certificate. */
  readonly url: string;
  /** How many connections are open. */
  readonly connections: number;
  /** What the server has done so far; a live view. */
  readonly counters: Readonly<RendezvousCounters>;
  /** How many rooms have a member. */
  readonly rooms: number;
  /** How many topics have a subscriber. */
  readonly topics: number;
  /** How many pairs of connections its relay joins. */
  readonly relays: number;
  /** How many bytes its relay has passed on. */
  readonly relayedBytes: number;
  /** Resolves once the server has ended; rejects if its listener failed. */
  readonly finished: Promise<void>;
  /**
   * Starts to end: accepts nothing more, tells the clients of rooms and topics to go, and waits until the relay's pairs
   * have ended. Dispose the server afterwards, which tells those that are left.
   *
   * @param timeoutMs how long to wait for the pairs
   */
  drain(timeoutMs: number): Promise<void>;
  /** Serves a client of the relay that another thread has accepted. It has been counted there. */
  adopt(connection: TcpConnection, client: RelayClient): void;
}

/** Events since the server started. */
export interface RendezvousCounters {
  /** Accepted connections. */
  connections: number;
  /** TLS handshakes that were completed. */
  tlsConnections: number;
  /** Clients that were upgraded: of rooms, topics and the relay. */
  upgrades: number;
  /**
   * Refusals by reason: `allowance` (the source has cost too much), `connections` (too many, in all or of one source),
   * `tls` (a handshake failed or took too long), `silent` (ended for another one, having asked for nothing yet), an HTTP status such as `404`, and of the relay `token-used`,
   * `source-full` and `relay-full`.
   */
  readonly refusals: { [reason: string]: number };
}

/**
 * Starts a rendezvous server.
 *
 * @throws {TypeError} if a trusted proxy is neither an IP address nor a prefix, or the access key or `nodeHost` is not one
 * @throws {NetworkError} as {@linkcode Network.listenTcp}
 *
 * @example
 * ```ts
 * import { serveRendezvous } from "./server.ts";
 * import { systemNetwork as network } from "../../net/system.ts";
 *
 * await using server = await serveRendezvous({ network, local: { ip: "127.0.0.1", port: 0 } });
 * console.log(server.url);
 * ```
 */
export async function serveRendezvous(options: RendezvousOptions): Promise<RendezvousServer> {
  const { network, local, logger } = options;
  const proxies = (options.trustedProxies ?? []).map(parseIpPrefix);
  const nodes = options.bus && options.nodeHost !== undefined
    ? new RelayNodes(options.bus, options.nodeHost)
    : undefined;
  const onShortage = logger && shortageLogger(local, logger);
  const accessKey = options.accessKey === undefined ? undefined : new AccessKey(options.accessKey);
  const limits = { ...DEFAULT_RENDEZVOUS_LIMITS, ...options.limits };
  const turns = new FairTurns(limits);
  const counters = { connections: 0, tlsConnections: 0, upgrades: 0, refusals: {} };
  const admits = (ip: string) => {
    const isAdmitted = isTrustedProxy(ip, proxies) || turns.admits(ip);
    if (!isAdmitted) countRefusal(counters, "allowance");
    return isAdmitted;
  };
  const listener = await network.listenTcp(local, {
    onShortage,
    admits,
    reusePort: options.sharesPort,
  });
  const { tls, serveStun, bus, relayPlaces, sourceCounts } = options;
  return new Server(listener, {
    proxies,
    limits,
    turns,
    accessKey,
    counters,
    tls,
    serveStun,
    bus,
    relayPlaces,
    sourceCounts,
    nodes,
    logger,
  });
}

class Server implements RendezvousServer {
  readonly local: TransportAddress;
  readonly finished: Promise<void>;
  readonly #listener: TcpListener;
  readonly #proxies: readonly IpPrefix[];
  readonly #limits: RendezvousLimits;
  readonly #accessKey: AccessKey | undefined;
  readonly #counts: ConnectionCounts;
  readonly #turns: FairTurns;
  readonly #rooms: RoomPlace;
  readonly #topics: TopicPlace;
  readonly #relay: RendezvousRelay;
  readonly #sessions = new Map<RendezvousSession, Promise<void>>();
  /** Those that have not asked for anything yet, the oldest first, and what ends the counting of each. */
  readonly #pending = new Map<RendezvousSession, () => void>();
  readonly #tls: TlsAcceptor | undefined;
  readonly #logger: Logger | undefined;
  readonly #serveStun: RendezvousOptions["serveStun"];
  readonly counters: RendezvousCounters;

  constructor(listener: TcpListener, parts: ServerParts) {
    const { proxies, limits, turns, accessKey } = parts;
    this.#tls = parts.tls;
    this.#serveStun = parts.serveStun;
    this.counters = parts.counters;
    this.#logger = parts.logger;
    this.local = listener.local;
    this.#listener = listener;
    this.#proxies = proxies;
    this.#limits = limits;
    this.#accessKey = accessKey;
    this.#counts = new ConnectionCounts(limits, parts.sourceCounts);
    this.#turns = turns;
    const { bus } = parts;
    this.#rooms = { rooms: new RendezvousRooms(limits), remote: bus && new RemoteRooms(bus) };
    this.#topics = { topics: TopicSubscriber.topics(limits, bus), bus };
    const onRefused = (why: string, from: string) => this.#countRefusal(why, from);
    const { relayPlaces: places, sourceCounts: counts, nodes } = parts;
    this.#relay = new RendezvousRelay(limits, onRefused, { places, nodes, counts });
    this.finished = this.#serve();
  }

  get url(): string {
    const key = this.#accessKey === undefined ? "" : `/${this.#accessKey.text}`;
    if (this.#tls === undefined) return `ws://${formatTransportAddress(this.local)}${key}`;
    const { ip, port } = this.local;
    const host = this.#tls.hostname ?? ip;
    return `wss://${host.includes(":") ? `[${host}]` : host}:${port}${key}`;
  }

  get connections(): number {
    return this.#counts.total;
  }

  get rooms(): number {
    return this.#rooms.rooms.size;
  }

  get topics(): number {
    return this.#topics.topics.size;
  }

  get relays(): number {
    return this.#relay.pairs;
  }

  get relayedBytes(): number {
    return this.#relay.bytes;
  }

  async drain(timeoutMs: number): Promise<void> {
    this.#listener.close();
    for (const session of this.#sessions.keys()) if (!session.isStream) session.end();
    const { promise: tooLate, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, timeoutMs);
    await Promise.race([Promise.all(this.#sessions.values()), tooLate]);
    clearTimeout(timer);
  }

  adopt(connection: TcpConnection, client: RelayClient): void {
    const release = this.#counts.admitUnknown();
    if (release === undefined) {
      this.#countRefusal("connections", client.ip);
      return connection.reset();
    }
    const session = new RendezvousSession(connection, {
      handleRequest: () => 404,
      onRefused: () => {},
      ...{ proxies: this.#proxies, turns: this.#turns, limits: this.#limits },
    });
    const handler = this.#relayHandler((socket) => this.#relay.join(socket, client));
    const running = session.runUpgraded(handler).finally(() => {
      this.#sessions.delete(session);
      release();
    });
    this.#sessions.set(session, running);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    this.#turns.close();
    for (const session of this.#sessions.keys()) session.end();
    this.#relay.close();
    await Promise.all(this.#sessions.values());
    await this.finished;
  }

  async #serve(): Promise<void> {
    await acceptUntilClosed(this.#listener, (connection) => this.#accept(connection));
  }

  #accept(connection: TcpConnection): void {
    const { ip } = connection.remote;
    const isProxied = isTrustedProxy(ip, this.#proxies);
    if (!isProxied && !this.#turns.charge(ip, CONNECTION_COST)) {
      this.#countRefusal("allowance", ip);
      return connection.reset();
    }
    if (this.#counts.isFullOfOthers(ip)) this.#makeRoom();
    const release = isProxied ? this.#counts.admitUnknown() : this.#counts.admit(ip);
    if (release === undefined) {
      this.#countRefusal("connections", ip);
      return connection.reset();
    }
    this.counters.connections++;
    const releases = [release];
    const handleRequest = (request: ClientRequest, client: ClientSocket) => {
      if (isProxied) {
        const releaseSource = this.#counts.attribute(request.ip);
        if (releaseSource === undefined) return TOO_MANY_REQUESTS;
        releases.push(releaseSource);
        if (!this.#turns.charge(request.ip, CONNECTION_COST)) return TOO_MANY_REQUESTS;
      }
      this.#pending.delete(session);
      const handler = this.#handlerFor(request, client);
      if (typeof handler !== "number") this.counters.upgrades++;
      return handler;
    };
    const sort = async (raw: TcpConnection) => {
      const sorted = await this.#sort(raw, isProxied);
      if (sorted?.protocol === "stun") this.#pending.delete(session);
      return sorted;
    };
    const limits = this.#limits;
    const isSorted = this.#tls !== undefined || this.#serveStun !== undefined;
    const session = new RendezvousSession(connection, {
      handleRequest,
      sort: isSorted ? sort : undefined,
      serveStun: this.#serveStun,
      needsTls: this.#tls !== undefined && !isProxied,
      onRefused: (status) => this.#countRefusal(`${status}`, ip),
      proxies: this.#proxies,
      turns: this.#turns,
      limits,
    });
    const releaseAll = () => {
      this.#pending.delete(session);
      for (const each of releases.splice(0)) each();
    };
    this.#pending.set(session, releaseAll);
    const running = this.#start(session, ip).finally(() => {
      this.#sessions.delete(session);
      releaseAll();
    });
    this.#sessions.set(session, running);
  }

  /** Ends the connection that has asked for nothing for longest: many of them may not keep others out. */
  #makeRoom(): void {
    for (const [session, releaseAll] of this.#pending) {
      countRefusal(this.counters, "silent");
      session.end();
      return releaseAll();
    }
  }

  #countRefusal(reason: string, ip: string): void {
    countRefusal(this.counters, reason);
    this.#logger?.debug(`Refused a connection from ${ip}: ${reason}`);
  }

  #handlerFor(request: ClientRequest, client: ClientSocket): ReturnType<RequestHandler> {
    const path = this.#accessKey === undefined
      ? request.target
      : this.#accessKey.strip(request.target);
    if (path === undefined) return 404;
    if (path === TOPICS_PATH) return new TopicSubscriber(client, request.ip, this.#topics);
    if (path === RELAY_PATH && this.#limits.maxRelays > 0) return this.#relayFor(request);
    return RoomMember.join(path, client, this.#rooms);
  }

  /** A handshake waits for its turn, and costs its source more than a plain connection. */
  async #sort(
    connection: TcpConnection,
    isProxied: boolean,
  ): Promise<SortedConnection | undefined> {
    const { upgradeMs } = this.#limits;
    const { ip } = connection.remote;
    const cost = isProxied ? 0 : TLS_COST;
    try {
      const sorted = await sortConnection(connection, {
        tls: this.#tls,
        admitTls: () => this.#turns.run(ip, () => cost, upgradeMs),
        handshakeMs: upgradeMs * HANDSHAKE_SHARE,
      });
      if (sorted?.isSecure) this.counters.tlsConnections++;
      return sorted;
    } catch (error) {
      const isRefused = error instanceof NetworkError && /^tls$|^timed-out$/.test(error.reason);
      if (isRefused) this.#countRefusal("tls", ip);
      throw error;
    }
  }

  #relayFor({ ip }: ClientRequest): StreamHandler {
    return this.#relayHandler((socket) => this.#relay.serve(socket, ip));
  }

  #relayHandler(serve: StreamHandler["serve"]): StreamHandler {
    return {
      maxMessageBytes: MAX_CONTROL_BYTES,
      maxQueuedBytes: this.#limits.maxRelayQueuedBytes + FRAME_BYTES,
      serve,
    };
  }

  /** A client's first bytes wait for their turn, as its messages do. */
  async #start(session: RendezvousSession, ip: string): Promise<void> {
    if (await this.#turns.run(ip, () => 0, this.#limits.upgradeMs)) await session.run();
    else session.end();
  }
}

/** What a server is made of. */
interface ServerParts {
  readonly proxies: readonly IpPrefix[];
  readonly limits: RendezvousLimits;
  readonly turns: FairTurns;
  readonly accessKey: AccessKey | undefined;
  readonly counters: RendezvousCounters;
  readonly logger: Logger | undefined;
  readonly tls: TlsAcceptor | undefined;
  readonly serveStun: RendezvousOptions["serveStun"];
  readonly bus: RendezvousBus | undefined;
  readonly relayPlaces: RelayPlaces | undefined;
  readonly sourceCounts: SourceCounts | undefined;
  readonly nodes: RelayNodes | undefined;
}

function countRefusal({ refusals }: RendezvousCounters, reason: string): void {
  refusals[reason] = (refusals[reason] ?? 0) + 1;
}

/** Chosen by us: to accept a connection and upgrade it takes as long as so many messages. */
const CONNECTION_COST = 16;

/** Chosen by us: a handshake takes as long as so many messages, 0.5 ms with a certificate for P-256. */
const TLS_COST = 8;

/** Chosen by us: so that a handshake that hangs is counted before the connection is closed. */
const HANDSHAKE_SHARE = 0.8;

/** What a client of the relay may send before its token, which is shorter: control frames (RFC 6455 §5.5). */
const MAX_CONTROL_BYTES = 125;

/** The longest frame without its payload, and a close frame. */
const FRAME_BYTES = 256;

/** RFC 6585 §4. */
const TOO_MANY_REQUESTS = 429;

/**
 * Chosen by us, for a small machine. A connection takes some 20 to 40 KiB with everything that the platform keeps for it:
 * 80 MiB for all of them, and three times that at worst, when no client reads.
 */
export const DEFAULT_RENDEZVOUS_LIMITS: RendezvousLimits = {
  maxConnections: 2048,
  reservedShare: 0.25,
  maxConnectionsPerSource: 64, // both peers may be behind one NAT, and so may a whole company
  maxRooms: 2048,
  messageBurst: 64, // a punch takes about ten
  messagesPerSecond: 8,
  maxTopics: 131_072, // maxConnections x maxTopicsPerMember, so that a few sources cannot lock others out; 31 MiB for all
  maxTopicsPerMember: 64, // three for a peer that listens, and one for each peer that it is about to connect to
  maxMembersPerTopic: 16, // each message is sent so often
  maxMembersPerTopicAndSource: 4, // a peer that runs two or three times; so one holder of its ticket cannot fill a topic
  topicBurst: 1024,
  topicMessagesPerSecond: 256, // for a peer that 50 others connect to in a second
  sourceBurst: 2048, // a hundred peers behind one NAT that come back after an outage
  sourcePerSecond: 256,
  maxRelays: 64,
  maxRelaysPerSource: 4,
  maxRelayHalves: 1024, // most of a half-open flood, so that it takes seconds to oust an honest half
  relayBytesPerSecond: 2_500_000, // 20 Mbit/s
  allRelaysBytesPerSecond: 12_500_000, // 100 Mbit/s, the uplink of a small server
  relayHalfMs: 10_000, // both sides dial at about the same time
  relayIdleMs: 60 * 60 * 1000,
  maxRelayQueuedBytes: 256 * 1024, // 32 MiB for all pairs at worst
  upgradeMs: 5000, // two round trips on any path, with a lost SYN
  pingMs: 25_000, // below the 30 s after which some NATs forget an idle connection
  maxBehindMs: 10_000, // a client that waits longer for an answer drops the server
  maxLifetimeMs: 12 * 60 * 60 * 1000,
  maxQueuedBytes: 32 * 1024, // seven of the longest messages
};
