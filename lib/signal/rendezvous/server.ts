/**
 * A rendezvous server over WebSocket: rooms of two members, each of whom receives what the other sends, and topics,
 * whose subscribers receive what anyone publishes. See docs/rendezvous.md.
 *
 * @module
 */

import { NetworkError } from "../../base/errors.ts";
import { formatTransportAddress, type TransportAddress } from "../../net/address.ts";
import type { Network, TcpConnection, TcpListener } from "../../net/network.ts";
import { TOPICS_PATH } from "./message.ts";
import { RendezvousRooms, type RoomLimits, RoomMember } from "./rooms.ts";
import { type ClientSocket, RendezvousSession, type SessionLimits } from "./session.ts";
import { RendezvousTopics, type TopicLimits, TopicSubscriber } from "./topics.ts";

/** What a server spends on its clients; see {@linkcode DEFAULT_RENDEZVOUS_LIMITS}. */
export interface RendezvousLimits extends RoomLimits, TopicLimits, SessionLimits {
  /** Open connections; more are reset. */
  readonly maxConnections: number;
  /** Open connections of one source, an IPv4 address or an IPv6 /64; more are reset. */
  readonly maxConnectionsPerSource: number;
}

/** Where and how to serve. */
export interface RendezvousOptions {
  /** The sockets to use. */
  readonly network: Network;
  /** The address to listen on; with port 0 the system chooses the port. */
  readonly local: TransportAddress;
  /** Limits that differ from {@linkcode DEFAULT_RENDEZVOUS_LIMITS}. */
  readonly limits?: Partial<RendezvousLimits>;
}

/** A server that runs until it is disposed. */
export interface RendezvousServer extends AsyncDisposable {
  /** The address that it listens on. */
  readonly local: TransportAddress;
  /** The URL for clients, such as `ws://192.0.2.1:3480`. */
  readonly url: string;
  /** How many rooms have a member. */
  readonly rooms: number;
  /** How many topics have a subscriber. */
  readonly topics: number;
  /** Resolves once the server has ended; rejects if its listener failed. */
  readonly finished: Promise<void>;
}

/**
 * Starts a rendezvous server.
 *
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
  const listener = await options.network.listenTcp(options.local);
  return new Server(listener, { ...DEFAULT_RENDEZVOUS_LIMITS, ...options.limits });
}

class Server implements RendezvousServer {
  readonly local: TransportAddress;
  readonly finished: Promise<void>;
  readonly #listener: TcpListener;
  readonly #limits: RendezvousLimits;
  readonly #rooms: RendezvousRooms<RoomMember>;
  readonly #topics: RendezvousTopics<TopicSubscriber>;
  readonly #sessions = new Map<RendezvousSession, Promise<void>>();
  readonly #perSource = new Map<string, number>();

  constructor(listener: TcpListener, limits: RendezvousLimits) {
    this.local = listener.local;
    this.#listener = listener;
    this.#limits = limits;
    this.#rooms = new RendezvousRooms(limits);
    this.#topics = new RendezvousTopics(limits);
    this.finished = this.#serve();
  }

  get url(): string {
    return `ws://${formatTransportAddress(this.local)}`;
  }

  get rooms(): number {
    return this.#rooms.size;
  }

  get topics(): number {
    return this.#topics.size;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    for (const session of this.#sessions.keys()) session.end();
    await Promise.all(this.#sessions.values());
    await this.finished;
  }

  async #serve(): Promise<void> {
    while (true) {
      let connection: TcpConnection;
      try {
        connection = await this.#listener.accept();
      } catch (error) {
        if (error instanceof NetworkError && error.reason === "closed") return;
        throw error;
      }
      const session = this.#newSession(connection);
      if (this.#admit(session)) this.#run(session);
      else connection.reset();
    }
  }

  #newSession(connection: TcpConnection): RendezvousSession {
    const handleRequest = (path: string, client: ClientSocket) =>
      path === TOPICS_PATH
        ? new TopicSubscriber(client, this.#topics)
        : RoomMember.join(path, client, this.#rooms);
    return new RendezvousSession(connection, handleRequest, this.#limits);
  }

  #run(session: RendezvousSession): void {
    const running = session.run().finally(() => {
      this.#sessions.delete(session);
      this.#release(session);
    });
    this.#sessions.set(session, running);
  }

  #admit({ source }: RendezvousSession): boolean {
    const fromSource = this.#perSource.get(source) ?? 0;
    if (this.#sessions.size >= this.#limits.maxConnections) return false;
    if (fromSource >= this.#limits.maxConnectionsPerSource) return false;
    this.#perSource.set(source, fromSource + 1);
    return true;
  }

  #release({ source }: RendezvousSession): void {
    const left = this.#perSource.get(source)! - 1;
    if (left === 0) this.#perSource.delete(source);
    else this.#perSource.set(source, left);
  }
}

/**
 * Chosen by us, for a small machine. A connection takes some 45 KiB with everything that the platform keeps for it:
 * 90 MiB for all of them, and three times that at worst, when no client reads.
 */
export const DEFAULT_RENDEZVOUS_LIMITS: RendezvousLimits = {
  maxConnections: 2048,
  maxConnectionsPerSource: 64, // both peers may be behind one NAT, and so may a whole company
  maxRooms: 2048,
  messageBurst: 64, // a punch takes about ten
  messagesPerSecond: 8,
  maxTopics: 131_072, // maxConnections x maxTopicsPerMember, so that a few sources lock nobody out; 31 MiB for all
  maxTopicsPerMember: 64, // three for a peer that listens, and one for each peer that it is about to connect to
  maxMembersPerTopic: 16, // each message is sent so often
  maxMembersPerTopicAndSource: 4, // a peer that runs two or three times; so one holder of its ticket cannot fill a topic
  topicBurst: 1024,
  topicMessagesPerSecond: 256, // for a peer that 50 others connect to in a second
  upgradeMs: 5000, // two round trips on any path, with a lost SYN
  pingMs: 25_000, // below the 30 s after which some NATs forget an idle connection
  maxLifetimeMs: 12 * 60 * 60 * 1000,
  maxQueuedBytes: 32 * 1024, // seven of the longest messages
};
