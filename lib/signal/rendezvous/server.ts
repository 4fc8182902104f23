/**
 * A rendezvous server over WebSocket: rooms of two, in which each gets what the other sends, and topics, which carry
 * what anybody says to all who listen. See docs/rendezvous.md.
 *
 * @module
 */

import { NetworkError } from "../../base/errors.ts";
import { formatTransportAddress, type TransportAddress } from "../../net/address.ts";
import type { Network, TcpConnection, TcpListener } from "../../net/network.ts";
import { RendezvousRooms, type RoomLimits, RoomMember } from "./rooms.ts";
import { type ClientSocket, RendezvousSession, type SessionLimits } from "./session.ts";
import { isTopicsPath, RendezvousTopics, type TopicLimits, TopicSubscriber } from "./topics.ts";

/** What a server spends on its clients. */
export interface RendezvousLimits extends RoomLimits, TopicLimits, SessionLimits {
  /** Open connections; further ones are reset. */
  readonly maxConnections: number;
  /** Open connections of one source, an IPv4 address or an IPv6 /64; further ones are reset. */
  readonly maxConnectionsPerSource: number;
}

/** How to serve. */
export interface RendezvousOptions {
  /** Whose sockets to use. */
  readonly network: Network;
  /** Where to listen; port 0 for the system's choice. */
  readonly local: TransportAddress;
  /** Other limits than {@linkcode DEFAULT_RENDEZVOUS_LIMITS}. */
  readonly limits?: Partial<RendezvousLimits>;
}

/** A server that runs until it is disposed. */
export interface RendezvousServer extends AsyncDisposable {
  /** Where it listens. */
  readonly local: TransportAddress;
  /** What clients take, such as `ws://192.0.2.1:3480`; a room's name is its path. */
  readonly url: string;
  /** How many rooms have somebody in them. */
  readonly rooms: number;
  /** How many topics have somebody who listens. */
  readonly topics: number;
  /** Settles when the server has ended: rejects if its listener failed. */
  readonly finished: Promise<void>;
}

/**
 * Starts a rendezvous server.
 *
 * @throws {NetworkError} as {@linkcode Network.listenTcp}
 */
export async function serveRendezvous(options: RendezvousOptions): Promise<RendezvousServer> {
  const listener = await options.network.listenTcp(options.local);
  return new Server(listener, { ...DEFAULT_RENDEZVOUS_LIMITS, ...options.limits });
}

/**
 * Ours, for a small machine. A connection takes some 45 KiB with all that the platform keeps of it, 90 MiB when all
 * are there, and at worst, when nobody reads, three times that.
 */
export const DEFAULT_RENDEZVOUS_LIMITS: RendezvousLimits = {
  maxConnections: 2048,
  maxConnectionsPerSource: 64, // both peers may be behind one NAT, and so may a whole company
  maxRooms: 2048,
  messageBurst: 64, // a punch takes some ten
  messagesPerSecond: 8,
  maxTopics: 131_072, // of all connections, so that a few sources keep nobody out; 31 MiB when all are there
  maxTopicsPerMember: 64, // three for a peer that listens, and one for each that it is about to connect to
  maxMembersPerTopic: 16, // whoever says something has it sent so often
  maxMembersPerTopicAndSource: 4, // a peer that runs twice or three times; so one who has its ticket fills no topic
  topicBurst: 1024,
  topicMessagesPerSecond: 256, // of a peer to which 50 connect in a second
  upgradeMs: 5000, // two round trips of any path, with a SYN lost
  pingMs: 25_000, // below the 30 s after which some NATs forget an idle connection
  maxLifetimeMs: 12 * 60 * 60 * 1000,
  maxQueuedBytes: 32 * 1024, // seven of the longest messages
};

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
      const session = this.#meet(connection);
      if (this.#admit(session)) this.#converse(session);
      else connection.reset();
    }
  }

  #meet(connection: TcpConnection): RendezvousSession {
    const receive = (path: string, client: ClientSocket) =>
      isTopicsPath(path)
        ? new TopicSubscriber(client, this.#topics)
        : RoomMember.receive(path, client, this.#rooms);
    return new RendezvousSession(connection, receive, this.#limits);
  }

  #converse(session: RendezvousSession): void {
    const conversation = session.run().finally(() => {
      this.#sessions.delete(session);
      this.#release(session);
    });
    this.#sessions.set(session, conversation);
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
