/**
 * Who listens to which topic, and how much each may say: the other judgement of a rendezvous server.
 *
 * @module
 */

import { MalformedMessageError } from "../../base/errors.ts";
import { TokenBucket } from "../../base/rate_limiter.ts";
import { MAX_SIGNAL_BYTES } from "../channel.ts";
import type { WebSocketMessage } from "../websocket/connection.ts";
import {
  decodeTopicMessage,
  encodeTopicMessage,
  TOPIC_HEADER_BYTES,
  type TopicMessage,
} from "./message.ts";
import type { ClientSocket, MessageHandler } from "./session.ts";

/** What members may do; see {@linkcode DEFAULT_RENDEZVOUS_LIMITS}. */
export interface TopicLimits {
  /** Topics with somebody who listens. */
  readonly maxTopics: number;
  /** Topics that one member listens to. */
  readonly maxTopicsPerMember: number;
  /** Members that listen to one topic: what is said is sent so often. */
  readonly maxMembersPerTopic: number;
  /** Those of them that come from one source, an IPv4 address or an IPv6 /64. */
  readonly maxMembersPerTopicAndSource: number;
  /** Messages of one member at once. */
  readonly topicBurst: number;
  /** Messages of one member that come back a second. */
  readonly topicMessagesPerSecond: number;
}

/** Topics. One is there while somebody listens, and keeps nothing. */
export class RendezvousTopics<M> {
  readonly #limits: TopicLimits;
  readonly #topics = new Map<string, Set<M>>();
  readonly #members = new Map<M, Member>();

  constructor(limits: TopicLimits) {
    this.#limits = limits;
  }

  /** How many topics have somebody who listens. */
  get size(): number {
    return this.#topics.size;
  }

  /** Takes somebody in, who listens to nothing yet. */
  join(member: M, source: string, nowMs: number): void {
    const { topicBurst: burst, topicMessagesPerSecond: perSecond } = this.#limits;
    const bucket = new TokenBucket({ burst, perSecond }, nowMs);
    this.#members.set(member, { source, topics: new Set(), bucket });
  }

  /** Lets somebody go. */
  leave(member: M): void {
    for (const topic of this.#members.get(member)?.topics ?? []) this.#remove(member, topic);
    this.#members.delete(member);
  }

  /** Whether a member may say something, whatever it is. */
  takes(member: M, nowMs: number): boolean {
    return this.#members.get(member)?.bucket.take(nowMs) ?? false;
  }

  /** Whether the member listens from now on. */
  subscribe(member: M, topic: string): boolean {
    const { source, topics } = this.#members.get(member) ?? {};
    if (topics === undefined || topics.size >= this.#limits.maxTopicsPerMember) {
      return topics?.has(topic) ?? false;
    }
    const inside = this.#topics.get(topic) ?? new Set();
    if (!inside.has(member) && !this.#hasRoom(inside, source)) return false;
    topics.add(topic);
    this.#topics.set(topic, inside.add(member));
    return true;
  }

  /** The member listens no more. */
  unsubscribe(member: M, topic: string): void {
    if (this.#members.get(member)?.topics.delete(topic)) this.#remove(member, topic);
  }

  /** Who hears what the member says; not the member. */
  listeners(member: M, topic: string): M[] {
    return [...this.#topics.get(topic) ?? []].filter((other) => other !== member);
  }

  #hasRoom(inside: ReadonlySet<M>, source: string | undefined): boolean {
    const { maxTopics, maxMembersPerTopic, maxMembersPerTopicAndSource } = this.#limits;
    if (inside.size === 0) return this.#topics.size < maxTopics;
    const kin = [...inside].filter((member) => this.#members.get(member)?.source === source);
    return inside.size < maxMembersPerTopic && kin.length < maxMembersPerTopicAndSource;
  }

  #remove(member: M, topic: string): void {
    const inside = this.#topics.get(topic);
    inside?.delete(member);
    if (inside?.size === 0) this.#topics.delete(topic);
  }
}

/** Whether the path of a URL is that of the topics, which is no room's. */
export function isTopicsPath(path: string): boolean {
  return path === TOPICS_PATH;
}

/** Where topics are; no room has a slash in its name. */
export const TOPICS_PATH = "/topics/1";

interface Member {
  readonly source: string;
  readonly topics: Set<string>;
  readonly bucket: TokenBucket;
}

/** Somebody who listens to topics, and says something under others. */
export class TopicSubscriber implements MessageHandler {
  readonly maxMessageBytes = TOPIC_HEADER_BYTES + MAX_SIGNAL_BYTES;
  readonly #client: ClientSocket;
  readonly #topics: RendezvousTopics<TopicSubscriber>;

  constructor(client: ClientSocket, topics: RendezvousTopics<TopicSubscriber>) {
    this.#client = client;
    this.#topics = topics;
  }

  enter(): void {
    this.#topics.join(this, this.#client.source, performance.now());
  }

  accept(message: Exclude<WebSocketMessage, { kind: "close" }>): "go-on" | "end" {
    if (!this.#topics.takes(this, performance.now())) return "end";
    if (message.kind !== "binary") return "go-on";
    const said = tryDecode(message.data);
    if (said === undefined) return "end"; // whoever does not keep to this is no client of ours
    if (said.kind === "unsubscribe") this.#topics.unsubscribe(this, said.topic);
    if (said.kind === "publish") {
      for (const listener of this.#topics.listeners(this, said.topic)) {
        listener.#client.send("binary", message.data);
      }
    }
    if (said.kind === "subscribe") {
      const kind = this.#topics.subscribe(this, said.topic) ? "subscribe" : "unsubscribe";
      this.#client.send("binary", encodeTopicMessage({ kind, topic: said.topic }));
    }
    return "go-on";
  }

  leave(): void {
    this.#topics.leave(this);
  }
}

function tryDecode(bytes: Uint8Array): TopicMessage | undefined {
  try {
    return decodeTopicMessage(bytes);
  } catch (error) {
    if (error instanceof MalformedMessageError) return undefined;
    throw error;
  }
}
